"""What a call on small arrays costs on a GPU, on torch tensors and on CuPy arrays: the column "Python us".

Beside it torch's own operator of the kind, where there is one. `cuda_overhead.py` measures the same without a GPU, and
without launches. From a checkout, on a machine with a GPU, torch and CuPy::

    PYTHONPATH=. python tests/benchmarks/calls_cuda.py
"""

import sys
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import torch
from torch.nn import functional

import arrayops as ao
from gpu_harness import Comparison, Place, Row, main

SETS = 2
RANK = 19

Call = Callable[..., Any]


def same(array: Any) -> Any:
    """For torch tensors."""
    return array


def to_cupy(tensor: torch.Tensor) -> Any:
    """The same memory."""
    import cupy

    return cupy.from_dlpack(tensor)


def to_torch(result: Any) -> Any:
    """Arrays of a result as tensors."""
    if isinstance(result, tuple):
        return [to_torch(each) for each in result if each is not None]
    return result if isinstance(result, torch.Tensor) else torch.from_dlpack(result)


def make(place: Place, name: str, convert: Call) -> Comparison:
    """One call; ``found`` is compared with the CPU."""
    torch.manual_seed(1)
    x, weight, bias = place.normal(2, 16, 32, 32), place.normal(16, 16, 3, 3), place.normal(16)
    labels = torch.arange(1024, device=place.device, dtype=torch.int32).view(1, 32, 32).expand(2, 32, 32) // 4
    arrays: dict[str, Any] = {"x": x, "w": weight, "b": bias, "labels": labels.contiguous()}
    calls: dict[str, tuple[Call, Call | None]] = {
        "pac_conv2d": (lambda x, w, b, **_: ao.pac_conv2d(x, x, w, b, padding=1), None),
        "pac_conv2d_backward": (lambda x, w, b, **_: ao.pac_conv2d_backward(x, x, x, w, b, padding=1), None),
        "conv2d": (
            lambda x, w, b, **_: ao.conv2d(x, w, b, padding=1),
            lambda x, w, b, **_: functional.conv2d(x, w, b, padding=1),
        ),
        "pac_pool2d": (lambda x, **_: ao.pac_pool2d(x, x, 3, padding=1), None),
        "segment_mean": (lambda x, labels, **_: ao.segment_mean(x, labels, 256), None),
        "resize2d": (
            lambda x, **_: ao.resize2d(x, (48, 48)),
            lambda x, **_: functional.interpolate(x, (48, 48), mode="bilinear"),
        ),
    }
    ours, theirs = calls[name]
    given = {key: convert(value) for key, value in arrays.items()}
    rivals: dict[str, Callable[[int], Any]] = {"arrayops": lambda _: ours(**given)}
    if theirs is not None:
        rivals["torch"] = lambda _: theirs(**arrays)

    def found() -> list[Any]:
        result = to_torch(ours(**given))
        return result if isinstance(result, list) else [result]

    def expected() -> list[Any]:
        result = ours(**{key: value.cpu().numpy() for key, value in arrays.items()})
        wanted = [
            torch.from_numpy(each) for each in (result if isinstance(result, tuple) else [result]) if each is not None
        ]
        return [each.to(place.device) for each in wanted]

    return Comparison(rivals, SETS, found, expected, 0.0, 4.0 * x.numel())


def rows() -> Iterator[Row]:
    """Each call on torch's tensors, then on CuPy's arrays."""
    for framework, convert in (("torch", same), ("cupy", to_cupy)):
        for name in ("pac_conv2d", "pac_conv2d_backward", "conv2d", "pac_pool2d", "segment_mean", "resize2d"):
            text = f"call {name} on {framework}"
            yield Row(text, RANK, torch.float32, partial(make, name=name, convert=convert))


if __name__ == "__main__":
    sys.exit(main("Calls on small arrays on a GPU", rows))
