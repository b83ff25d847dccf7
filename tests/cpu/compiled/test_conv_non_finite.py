"""A value that is not finite reaches the results whose formula reads it, and no others.

Which those are is what torch computes in float64 of arrays that are 1 at the value, or everywhere, and 0 elsewhere.
Padding is read as well: what a value only meets padding in may be not finite.
"""

import numpy as np
import pytest

import arrayops as ao
import compiled_calls
from case import Case
from oracles import conv, pac
from strategies import FLOAT32
from tolerances import BFLOAT16

CALLS = [*compiled_calls.CALLS, *compiled_calls.LARGE_CALLS]
SPOILED = {"sample": "input", "weight": "weight", "gradient": "grad"}


class Masks:
    """Results that read one place of the input, the weight or the gradient of the output."""

    def __init__(self, case: Case, shape: tuple[int, ...]) -> None:
        self.case = case
        self.shapes = {**{name: array.shape for name, array in case.arrays.items()}, "grad": shape}
        self.transposed = case.operator == "conv_transpose2d"

    def results(self, ones: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Whether output and gradients are other than 0 of these arrays, and 1 everywhere else."""
        arrays = {name: ones.get(name, np.ones(shape)) for name, shape in self.shapes.items()}
        grad = arrays.pop("grad")
        found = conv.backward(self.case.operator, arrays, self.case.options, grad)
        output = conv.Call(self.case.operator, {**arrays, "bias": None}, self.case.options).forward()
        return {name: array != 0 for name, array in {"output": output, **found}.items()}

    def reads(self, name: str, place: tuple[int, ...]) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
        """Results that read it with a sample, and those that may read it with padding."""
        one = np.zeros(self.shapes[name])
        one[place] = 1
        none = {result: np.zeros(shape, bool) for result, shape in self.shapes.items() if result != "grad"}
        none["output"] = np.zeros(self.shapes["grad"], bool)
        read = self.results({name: one})
        given = {"input": ("output", "weight"), "weight": ("output", "input"), "grad": ("input", "weight", "bias")}[
            name
        ]
        must = {**none, **{result: read[result] for result in given}}
        may = {result: mask.copy() for result, mask in must.items()}
        # Windows of the input hold padding, those of a transposed convolution in its gradients.
        if name == ("input" if self.transposed else "grad"):
            may["weight"] |= self.filters(may["weight"])
        if name == "weight":
            may["output"] |= self.images(may["output"], place, gaps=self.transposed)
            may["input"] |= self.images(may["input"], place, gaps=not self.transposed)
        return must, may

    @property
    def nhwc(self) -> bool:
        return self.case.options.get("layout") == "NHWC"

    def filters(self, mask: np.ndarray) -> np.ndarray:
        """All taps of the filters that have one in the mask."""
        taps = (0, 1) if self.nhwc else (2, 3)
        return np.broadcast_to(mask.any(axis=taps, keepdims=True), mask.shape)

    def images(self, mask: np.ndarray, place: tuple[int, ...], gaps: bool) -> np.ndarray:
        """The channels of the mask; with ``gaps``, those of their pixels that the tap at ``place`` steps on."""
        options, size = self.case.options, mask.shape[1:3] if self.nhwc else mask.shape[2:]
        kernel = self.shapes["weight"][:2] if self.nhwc else self.shapes["weight"][2:]
        tap = place[:2] if self.nhwc else place[2:]
        keywords = {key: options.get(key, 1) for key in ("stride", "dilation")}
        keywords |= {key: options.get(key, 0) for key in ("padding", "output_padding")}
        image = self.shapes["input"][1:3] if self.nhwc else self.shapes["input"][2:]
        axes = pac.axes(self.transposed, kernel, input_size=image, **keywords)
        inside = [
            (np.arange(length) + axis.front - number * axis.dilation) % axis.stride == 0
            for axis, length, number in zip(axes, size, tap, strict=True)
        ]
        windows = inside[0][:, None] & inside[1] if gaps else np.ones(size, bool)
        channels = mask.any(axis=(0, 1, 2) if self.nhwc else (0, 2, 3))
        return windows[..., None] & channels if self.nhwc else windows & channels[:, None, None]


def places(shape: tuple[int, ...]) -> list[tuple[int, ...]]:
    """The first, the last and some others."""
    random = np.random.default_rng(5)
    others = [tuple(int(random.integers(length)) for length in shape) for _ in range(2)]
    return [(0,) * len(shape), tuple(length - 1 for length in shape), *others]


@pytest.mark.parametrize("dtype", [FLOAT32, pytest.param(BFLOAT16, marks=pytest.mark.slow)], ids=str)
@pytest.mark.parametrize("spoiled", SPOILED)
@pytest.mark.parametrize("name", CALLS)
def test_reaches_what_reads_it(name: str, spoiled: str, dtype: np.dtype) -> None:
    case = compiled_calls.call(name, dtype)
    shape = case.call(ao).shape
    masks, key = Masks(case, shape), SPOILED[spoiled]
    for number, place in enumerate(places(masks.shapes[key])):
        arrays = {**case.arrays, "grad": case.grad(shape)}
        arrays[key] = arrays[key].copy()
        arrays[key][place] = (np.nan, np.inf, -np.inf, np.nan)[number]
        grad = arrays.pop("grad")
        broken = case.replace(**arrays)
        with np.errstate(invalid="ignore"):
            found = {"output": broken.call(ao), **broken.backward(ao, grad)._asdict()}
        must, may = masks.reads(key, place)
        for result, array in found.items():
            reached = ~np.isfinite(array.astype(np.float64))
            assert not (must[result] & ~reached).any(), (result, place, "not reached")
            assert not (reached & ~may[result]).any(), (result, place, "reached")
