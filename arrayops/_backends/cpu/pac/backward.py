"""Gradients of one call of a pixel-adaptive operator."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from arrayops._backends.cpu.conv.channel_sums import channel_sums
from arrayops._backends.cpu.engine.work import Work
from arrayops._backends.cpu.pac.call import Call
from arrayops._backends.cpu.pac.geometry import kernel_strides
from arrayops._backends.cpu.pac.gradient import FoundGradients, WantedGradients, gradient, rounding
from arrayops._backends.cpu.pac.weight_gradient import weight_gradient
from arrayops._backends.cpu.window.arrays import Array, image_strides
from arrayops._backends.numpy.layouts import channels_first, grouped_weight, shared_filter
from arrayops._backends.numpy.memory import as_result, empty, store, zeros
from arrayops._ops.pac import PacParameters

OPTIONS = ("inv_alpha", "inv_lambda", "smooth_kernel")
"""The last three arrays of every operator, which shape its adaptive kernel."""


@dataclass
class PacGradients:
    """Gradients of a call, None for those that are not made; those of the last three arrays are ``options``."""

    input: Array | None = None
    guide: Array | None = None
    weight: Array | None = None
    bias: Array | None = None
    kernel: Array | None = None
    options: tuple[Array | None, ...] = (None, None, None)


@dataclass
class PacArrays:
    """Arrays of a call for which gradients may be asked, as the caller gave them."""

    input: Array | None = None
    guide: Array | None = None
    weight: Array | None = None
    bias: Array | None = None
    kernel: Array | None = None
    options: Sequence[Array | None] = (None, None, None)


class Backward:
    """The gradients that are needed, from that of the output, or of the adaptive kernel."""

    def __init__(self, call: Call, p: PacParameters, grad: Array, needs: frozenset[str], arrays: PacArrays) -> None:
        self.geometry, self.operands = call.geometry, call.operands
        self.parameters, self.grad, self.arrays = p, grad, arrays
        self.needs = {name for name in needs if name in OPTIONS or getattr(arrays, name) is not None}
        self.options = [option if name in needs else None for name, option in zip(OPTIONS, arrays.options, strict=True)]
        rows, columns = self.geometry.axes
        self.without_outputs = self.geometry.images * rows.output * columns.output == 0
        self.shared = p.filters == "shared" and "weight" in self.needs
        self.found, self.work = PacGradients(), Work()

    def run(self) -> PacGradients:
        """Compute everything."""
        wants_options = any(option is not None for option in self.options)
        finish = None
        if self.shared or wants_options or self.needs & {"input", "guide", "kernel"}:
            finish = self._sums(wants_options)
        if "weight" in self.needs and not self.shared:
            self._weight()
        if "bias" in self.needs:
            self._bias()
        self.work.run()
        if finish is not None:
            finish()
        return self.found

    def _zeros(self, like: Array | None, wanted: bool) -> Array | None:
        return zeros(like.shape, self.geometry.accumulator) if wanted and like is not None else None

    def _sums(self, wants_options: bool) -> Callable[[], None]:
        """Gradients to which all windows add; what is returned stores the small ones, once they are computed."""
        arrays, found, layout = self.arrays, self.found, self.parameters.layout
        grad_input = self._zeros(arrays.input, "input" in self.needs)
        # Those of the options come with that of the guide.
        grad_guide = self._zeros(arrays.guide, "guide" in self.needs or wants_options)
        if arrays.kernel is not None and "kernel" in self.needs:
            found.kernel = zeros(arrays.kernel.shape, arrays.kernel.dtype)
        kernel = None if found.kernel is None else kernel_strides(found.kernel, layout)
        wanted = WantedGradients(
            input=None if grad_input is None else image_strides(grad_input, layout),
            guide=None if grad_guide is None else image_strides(grad_guide, layout),
            kernel=self.geometry.kernel if self.geometry.every_tap else kernel,
            kernel_wide=self.geometry.kernel_wide,
            sums=self.shared or wants_options,
        )
        plan = gradient(self.geometry, wanted)
        sums = np.zeros(plan.sum_count)
        if not self.without_outputs:
            tasks = plan.tasks(self.operands, self.grad, FoundGradients(grad_input, grad_guide, found.kernel, sums))
            self.work.add(tasks, 2 * plan.nanoseconds, plan)
        # Tasks know addresses alone.
        self.added = grad_input, grad_guide
        found.input = self._rounded(grad_input, arrays.input)
        if "guide" in self.needs:
            found.guide = self._rounded(grad_guide, arrays.guide)

        def finish() -> None:
            if self.shared and arrays.weight is not None:
                found.weight = empty(arrays.weight.shape, arrays.weight.dtype)
                target = shared_filter(found.weight, layout, self.parameters.transposed)
                store(target, sums[plan.filter].reshape(target.shape))
            totals = sums[plan.alphas], sums[plan.lambdas], sums[plan.smooth]
            found.options = tuple(
                None if like is None else as_result(total.sum() if like.size == 1 else total, like)
                for total, like in zip(totals, self.options, strict=True)
            )

        return finish

    def _rounded(self, sums: Array | None, like: Array | None) -> Array | None:
        """Sums in the dtype of an array, once the work is done."""
        if sums is None or like is None or sums.dtype == like.dtype:
            return sums
        result = empty(sums.shape, like.dtype)
        if result.size:
            self.work.add([rounding(sums, result)], sums.size)
        return result

    def _weight(self) -> None:
        weight, p = self.arrays.weight, self.parameters
        assert weight is not None
        self.found.weight = empty(weight.shape, weight.dtype)
        target = grouped_weight(self.found.weight, p.layout, p.transposed, p.groups)
        if self.without_outputs or target.size == 0:
            target[...] = np.zeros((), target.dtype)
            return
        plan = weight_gradient(self.geometry)
        self.work.add(plan.tasks(self.operands, self.grad, target), plan.nanoseconds, plan)

    def _bias(self) -> None:
        bias, grad = self.arrays.bias, self.grad
        assert bias is not None
        target = self.found.bias = empty(bias.shape, bias.dtype)
        if grad.size == 0:
            target[...] = np.zeros((), bias.dtype)
            return
        self.work.add(channel_sums(channels_first(grad, self.parameters.layout), target), grad.size / 4)
