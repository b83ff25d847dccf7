"""torch.func.vmap over an operator: one call with a larger batch where the shape rule allows, else one call a slice."""

from collections.abc import Callable, Sequence
from typing import Any

import torch

from arrayops._call.batching import batch_arrays
from arrayops._core.op import Op
from arrayops._frameworks.torch.autograd import or_none
from arrayops._frameworks.torch.dtypes import describe


def batched_call(
    op: Op,
    arrays: Sequence[Any],
    dims: Sequence[int | None],
    size: int,
    parameters: Any,
    compute: Callable[[Sequence[Any]], list[torch.Tensor]],
) -> list[torch.Tensor]:
    """Results of ``compute`` for each slice of the arrays, stacked along a new first axis.

    Parameters
    ----------
    op, arrays, parameters
        A call, whose arrays have an axis more if their entry in ``dims`` is not None.
    dims : sequence of int or None
        The axis of each array to map over.
    size : int
        Size of these axes.
    compute : callable
        Computes the results of one call from its arrays.
    """
    first = _slices(arrays, dims, 0)
    batched = {i for i, dim in enumerate(dims) if dim is not None}
    together = batch_arrays(op, tuple([None if array is None else describe(array) for array in first]), parameters)
    if batched <= together:
        results = compute([_folded(x, dims[i], size) if i in together else x for i, x in enumerate(arrays)])
        return [result if or_none(result) is None else _unfolded(result, size) for result in results]
    rows = [compute(_slices(arrays, dims, i)) for i in range(size)]
    return [torch.stack(column) for column in zip(*rows, strict=True)]


def _slices(arrays: Sequence[Any], dims: Sequence[int | None], index: int) -> list[Any]:
    return [
        array if array is None or dim is None else array.select(dim, index)
        for array, dim in zip(arrays, dims, strict=True)
    ]


def _folded(array: torch.Tensor, dim: int | None, size: int) -> torch.Tensor:
    stacked = array.expand(size, *array.shape) if dim is None else array.movedim(dim, 0)
    return stacked.flatten(0, 1)


def _unfolded(result: torch.Tensor, size: int) -> torch.Tensor:
    # Not by -1, which is ambiguous for a result without elements.
    return result.reshape(size, result.shape[0] // size, *result.shape[1:])
