"""Which arrays of a call carry the batch: a map over calls can then be one call with a larger batch."""

from itertools import combinations
from typing import Any

from arrayops._core.op import Meta, Metas, Op
from arrayops._core.opaque import cached_if_hashable

MORE_IMAGES = 7
"""By how many images the batch is enlarged to see what depends on it; any other number would do."""


@cached_if_hashable
def batch_arrays(op: Op, metas: Metas, parameters: Any) -> frozenset[int]:
    """Indices of the arrays whose first axis is the batch; empty if a result has no such axis.

    It follows from the shape rule alone: the batch is the first axis of a set of arrays if enlarging it enlarges the
    first axis of every result equally, and nothing else.
    """
    results = op.infer(metas, parameters)
    enlarged_results = tuple(map(_enlarged, results))
    if any(
        result is not None and (enlarged is None) for result, enlarged in zip(results, enlarged_results, strict=True)
    ):
        return frozenset()
    candidates = [i for i, meta in enumerate(metas) if meta is not None and meta.shape]
    for count in range(1, len(candidates) + 1):
        for chosen in combinations(candidates, count):
            enlarged = tuple(_enlarged(meta) if i in chosen else meta for i, meta in enumerate(metas))
            try:
                # Not infer: nobody reads these messages.
                if op.shape_rule(enlarged, parameters) == enlarged_results:
                    return frozenset(chosen)
            except (TypeError, ValueError):
                continue
    return frozenset()


def _enlarged(meta: Meta | None) -> Meta | None:
    """``meta`` with more images; None without a first axis."""
    return (
        meta._replace(shape=(meta.shape[0] + MORE_IMAGES, *meta.shape[1:])) if meta is not None and meta.shape else None
    )
