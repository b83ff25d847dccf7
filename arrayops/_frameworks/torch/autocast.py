"""torch.autocast: floating-point arguments are cast to its dtype, as torch casts those of its convolutions.

Those whose small differences matter, guides, stay float32 as arguments of torch's exponentials do.
"""

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
            return _cast_all(op, arrays, device, dtype)
    return arrays


def _cast_all(op: Op, arrays: tuple[Any, ...], device: str, dtype: torch.dtype) -> tuple[Any, ...]:
    # The dtype of guides and their kind in this call.
    precise = None
    found = []
    for i, array in enumerate(arrays):
        wanted = dtype
        if op.arrays[min(i, len(op.arrays) - 1)].stays_float32 and isinstance(array, torch.Tensor):
            if precise is None:
                precise = torch.float32 if array.dtype is torch.float32 else dtype
            wanted = precise
        found.append(_cast(array, device, wanted))
    return tuple(found)


def _cast(array: Any, device: str, dtype: torch.dtype) -> Any:
    if not isinstance(array, torch.Tensor) or not array.is_floating_point() or array.device.type != device:
        return array
    return array if array.dtype is torch.float64 else array.to(dtype)
