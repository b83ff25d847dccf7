"""Records of the segment reductions: parameters, checks and shapes."""

from collections.abc import Callable, Collection, Iterable
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from arrayops._core import checks, dtypes
from arrayops._core.op import IMAGE, ArraySpec, Axes, Linearity, Meta, Metas, Op
from arrayops._core.shapes import as_int, is_integer

REDUCTIONS = ("mean", "sum", "max", "min", "var", "count")
DIFFERENTIABLE = REDUCTIONS[:-1]
POSITIONS = {"max": "max_positions", "min": "min_positions"}
"""Saved results of extremes: the flat pixel index of each value in its image, -1 for empty segments."""

SAVED = (*POSITIONS.values(), "counts", "means")
"""All saved results. Means are float64 for all features, as the bits of each in two int32: JAX without 64-bit numbers
would round them."""

INTEGER_REDUCTIONS = frozenset({"sum", "max", "min", "count"})

MAX_SEGMENTS = 2**31 - 2
"""Segment ids, and one more for ignored pixels, fit into 32 bits."""


class SegmentParameters(NamedTuple):
    """Parameters of every reduction, normalised; ``reductions`` are distinct, in the order of `REDUCTIONS`.

    With ``save``, the results named by `saved_by` are returned too.
    """

    reductions: tuple[str, ...]
    num_segments: int
    ignore_label: int | None
    empty: float
    check: bool | None
    layout: str
    save: bool = False


class UnpoolParameters(NamedTuple):
    """Parameters of ``segment_unpool``, normalised."""

    ignore_label: int | None
    fill: float
    check: bool | None
    layout: str


class LabelParameters(NamedTuple):
    """Parameters of ``num_segments``."""

    ignore_label: int | None


class FeatureShape(NamedTuple):
    """Shape of features: batch, channels and spatial size; ``flat`` features (P, C) count as one image."""

    batch: int
    channels: int
    size: tuple[int, ...]
    flat: bool

    @property
    def labels(self) -> tuple[int, ...]:
        """Shape of the labels."""
        return self.size if self.flat else (self.batch, *self.size)


def pixels(shape: tuple[int, ...], layout: str) -> FeatureShape:
    """Read the shape of features: 4 axes in ``layout``, or (P, C)."""
    if len(shape) == 2:
        return FeatureShape(1, shape[1], shape[:1], True)
    if layout == "NCHW":
        return FeatureShape(shape[0], shape[1], shape[2:], False)
    return FeatureShape(shape[0], shape[3], shape[1:3], False)


def pooled_shape(features: FeatureShape, segments: int, layout: str) -> tuple[int, ...]:
    """Shape of the pooled features."""
    if features.flat:
        return segments, features.channels
    inner = (features.channels, segments) if layout == "NCHW" else (segments, features.channels)
    return (features.batch, *inner)


def count_shape(features: FeatureShape, segments: int) -> tuple[int, ...]:
    """Shape of the numbers of pixels."""
    return (segments,) if features.flat else (features.batch, segments)


# --- parameters -----------------------------------------------------------------------------------


def segments(op: str, value: Any) -> int:
    """Check a number of segments."""
    if not is_integer(value):
        raise TypeError(f"{op}: num_segments is {value!r}, expected an integer or None")
    if not 0 <= value <= MAX_SEGMENTS:
        raise ValueError(f"{op}: num_segments is {value!r}, expected 0 to {MAX_SEGMENTS}")
    return as_int(value)


def ignored(op: str, value: Any) -> int | None:
    """Check the label of pixels that belong to no segment."""
    if value is None:
        return None
    if not is_integer(value):
        raise TypeError(f"{op}: ignore_label is {value!r}, expected an integer or None")
    return int(value)


def checking(op: str, value: Any) -> bool | None:
    """Check the keyword ``check``."""
    if value is None or isinstance(value, (bool, np.bool_)):
        return None if value is None else bool(value)
    raise TypeError(f"{op}: check is {value!r}, expected True, False or None")


def ordered(op: str, value: Any) -> tuple[str, ...]:
    """Check names of reductions; their order is kept."""
    expected = f"expected distinct names among {REDUCTIONS}"
    if isinstance(value, str) or not isinstance(value, Iterable):
        raise TypeError(f"{op}: reductions is {value!r}, {expected}")
    names = tuple(value)
    if not names or len(set(names)) < len(names) or not set(names) <= set(REDUCTIONS):
        raise ValueError(f"{op}: reductions is {value!r}, {expected}")
    return names


# --- shape rules ----------------------------------------------------------------------------------


def check_representable(op: str, name: str, value: float, dtype: str) -> None:
    """Check that a result of ``dtype`` can represent ``value``."""
    if dtype in dtypes.FLOATING:
        return
    if dtype == dtypes.BOOL:
        if value not in (0, 1):
            raise ValueError(f"{op}: {name} is {value!r}, expected 0 or 1 for a result of bool")
        return
    limits = np.iinfo(dtype)
    if value != value or value in (float("inf"), float("-inf")) or int(value) != value:
        raise ValueError(f"{op}: {name} is {value!r}, expected an integer value for a result of {dtype}")
    if not limits.min <= value <= limits.max:
        raise ValueError(f"{op}: {name} is {value!r}, expected {limits.min} to {limits.max} for a result of {dtype}")


