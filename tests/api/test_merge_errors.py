"""Bad input of resize2d and merge_feature_maps: one exact message each, the same from an operator and its _backward."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import arrayops as ao


def f32(*shape: int) -> np.ndarray:
    return np.ones(shape, np.float32)


GOOD: dict[str, dict[str, Any]] = {
    "resize2d": {"input": f32(1, 4, 6, 8), "size": (3, 5)},
    "merge_feature_maps": {"maps": [f32(1, 4, 6, 8), f32(1, 2, 3, 4)]},
}
OUTPUT = {"resize2d": (1, 4, 3, 5), "merge_feature_maps": (1, 6, 6, 8)}
PAIR = "expected an integer or a pair of them"
RESIZE, MERGE = "resize2d", "merge_feature_maps"

# Operator, what is changed in its good call, error, message after "<operator>: ".
BAD: dict[str, tuple[str, dict[str, Any], type[Exception], str]] = {
    "input rank": (RESIZE, {"input": f32(4, 6, 8)}, ValueError, "input is (4, 6, 8), expected 4 axes (N, C, H, W)"),
    "input dtype": (
        RESIZE,
        {"input": np.ones((1, 4, 6, 8), np.uint8)},
        TypeError,
        "input is uint8, expected float16, bfloat16, float32 or float64",
    ),
    "input is None": (RESIZE, {"input": None}, TypeError, "input is None, expected an array"),
    "no height": (
        RESIZE,
        {"input": f32(1, 4, 0, 8)},
        ValueError,
        "input is (1, 4, 0, 8), expected a height of at least 1",
    ),
    "no width": (
        RESIZE,
        {"input": f32(1, 4, 0, 8), "layout": "NHWC"},
        ValueError,
        "input is (1, 4, 0, 8), expected a width of at least 1",
    ),
    "neither size nor scale": (
        RESIZE,
        {"size": None},
        ValueError,
        "size is None and scale is None, expected exactly one of them",
    ),
    "size and scale": (
        RESIZE,
        {"scale": 2},
        ValueError,
        "size is (3, 5) and scale is 2, expected exactly one of them",
    ),
    "size 0": (RESIZE, {"size": (3, 0)}, ValueError, "size is (3, 0), expected at least 1"),
    "size of three": (RESIZE, {"size": (3, 4, 5)}, ValueError, f"size is (3, 4, 5), {PAIR}"),
    "size 2.0": (RESIZE, {"size": 2.0}, ValueError, f"size is 2.0, {PAIR}"),
    "scale word": (
        RESIZE,
        {"size": None, "scale": "2"},
        ValueError,
        "scale is '2', expected a number or a pair of them",
    ),
    "scale of three": (
        RESIZE,
        {"size": None, "scale": (1, 2, 3)},
        ValueError,
        "scale is (1, 2, 3), expected a number or a pair of them",
    ),
    "scale 0": (RESIZE, {"size": None, "scale": 0}, ValueError, "scale is 0, expected finite numbers above 0"),
    "scale NaN": (
        RESIZE,
        {"size": None, "scale": (1, float("nan"))},
        ValueError,
        "scale is (1, nan), expected finite numbers above 0",
    ),
    "scale to nothing": (
        RESIZE,
        {"size": None, "scale": (0.1, 1)},
        ValueError,
        "scale is (0.1, 1.0), which resizes (6, 8) to (0, 8), expected an output of at least 1 x 1",
    ),
    "mode": (
        RESIZE,
        {"mode": "linear"},
        ValueError,
        "mode is 'linear', expected 'nearest' or 'bilinear' or 'bicubic' or 'area'",
    ),
    "coordinates": (
        MERGE,
        {"coordinates": "pytorch_half_pixel"},
        ValueError,
        "coordinates is 'pytorch_half_pixel', expected 'half_pixel' or 'align_corners' or 'asymmetric'",
    ),
    "antialias 1": (RESIZE, {"antialias": 1}, TypeError, "antialias is 1, expected True or False"),
    "antialias of nearest": (
        RESIZE,
        {"antialias": True, "mode": "nearest"},
        ValueError,
        "antialias is True with mode 'nearest', expected mode 'bilinear' or 'bicubic'",
    ),
    "coordinates of area": (
        MERGE,
        {"coordinates": "align_corners", "mode": "area"},
        ValueError,
        "coordinates is 'align_corners', expected 'half_pixel' with mode 'area'",
    ),
    "layout": (
        RESIZE,
        {"layout": "CHWN"},
        ValueError,
        "layout is 'CHWN', expected 'NCHW', 'NHWC', 'channels_first', 'channels_last' or None",
    ),
    "one array for maps": (
        MERGE,
        {"maps": f32(2, 4, 6, 8)},
        TypeError,
        "maps is ndarray, expected a list or tuple of arrays",
    ),
    "no maps": (MERGE, {"maps": []}, ValueError, "maps is empty, expected at least one array"),
    "a map is None": (MERGE, {"maps": [f32(1, 4, 6, 8), None]}, TypeError, "maps[1] is None, expected an array"),
    "map rank": (
        MERGE,
        {"maps": [f32(1, 4, 6, 8), f32(4, 3, 4)]},
        ValueError,
        "maps[1] is (4, 3, 4), expected 4 axes (N, C, H, W)",
    ),
    "map dtype": (
        MERGE,
        {"maps": [f32(1, 4, 6, 8), np.ones((1, 4, 3, 4))]},
        TypeError,
        "maps[1] is float64, expected float32 as maps[0]",
    ),
    "batch": (
        MERGE,
        {"maps": [f32(1, 4, 6, 8), f32(1, 4, 3, 4), f32(2, 4, 3, 4)]},
        ValueError,
        "maps[2] is (2, 4, 3, 4), expected batch 1 as maps[0]",
    ),
    "channels": (
        MERGE,
        {"how": "add", "maps": [f32(1, 4, 6, 8), f32(1, 2, 3, 5)]},
        ValueError,
        "maps[1] is (1, 2, 3, 5), expected 4 channels as maps[0] with how 'add'",
    ),
    "channels of flat": (
        MERGE,
        {"how": "flat", "size": (9, 9), "maps": [f32(1, 4, 6, 8), f32(1, 2, 3, 5)]},
        ValueError,
        "maps[1] is (1, 2, 3, 5), expected 4 channels as maps[0] with how 'flat'",
    ),
    "no positions": (
        MERGE,
        {"maps": [f32(1, 4, 6, 8), f32(1, 4, 3, 0)], "how": "add"},
        ValueError,
        "maps[1] is (1, 4, 3, 0), expected a width of at least 1",
    ),
    "how": (
        MERGE,
        {"how": "sum"},
        ValueError,
        "how is 'sum', expected 'concat' or 'add' or 'mean' or 'max' or 'flat'",
    ),
    "size word": (
        MERGE,
        {"size": "first"},
        ValueError,
        "size is 'first', expected 'largest', 'smallest' or (height, width)",
    ),
    "size None": (MERGE, {"size": None}, ValueError, f"size is None, {PAIR}"),
    "flat does not fit": (
        MERGE,
        {"maps": [f32(1, 128, 15, 15), f32(1, 128, 6, 6)], "how": "flat", "size": (20, 13)},
        ValueError,
        "size is (20, 13), 260 pixels, expected at least 261, the total of all maps",
    ),
    "flat to the largest": (
        MERGE,
        {"maps": [f32(1, 15, 15, 8), f32(1, 6, 6, 8)], "how": "flat", "layout": "NHWC"},
        ValueError,
        "size is (15, 15), 225 pixels, expected at least 261, the total of all maps",
    ),
}


def arguments(operator: str, changes: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
    everything = {**GOOD[operator], **changes}
    return everything.pop("input" if operator == RESIZE else "maps"), everything


@pytest.mark.parametrize("operator", GOOD)
def test_the_call_that_all_bad_ones_start_from_is_good(operator: str) -> None:
    argument, keywords = arguments(operator, {})
    result = getattr(ao, operator)(argument, **keywords)
    assert result.shape == OUTPUT[operator]
    getattr(ao, operator + "_backward")(result, argument, **keywords)


@pytest.mark.parametrize("name", BAD)
def test_message(name: str) -> None:
    operator, changes, error, message = BAD[name]
    argument, keywords = arguments(operator, changes)
    with pytest.raises(error) as caught:
        getattr(ao, operator)(argument, **keywords)
    assert str(caught.value) == f"{operator}: {message}"
    with pytest.raises(error) as caught:
        getattr(ao, operator + "_backward")(f32(*OUTPUT[operator]), argument, **keywords)
    assert str(caught.value) == f"{operator}_backward: {message}"


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"needs": ["maps[0]"]}, ValueError, "needs has 'maps[0]', expected names among ('maps',)"),
        ({"needs": 3}, TypeError, "needs is 3, expected names among ('maps',)"),
        (
            {"grad_output": f32(1, 4, 6, 8)},
            ValueError,
            "grad_output is (1, 4, 6, 8), expected (1, 6, 6, 8) as the output",
        ),
        (
            {"grad_output": np.ones((1, 6, 6, 8))},
            TypeError,
            "grad_output is float64, expected float32 as the output",
        ),
        ({"grad_output": None}, TypeError, "grad_output is None, expected an array"),
    ],
)
def test_messages_of_the_backward(changes: dict[str, Any], error: type[Exception], message: str) -> None:
    argument, keywords = arguments(MERGE, {})
    grad = changes.pop("grad_output", f32(1, 6, 6, 8))
    with pytest.raises(error) as caught:
        ao.merge_feature_maps_backward(grad, argument, **keywords, **changes)
    assert str(caught.value) == f"merge_feature_maps_backward: {message}"
