"""torch.autocast: floating-point arguments are cast to its dtype, as torch casts those of its convolutions."""

from typing import Any

import torch

from arrayops._core.op import Op


def autocast(op: Op, arrays: tuple[Any, ...]) -> tuple[Any, ...]:
    """The arrays of a forward call, cast if autocast is enabled for their device; float64 stays.

    The casts are ordinary, differentiable operations, so that float32 parameters get float32 gradients. Backward calls
    use the dtypes of their forward.
    """
    if op.forward is not None:
        return arrays
    for array in arrays:
        if isinstance(array, torch.Tensor):
            device = array.device.type
            if not torch.is_autocast_enabled(device):
                return arrays
            dtype = torch.get_autocast_dtype(device)
            return tuple([_cast(each, device, dtype) for each in arrays])
    return arrays


def _cast(array: Any, device: str, dtype: torch.dtype) -> Any:
    if not isinstance(array, torch.Tensor) or not array.is_floating_point() or array.device.type != device:
        return array
    return array if array.dtype is torch.float64 else array.to(dtype)