def result_dtype(reduction: str, dtype: str) -> str:
    """Dtype of a reduction of features of ``dtype``."""
    if reduction == "count":
        return "int64"
    if reduction == "sum" and dtype in dtypes.INTEGER:
        return "uint64" if dtype.startswith("u") else "int64"
    return dtype


def check_labels(op: str, labels: Meta | None, expected: tuple[int, ...], whose: str) -> None:
    """Check that labels are integers, one per pixel."""
    if labels is None:
        raise TypeError(f"{op}: labels is None, expected an array")
    checks.integer(op, "labels", labels)
    checks.shape(op, "labels", labels, expected, f"as the pixels of the {whose}")


def bad_label(
    op: str, shape: tuple[int, ...], index: int, value: int, segments: int, ignore_label: int | None
) -> ValueError:
    """Error for the label at flat ``index`` of labels of ``shape``, which is out of range."""
    position = ", ".join(str(int(i)) for i in np.unravel_index(index, shape))
    expected = f"0 to {segments - 1}" if segments else "no label, for 0 segments"
    ignored = "" if ignore_label is None else f" or the ignore_label {ignore_label}"
    return ValueError(f"{op}: labels[{position}] is {value}, expected {expected}{ignored}")


def infer_reductions(op: str, metas: Metas, parameters: SegmentParameters) -> dict[str, Meta]:
    """Result metas of all requested reductions of features, by name."""
    features, labels = metas
    if features is None:
        raise TypeError(f"{op}: features is None, expected an array")
    if len(features.shape) not in (2, 4):
        raise ValueError(
            f"{op}: features is {features.shape}, expected 4 axes ({', '.join(parameters.layout)}), "
            "or 2 (P, C) without images"
        )
    if features.dtype not in dtypes.INTEGER:
        checks.floating(op, "features", features)
    for reduction in parameters.reductions:
        if features.dtype in dtypes.INTEGER and reduction not in INTEGER_REDUCTIONS:
            raise TypeError(
                f"{op}: features is {features.dtype}, expected float16, bfloat16, float32 or float64 for the "
                f"{reduction} of segments"
            )
    feature_shape = pixels(features.shape, parameters.layout)
    check_labels(op, labels, feature_shape.labels, "features")
    pooled = pooled_shape(feature_shape, parameters.num_segments, parameters.layout)
    results = {}
    for reduction in parameters.reductions:
        dtype = result_dtype(reduction, features.dtype)
        if reduction == "count":
            results[reduction] = Meta(count_shape(feature_shape, parameters.num_segments), dtype)
        else:
            check_representable(op, "empty", parameters.empty, dtype)
            results[reduction] = Meta(pooled, dtype)
    return results


def saved_by(reductions: Collection[str]) -> tuple[str, ...]:
    """Names of what a call with these reductions can save, in the order of `SAVED`."""
    users = {"max_positions": {"max"}, "min_positions": {"min"}, "counts": {"mean", "var"}, "means": {"var"}}
    return tuple(name for name in SAVED if not users[name].isdisjoint(reductions))


def infer_saved(results: dict[str, Meta], metas: Metas, parameters: SegmentParameters) -> dict[str, Meta]:
    """Shape rule of what a call saves."""
    features = metas[0]
    if not parameters.save or features is None:
        return {}
    extents = pixels(features.shape, parameters.layout)
    pooled = pooled_shape(extents, parameters.num_segments, parameters.layout)
    known = {
        "counts": Meta(count_shape(extents, parameters.num_segments), "int64"),
        "means": Meta((*pooled, 2), "int32"),
    }
    return {name: known.get(name, Meta(pooled, "int64")) for name in saved_by(parameters.reductions)}


def infer_single_reduction(op: str, metas: Metas, parameters: SegmentParameters) -> Metas:
    """Shape rule of an operator with one reduction of features."""
    results = infer_reductions(op, metas, parameters)
    return (*results.values(), *infer_saved(results, metas, parameters).values())


def infer_segment_reduce(metas: Metas, parameters: SegmentParameters) -> Metas:
    """Shape rule of several reductions: one result per reduction, None for those not requested."""
    results = infer_reductions("segment_reduce", metas, parameters)
    outputs = tuple(results.get(reduction) for reduction in REDUCTIONS)
    if not parameters.save:
        return outputs
    saved = infer_saved(results, metas, parameters)
    return outputs + tuple(saved.get(name) for name in SAVED)


def infer_segment_count(metas: Metas, parameters: SegmentParameters) -> Metas:
    """Shape rule of ``segment_count``."""
    (labels,) = metas
    check_labels_without_features("segment_count", labels)
    assert labels is not None
    return (
        Meta(
            (*labels.shape[:-2], parameters.num_segments) if len(labels.shape) == 3 else (parameters.num_segments,),
            "int64",
        ),
    )


