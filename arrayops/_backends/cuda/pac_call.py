"""A pixel-adaptive call on the GPU: its plan, its arrays, and what the operator's own kernels need beforehand."""

from typing import Any

import cupy
import numpy as np

from arrayops._backends.cuda import memory, module
from arrayops._backends.cuda.launch import launch
from arrayops._backends.cuda.pac_plan import PacPlan, pac_plan
from arrayops._backends.cuda.plan import THREADS
from arrayops._core import precision
from arrayops._ops import images
from arrayops._ops.pac import PacParameters


class PacCall:
    """One call. ``output_mask`` is a result where the call has a mask."""

    def __init__(
        self,
        op: str,
        p: PacParameters,
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
        # These few numbers are read in their order, whatever the strides.
        options = tuple([None if array is None else memory.contiguous(array) for array in options])
        self.inv_alpha, self.inv_lambda, self.smooth = options
        arrays = samples, guide, weight, kernel, mask, *options
        fields = tuple([None if array is None else (array.shape, array.strides, array.dtype) for array in arrays])
        precise = precision.get_float32_precision() == "highest"
        self.plan: PacPlan = pac_plan(cupy.cuda.runtime.getDevice(), precise, op, p, fields)
        self.centre = self.divisor = self.output_mask = None
        if guide is not None and (self.plan.restricted or self.smooth is not None):
            self._prepare()
        # ``CALL_PARAMETERS`` of ``pac.cuh``, which every kernel of the call takes first.
        self.arguments = self._arguments()

    def _arguments(self) -> tuple[Any, ...]:
        return (
            self.plan.window,
            self.plan.layout,
            self.guide,
            self.inv_alpha,
            self.inv_lambda,
            self.mask,
            self.centre,
            self.divisor,
        )

    def _prepare(self) -> None:
        made = self.plan
        pixels = made.batch * made.output_size[0] * made.output_size[1]
        if made.smooth is not None:
            shape = (made.batch, made.guides, *made.output_size)
            centre = memory.empty(shape, made.accumulator)
            function = made.kernel("pac_kernel.cu", "pac_centre")
            sizes = [np.int32(size) for size in made.smooth]
            self._launch_flat(function, pixels * made.guides, (*self._arguments(), self.smooth, *sizes, centre))
            self.centre = centre
        if made.restricted:
            p = made.parameters
            divisor = memory.empty((made.batch, made.kernel_channels, *made.output_size), made.accumulator)
            if self.mask is not None:
                self.output_mask = memory.empty(images.image_shape(made.batch, 1, made.output_size, p.layout), "bool")
            function = made.kernel("pac_kernel.cu", "pac_divisor")
            count = pixels * made.kernel_channels
            self._launch_flat(function, count, (*self._arguments(), divisor, self.output_mask))
            self.divisor = divisor

    def _launch_flat(self, function: module.Kernel, count: int, arguments: tuple[Any, ...]) -> None:
        launch(function, (self.plan.blocks(count), 1, 1), (THREADS, 1, 1), arguments)

    def store_kernel(self, result: Any) -> None:
        """Write the adaptive kernel to ``result``, in the layout of the call."""
        last = (("CHANNELS_LAST", ""),) if self.plan.parameters.layout == "NHWC" else ()
        function = self.plan.kernel("pac_kernel.cu", "pac_kernel", *last)
        self._launch_flat(function, result.size, (*self.arguments, result))
