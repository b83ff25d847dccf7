"""Tables of tests in which every two levels of different factors meet at least once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import Any


def pairwise(factors: Mapping[str, Sequence[Any]]) -> list[dict[str, Any]]:
    """Rows with a level for each factor. The same factors always give the same rows.

    Each row starts from the first pair that has not met yet; its other factors take the levels that bring together the
    most new pairs, and of equals those that were used least.
    """
    names = list(factors)
    sizes = [len(factors[name]) for name in names]
    missing = {
        (a, i, b, j): None
        for a, b in combinations(range(len(names)), 2)
        for i in range(sizes[a])
        for j in range(sizes[b])
    }
    used = [[0] * size for size in sizes]
    rows = []

    def meet(a: int, i: int, b: int, j: int) -> tuple[int, int, int, int]:
        return (a, i, b, j) if a < b else (b, j, a, i)

    while missing:
        a, i, b, j = next(iter(missing))
        row = {a: i, b: j}
        for factor in range(len(names)):
            if factor not in row:
                taken = tuple(row.items())

                def worth(level: int, factor: int = factor, taken: Any = taken) -> tuple[int, int]:
                    new = sum(meet(factor, level, *other) in missing for other in taken)
                    return new, -used[factor][level]

                row[factor] = max(range(sizes[factor]), key=worth)
        for one, other in combinations(sorted(row.items()), 2):
            missing.pop((*one, *other), None)
        for factor, level in row.items():
            used[factor][level] += 1
        rows.append({name: factors[name][row[number]] for number, name in enumerate(names)})
    return rows