def check_labels_without_features(op: str, labels: Meta | None) -> None:
    """Check that labels without features are integers, (N, H, W) or (P,)."""
    if labels is None:
        raise TypeError(f"{op}: labels is None, expected an array")
    checks.integer(op, "labels", labels)
    if len(labels.shape) not in (1, 3):
        raise ValueError(f"{op}: labels is {labels.shape}, expected 3 axes (N, H, W), or 1 (P) without images")


def infer_segment_unpool(metas: Metas, parameters: UnpoolParameters) -> Metas:
    """Shape rule of ``segment_unpool``."""
    op = "segment_unpool"
    pooled, labels = metas
    check_labels_without_features(op, labels)
    assert labels is not None
    if pooled is None:
        raise TypeError(f"{op}: pooled is None, expected an array")
    if pooled.dtype not in (dtypes.INTEGER | dtypes.FLOATING | {dtypes.BOOL}):
        raise TypeError(f"{op}: pooled is {pooled.dtype}, expected a floating-point or integer dtype, or bool")
    if len(labels.shape) == 1:
        checks.axes(op, "pooled", pooled, "S C")
    else:
        checks.axes(op, "pooled", pooled, "N C S" if parameters.layout == "NCHW" else "N S C")
        if pooled.shape[0] != labels.shape[0]:
            raise ValueError(
                f"{op}: pooled is {pooled.shape}, expected {labels.shape[0]} images as the labels {labels.shape}"
            )
    check_representable(op, "fill", parameters.fill, pooled.dtype)
    return (Meta(unpooled_shape(pooled.shape, labels.shape, parameters.layout), pooled.dtype),)


def pooled_segments(shape: tuple[int, ...], layout: str) -> int:
    """Number of segments of pooled features."""
    return shape[2] if len(shape) == 3 and layout == "NCHW" else shape[-2]


def unpooled_shape(pooled: tuple[int, ...], labels: tuple[int, ...], layout: str) -> tuple[int, ...]:
    """Shape of pooled features gathered to the pixels of labels."""
    if len(labels) == 1:
        return (*labels, pooled[1])
    batch, *size = labels
    return (batch, pooled[1], *size) if layout == "NCHW" else (batch, *size, pooled[2])


def infer_num_segments(metas: Metas, parameters: LabelParameters) -> Metas:
    """Shape rule of ``num_segments``."""
    check_labels_without_features("num_segments", metas[0])
    return (Meta((), "int64"),)


POOLED = Axes("NCS", "NSC")
AXES = {"count": None, "counts": None, "means": Axes("NCSb", "NSCb")}
"""Axes of results that are not `POOLED`."""
LABELS = ArraySpec("labels", kind="label", differentiable=False)
LINEAR_REDUCTIONS = frozenset({"mean", "sum", "count"})


def record(
    name: str,
    infer: Callable[[Metas, Any], Metas],
    outputs: tuple[str, ...] = ("output",),
    differentiable_outputs: tuple[str, ...] = ("output",),
    saved: tuple[str, ...] = (),
) -> Op:
    """The record of reductions of features."""
    return Op(
        name,
        "segment",
        (ArraySpec("features", axes=IMAGE), LABELS),
        SegmentParameters,
        infer,
        outputs,
        differentiable_outputs,
        saved=saved,
        result_axes=tuple(AXES.get(result, POOLED) for result in outputs + saved),
        linearity=Linearity(
            ("features",),
            homogeneous=(("empty", 0),),
            holds=lambda parameters: LINEAR_REDUCTIONS.issuperset(parameters.reductions),
        ),
    )


def single_reduction(name: str) -> Op:
    """The record of an operator with one reduction of features."""
    return record(name, partial(infer_single_reduction, name), saved=saved_by((name.removeprefix("segment_"),)))


SEGMENT_MEAN = single_reduction("segment_mean")
SEGMENT_SUM = single_reduction("segment_sum")
SEGMENT_MAX = single_reduction("segment_max")
SEGMENT_MIN = single_reduction("segment_min")
SEGMENT_VAR = single_reduction("segment_var")
SEGMENT_COUNT = Op(
    "segment_count", "segment", (LABELS,), SegmentParameters, infer_segment_count, differentiable_outputs=()
)
SEGMENT_REDUCE = record("segment_reduce", infer_segment_reduce, REDUCTIONS, DIFFERENTIABLE, SAVED)
SEGMENT_UNPOOL = Op(
    "segment_unpool",
    "segment",
    (ArraySpec("pooled", axes=POOLED), LABELS),
    UnpoolParameters,
    infer_segment_unpool,
    result_axes=(IMAGE,),
    linearity=Linearity(("pooled",), homogeneous=(("fill", 0),)),
)
OPS = (
    SEGMENT_MEAN,
    SEGMENT_SUM,
    SEGMENT_MAX,
    SEGMENT_MIN,
    SEGMENT_VAR,
    SEGMENT_COUNT,
    SEGMENT_REDUCE,
    SEGMENT_UNPOOL,
)

# Not public: called first when num_segments is None. It reads the labels on the host, so on a GPU the caller waits.
NUM_SEGMENTS = Op("num_segments", "segment", (LABELS,), LabelParameters, infer_num_segments, differentiable_outputs=())
