"""A pixel-adaptive call on the GPU: its plan, its arrays, and arrays computed before its kernels."""

from typing import Any, NamedTuple

import cupy
import numpy as np

from arrayops._backends.cuda.engine import memory, module
from arrayops._backends.cuda.engine.device import THREADS
from arrayops._backends.cuda.engine.launch import launch
from arrayops._backends.cuda.pac.plan import PacPlan, pac_plan
from arrayops._core import precision
from arrayops._ops import images
from arrayops._ops.pac import PacParameters


class PreparedArrays(NamedTuple):
    """Arrays that kernels of the call need, None if they do not: see ``pac_kernel.cu``."""

    centre: Any
    divisor: Any
    output_mask: Any


class PacCall:
    """Plan and arrays of one call."""

    def __init__(
        self,
        op: str,
        parameters: PacParameters,
        *,
        guide: Any,
        mask: Any,
        options: tuple[Any, ...],
        samples: Any = None,
        weight: Any = None,
        bias: Any = None,
        kernel: Any = None,
    ) -> None:
        self.samples, self.weight, self.bias, self.mask = samples, weight, bias, mask
        self.guide = guide if kernel is None else kernel
        # Small arrays, which kernels read as contiguous.
        options = tuple([None if array is None else memory.contiguous(array) for array in options])
        self.inv_alpha, self.inv_lambda, self.smooth = options
        arrays = samples, guide, weight, kernel, mask, *options
        fields = tuple([None if array is None else (array.shape, array.strides, array.dtype) for array in arrays])
        precise = precision.get_float32_precision() == "highest"
        self.plan: PacPlan = pac_plan(cupy.cuda.runtime.getDevice(), precise, op, parameters, fields)
        self._prepared: PreparedArrays | None = None

    @property
    def arguments(self) -> tuple[Any, ...]:
        """``CALL_PARAMETERS`` of ``pac.cuh``, the leading arguments of every kernel of the call."""
        centre, divisor, _ = self._prepared or self._prepare()
        return self._arguments(centre, divisor)

    @property
    def output_mask(self) -> Any:
        """Which outputs have at least one valid tap, if the call has a mask; else None."""
        return (self._prepared or self._prepare()).output_mask

    def _arguments(self, centre: Any, divisor: Any) -> tuple[Any, ...]:
        plan = self.plan
        return plan.window, plan.layout, self.guide, self.inv_alpha, self.inv_lambda, self.mask, centre, divisor

    def _prepare(self) -> PreparedArrays:
        """Compute the arrays on first use: some gradients, such as that of a bias, do not need them."""
        plan = self.plan
        pixels = plan.batch * plan.output_size[0] * plan.output_size[1]
        centre = divisor = output_mask = None
        if plan.smooth is not None:
            centre = memory.empty((plan.batch, plan.guides, *plan.output_size), plan.accumulator)
            function = plan.kernel("pac_kernel.cu", "pac_centre")
            sizes = [np.int32(size) for size in plan.smooth]
            arguments = (*self._arguments(None, None), self.smooth, *sizes, centre)
            self._launch_flat(function, pixels * plan.guides, arguments)
        if plan.has_divisor:
            divisor = memory.empty((plan.batch, plan.kernel_channels, *plan.output_size), plan.accumulator)
            if self.mask is not None:
                shape = images.image_shape(plan.batch, 1, plan.output_size, plan.parameters.layout)
                output_mask = memory.empty(shape, "bool")
            function = plan.kernel("pac_kernel.cu", "pac_divisor")
            arguments = (*self._arguments(centre, None), divisor, output_mask)
            self._launch_flat(function, pixels * plan.kernel_channels, arguments)
        self._prepared = PreparedArrays(centre, divisor, output_mask)
        return self._prepared

    def _launch_flat(self, function: module.Kernel, count: int, arguments: tuple[Any, ...]) -> None:
        launch(function, (self.plan.blocks(count), 1, 1), (THREADS, 1, 1), arguments)

    def store_kernel(self, result: Any) -> None:
        """Write the adaptive kernel to ``result``, in the layout of the call."""
        last = (("CHANNELS_LAST", ""),) if self.plan.parameters.layout == "NHWC" else ()
        function = self.plan.kernel("pac_kernel.cu", "pac_kernel", *last)
        self._launch_flat(function, result.size, (*self.arguments, result))
