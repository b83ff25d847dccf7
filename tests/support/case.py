"""A call of a convolution, a PAC operator, resize2d or merge_feature_maps, as tests draw, name and change it."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

# Arguments that are given by position.
POSITIONAL = {
    "pac_kernel2d": ("guide", "kernel_size"),
    "pac_conv2d": ("input", "guide", "weight", "bias"),
    "pac_conv_transpose2d": ("input", "guide", "weight", "bias"),
    "pac_pool2d": ("input", "guide", "kernel_size"),
    "conv2d": ("input", "weight", "bias"),
    "conv_transpose2d": ("input", "weight", "bias"),
    "resize2d": ("input",),
    "merge_feature_maps": ("maps",),
}
GRADIENTS = {
    "pac_kernel2d": ("guide", "inv_alpha", "inv_lambda", "smooth_kernel"),
    "pac_conv2d": ("input", "guide", "weight", "bias", "kernel", "inv_alpha", "inv_lambda", "smooth_kernel"),
    "pac_conv_transpose2d": ("input", "guide", "weight", "bias", "kernel", "inv_alpha", "inv_lambda", "smooth_kernel"),
    "pac_pool2d": ("input", "guide", "kernel", "inv_alpha", "inv_lambda", "smooth_kernel"),
    "conv2d": ("input", "weight", "bias"),
    "conv_transpose2d": ("input", "weight", "bias"),
    "resize2d": ("input",),
    "merge_feature_maps": ("maps",),
}


@dataclasses.dataclass
class Case:
    """One valid call of an operator.

    `arrays` holds the differentiable ones, None where absent; an argument of any number of arrays is a list of them.
    """

    operator: str
    arrays: dict[str, Any]
    options: dict[str, Any]
    dtype: np.dtype  # of the input, or of the guide for pac_kernel2d: the result's
    seed: int = 0

    def __repr__(self) -> str:
        def show(value: Any) -> str:
            if isinstance(value, list):
                return f"[{', '.join(map(show, value))}]"
            return f"{value.dtype}{value.shape}" if isinstance(value, np.ndarray) else repr(value)

        given = {k: v for k, v in {**self.arrays, **self.options}.items() if v is not None}
        return f"{self.operator}({', '.join(f'{k}={show(v)}' for k, v in given.items())}), seed {self.seed}"

    def _repr_pretty_(self, printer: Any, cycle: bool) -> None:
        printer.text(repr(self))  # hypothesis would print every array in full

    def arguments(self) -> tuple[list[Any], dict[str, Any]]:
        everything = {**self.arrays, **self.options}
        positional = [everything.pop(name) for name in POSITIONAL[self.operator]]
        # Absent optional arrays are left out, so that the defaults are tested too.
        return positional, {k: v for k, v in everything.items() if v is not None}

    def call(self, module: Any) -> Any:
        positional, keywords = self.arguments()
        return getattr(module, self.operator)(*positional, **keywords)

    def backward(self, module: Any, grad_output: Any, **extra: Any) -> Any:
        positional, keywords = self.arguments()
        return getattr(module, self.operator + "_backward")(grad_output, *positional, **keywords, **extra)

    def replace(self, **arrays: Any) -> Case:
        return dataclasses.replace(self, arrays={**self.arrays, **arrays})

    def grad(self, shape: tuple[int, ...]) -> np.ndarray:
        """A gradient of the output, of mean 1, so that sums over all outputs (bias, inv_alpha) do not cancel."""
        return (1 + np.random.default_rng(self.seed + 1).standard_normal(shape)).astype(self.dtype)

    @property
    def present(self) -> list[str]:
        return [name for name in GRADIENTS[self.operator] if self.arrays.get(name) is not None]
