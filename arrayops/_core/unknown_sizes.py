"""Shapes of results where sizes of arrays are not known yet, as in a traced program.

The shape rule of an operator is asked as it is, with integers of a class of their own in place of unknown sizes. What
is computed from them is unknown again, and they are equal to everything, so that no check fails because of them.
"""

from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

from arrayops._core.op import Meta, Metas, Op

Shape = tuple[int | None, ...]

PROBES = (1, 2, 1000, 10**6)
"""Values of unknown sizes, which only comparisons see: where one decides, as in a smallest size, some disagree."""

FOREIGN = (10_007, 100_003)
"""Sizes that no other size of a call explains: a rule that refuses them takes the size from another array."""

SMALL, NEAR = 288, 16
"""Sizes that follow from other arrays are found by trying: all below ``SMALL``, and those up to ``NEAR`` from a size of
another array."""


class PartialMeta(NamedTuple):
    """Shape, with None for unknown sizes, and dtype name of an array."""

    shape: Shape
    dtype: str


PartialMetas = tuple[PartialMeta | None, ...]


class UnknownSize(int):
    """A size that is not known. It is printed as None, and not hashable, as caches must not take it for its value."""

    __hash__ = None  # type: ignore[assignment]

    def __eq__(self, other: object) -> bool:
        return True

    def __ne__(self, other: object) -> bool:
        return False

    def __repr__(self) -> str:
        return "None"

    __str__ = __repr__

    def __format__(self, specification: str) -> str:
        return "None"

    def __add__(self, other: int) -> "UnknownSize":
        return UnknownSize(int(self) + int(other))

    __radd__ = __add__

    def __sub__(self, other: int) -> "UnknownSize":
        return UnknownSize(int(self) - int(other))

    def __rsub__(self, other: int) -> "UnknownSize":
        return UnknownSize(int(other) - int(self))

    def __mul__(self, other: Any) -> "UnknownSize":
        return UnknownSize(int(int(self) * other))

    __rmul__ = __mul__

    def __floordiv__(self, other: int) -> "UnknownSize":
        return UnknownSize(int(self) // int(other))

    def __rfloordiv__(self, other: int) -> "UnknownSize":
        return UnknownSize(int(other) // (int(self) or 1))

    def __mod__(self, other: int) -> "UnknownSize":
        # False where a remainder is an error, and equal to any remainder that is asked for.
        return UnknownSize(0)

    __rmod__ = __mod__

    def __divmod__(self, other: int) -> tuple["UnknownSize", "UnknownSize"]:
        return self // other, self % other

    def __neg__(self) -> "UnknownSize":
        return UnknownSize(-int(self))

    def __floor__(self) -> "UnknownSize":
        return self

    __ceil__ = __trunc__ = __floor__


def infer_partially(op: Op, metas: PartialMetas, parameters: Any) -> PartialMetas:
    """`Op.infer` of arrays with unknown sizes: sizes of results are None unless the known sizes decide them.

    Raises
    ------
    TypeError, ValueError
        If the rule refuses the arrays whatever the unknown sizes are.
    """
    unknown = [
        (i, axis) for i, meta in enumerate(metas) if meta for axis, size in enumerate(meta.shape) if size is None
    ]
    if not unknown:
        return _partial(op.infer_cached(_filled(metas, 0), parameters))
    found = _accepted(op, (_filled(metas, probe) for probe in PROBES), parameters)
    if not found:
        # Raises its error.
        op.infer(_filled(metas, PROBES[-1]), parameters)
    results = _common(found)
    known = {size for meta in metas if meta for size in meta.shape if size is not None}
    candidates = sorted({size + step for size in known for step in range(-NEAR, NEAR + 1)}.union(range(SMALL)))
    for i, axis in unknown:
        if all(_is_complete(result) for result in results):
            break

        def calls(sizes: Iterable[int], i: int = i, axis: int = axis) -> Iterator[Metas]:
            for size in sizes:
                given = _with(metas, i, axis, size)
                yield from (_filled(given, probe) for probe in (PROBES[0], PROBES[-1]))

        if not _accepted(op, calls(FOREIGN), parameters):
            found = _accepted(op, calls(size for size in candidates if size >= 0), parameters)
            if found:
                results = _merged(results, _common(found))
    return results


def _filled(metas: PartialMetas, value: int) -> Metas:
    return tuple(
        None
        if meta is None
        else Meta(tuple(UnknownSize(value) if size is None else size for size in meta.shape), meta.dtype)
        for meta in metas
    )


def _with(metas: PartialMetas, index: int, axis: int, size: int) -> PartialMetas:
    """``metas``, with a size of one array given."""
    meta = metas[index]
    assert meta is not None
    changed = meta._replace(shape=(*meta.shape[:axis], size, *meta.shape[axis + 1 :]))
    return (*metas[:index], changed, *metas[index + 1 :])


def _accepted(op: Op, calls: Iterable[Metas], parameters: Any) -> list[PartialMetas]:
    """Results of the calls that the rule accepts."""
    found: list[PartialMetas] = []
    for metas in calls:
        try:
            found.append(_partial(op.shape_rule(metas, parameters)))
        except (TypeError, ValueError):
            continue
    return found


def _partial(metas: Metas) -> PartialMetas:
    return tuple(
        None
        if meta is None
        else PartialMeta(tuple(None if isinstance(size, UnknownSize) else int(size) for size in meta.shape), meta.dtype)
        for meta in metas
    )


def _common(found: list[PartialMetas]) -> PartialMetas:
    """Results with the sizes that are the same in all of ``found``."""

    def combined(results: tuple[PartialMeta | None, ...]) -> Iterator[int | None]:
        shapes = [result.shape for result in results if result is not None]
        for sizes in zip(*shapes, strict=True):
            yield sizes[0] if len(set(sizes)) == 1 else None

    return tuple(
        None if results[0] is None else results[0]._replace(shape=tuple(combined(results)))
        for results in zip(*found, strict=True)
    )


def _merged(results: PartialMetas, others: PartialMetas) -> PartialMetas:
    """``results``, with sizes that only ``others`` know."""
    return tuple(
        result
        if result is None or other is None
        else result._replace(shape=tuple(b if a is None else a for a, b in zip(result.shape, other.shape, strict=True)))
        for result, other in zip(results, others, strict=True)
    )


def _is_complete(result: PartialMeta | None) -> bool:
    return result is None or None not in result.shape
