"""Calls that also return what they save for their backward."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from arrayops._call.dispatch import dispatch
from arrayops._core.op import Op


def dispatch_saving(op: Op, arrays: Sequence[Any], parameters: Any) -> tuple[tuple[Any, ...], tuple[Any, ...]]:
    """Results of a call, and for each name in ``op.saved`` its array, None if the call does not compute it."""
    if not op.saved:
        return dispatch(op, arrays, parameters), ()
    results = dispatch(op, arrays, parameters._replace(save=True))
    return results[: len(op.outputs)], results[len(op.outputs) :]
