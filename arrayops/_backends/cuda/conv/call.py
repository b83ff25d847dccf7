"""A convolution on the GPU: its plan and its arrays."""

from functools import lru_cache
from typing import Any

import cupy

from arrayops._backends.cuda.engine import device, structures
from arrayops._backends.cuda.engine.structures import ArrayView, view
from arrayops._backends.cuda.window import plan
from arrayops._backends.cuda.window.plan import WindowPlan
from arrayops._core import precision
from arrayops._ops import images
from arrayops._ops.conv import ConvParameters


class ConvCall:
    """Plan and arrays of one call."""

    def __init__(self, op: str, parameters: ConvParameters, samples: Any, weight: Any) -> None:
        self.samples, self.weight = samples, weight
        precise = precision.get_float32_precision() == "highest"
        self.plan: WindowPlan = conv_plan(
            cupy.cuda.runtime.getDevice(), precise, op, parameters, view(samples), view(weight)
        )
        # ``CALL_PARAMETERS`` of ``pac.cuh`` with PLAIN.
        self.arguments = (self.plan.window,)


@lru_cache(maxsize=256)
def conv_plan(
    number: int, precise: bool, op: str, parameters: ConvParameters, samples: ArrayView, weight: ArrayView
) -> WindowPlan:
    """The plan of the operator ``op`` for arrays with the given views, on GPU ``number``.

    ``precise`` is True if float32 products must not be rounded to TF32.
    """
    kernel_size = images.weight_extents(weight.shape, parameters).kernel_size
    batch, _, size = images.image(samples.shape, parameters.layout)
    axes = images.windows(op, parameters, kernel_size, size)
    return WindowPlan(
        op=op,
        parameters=parameters,
        axes=axes,
        kernel_size=kernel_size,
        batch=batch,
        samples=samples,
        weight=weight,
        dtype=samples.dtype,
        accumulator=plan.accumulator(samples.dtype),
        defines=(*plan.filter_defines(samples.dtype, kernel_size), ("PLAIN", "")),
        window=structures.window(axes, batch),
        gpu=device.properties(number),
        precise=precise,
        filters="grouped",
        adaptive=False,
        at_most_one=True,
    )
