"""Complete, valid calls of resize2d and merge_feature_maps, drawn by hypothesis or named."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import hypothesis.strategies as st
import numpy as np

from case import Case
from strategies import DTYPES, MEMORY, in_memory, normal, to_layout

OPERATORS = ("resize2d", "merge_feature_maps")
HOWS = ("concat", "add", "mean", "max", "flat")

# Mode, coordinates and antialias that go together.
SAMPLINGS: tuple[dict[str, Any], ...] = (
    *({"mode": "nearest", "coordinates": c} for c in ("half_pixel", "align_corners", "asymmetric")),
    *(
        {"mode": mode, "coordinates": c, "antialias": antialias}
        for mode in ("bilinear", "bicubic")
        for c in ("half_pixel", "align_corners", "asymmetric")
        for antialias in (False, True)
    ),
    {"mode": "area", "coordinates": "half_pixel"},
)


def maps_of(case: Case) -> list[np.ndarray]:
    """The maps of a call; resize2d has one."""
    return [case.arrays["input"]] if case.operator == "resize2d" else case.arrays["maps"]


def make(operator: str, maps: Iterable[np.ndarray], options: dict[str, Any], dtype: Any, seed: int = 0) -> Case:
    maps = list(maps)
    if operator == "resize2d":
        (image,) = maps
        return Case(operator, {"input": image}, options, np.dtype(dtype), seed)
    return Case(operator, {"maps": maps}, options, np.dtype(dtype), seed)


def with_maps(case: Case, *maps: np.ndarray) -> Case:
    return make(case.operator, maps, case.options, case.dtype, case.seed)


def gradients(case: Case, module: Any, grad: Any, **extra: Any) -> list[Any]:
    """Gradients of the maps, of the library or of the oracle."""
    found = case.backward(module, grad, **extra)
    if isinstance(found, tuple):
        assert found._fields == (("input",) if case.operator == "resize2d" else ("maps",))
        found = found[0]
    if found is not None and case.operator == "merge_feature_maps":
        assert type(found) is list
        return found
    return [found]


def magnitude(case: Case, module: Any) -> Any:
    """The result for absolute values: the size of what the call sums up."""
    return with_maps(case, *(np.abs(x.astype(np.float64)) for x in maps_of(case))).call(module)


def build(
    operator: str,
    sizes: Any,
    *,
    dtype: Any = np.float64,
    layout: str = "NCHW",
    batch: int = 2,
    channels: Any = 3,
    seed: int = 0,
    **options: Any,
) -> Case:
    """A call with random maps of these sizes; `channels` is a number, or one a map."""
    rng = np.random.default_rng(seed)
    each = [channels] * len(sizes) if isinstance(channels, int) else channels
    maps = [normal(rng, (batch, c, *size), dtype) + np.asarray(0.5, dtype) for c, size in zip(each, sizes, strict=True)]
    if layout != "NCHW":
        options["layout"] = layout
    return make(operator, [to_layout("map", x, layout) for x in maps], options, dtype, seed)


@st.composite
def merges(
    draw: st.DrawFn, operator: str, dtypes: tuple[Any, ...] = DTYPES, zero: str = "", memory: bool = True
) -> Case:
    """A complete call; `zero` names what has size 0: batch or channels."""
    seed = draw(st.integers(0, 2**32 - 1))
    rng = np.random.default_rng(seed)
    dtype = draw(st.sampled_from(dtypes))
    layout = draw(st.sampled_from(("NCHW", "NHWC")))
    count = 1 if operator == "resize2d" else draw(st.integers(1, 4))
    sizes = [(draw(st.integers(1, 9)), draw(st.integers(1, 9))) for _ in range(count)]
    options: dict[str, Any] = dict(draw(st.sampled_from(SAMPLINGS)))
    if not options.get("antialias", True) and draw(st.booleans()):
        del options["antialias"]
    if layout == "NHWC" or draw(st.booleans()):
        options["layout"] = layout
    target = draw(st.integers(1, 12)), draw(st.integers(1, 12))
    how = "concat"
    if operator == "resize2d":
        form = draw(st.sampled_from(("size", "int", "scale", "scales")))
        if form == "size":
            options["size"] = target
        elif form == "int":
            options["size"] = target[0]
        else:
            factors = tuple(draw(st.sampled_from((0.5, 1, 1.3, 2.0, 3.7))) for _ in range(2))
            least = min(sizes[0]) == 1
            factors = tuple(max(f, 1) if least else f for f in factors)
            options["scale"] = factors if form == "scales" else factors[0]
    else:
        how = draw(st.sampled_from(HOWS))
        options["how"] = how
        if how == "flat":
            positions = sum(h * w for h, w in sizes)
            options["size"] = (-(-positions // target[1]) + draw(st.integers(0, 2)), target[1])
        else:
            options["size"] = draw(st.sampled_from(("largest", "smallest", target, target[0])))
            if options["size"] == "largest" and draw(st.booleans()):
                del options["size"]
    common = 0 if zero == "channels" else draw(st.integers(1, 4))
    maps = []
    for size in sizes:
        channels = draw(st.integers(0 if zero == "channels" else 1, 4)) if how == "concat" else common
        array = normal(rng, (0 if zero == "batch" else draw(st.just(2)), channels, *size), dtype)
        form = draw(st.sampled_from(MEMORY)) if memory else "contiguous"
        maps.append(in_memory(to_layout("map", array, layout), form))
    return make(operator, maps, options, dtype, seed)
