"""The compiled functions of PAC, called directly: confidences, float32 beside half types, neighbours far away."""

import dataclasses
from types import ModuleType
from typing import Any

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given

from case import Case
from pac_cases import build
from pac_checks import assert_equals_torch, backend_results, output_shape
from strategies import DTYPES, FLOAT16, FLOAT32, FLOAT64, OPERATORS, cases, examples, normal, to_layout
from tolerances import BFLOAT16

pytest.importorskip("torch", reason="torch is not installed")

HALF = (FLOAT16, BFLOAT16)
LAYOUTS = ("NCHW", "NHWC")


@pytest.fixture(scope="module")
def kernels() -> ModuleType:
    module: ModuleType = pytest.importorskip("arrayops._backends.cpu.pac")
    return module


def with_mask(case: Case, mask: np.ndarray) -> Case:
    return dataclasses.replace(case, options={**case.options, "mask": mask})


# --- confidences ----------------------------------------------------------------------------------

CALLS: dict[str, tuple[str, dict[str, Any]]] = {
    "kernel": ("pac_kernel2d", {"padding": 1}),
    "kernel, normalize": ("pac_kernel2d", {"padding": 1, "normalize": True}),
    "kernel, channel_wise inv": (
        "pac_kernel2d",
        {"channel_wise": True, "kernel_type": "inv", "per_channel": True, "padding": 1},
    ),
    "kernel, transposed": ("pac_kernel2d", {"transposed": True, "stride": 2, "padding": 1, "normalize": True}),
    "9 outputs": ("pac_conv2d", {"outputs": 9, "padding": 1, "size": (9, 19)}),
    "2 outputs, normalize": ("pac_conv2d", {"outputs": 2, "padding": 1, "normalize": True, "size": (9, 19)}),
    "16 outputs, stride 2": ("pac_conv2d", {"outputs": 16, "stride": 2, "padding": 2, "kernel_size": (5, 3)}),
    "groups, inv smooth": (
        "pac_conv2d",
        {"groups": 3, "padding": 1, "normalize": True, "kernel_type": "inv", "smooth": (3, 3)},
    ),
    "shared, asymmetric": ("pac_conv2d", {"shared_filters": True, "padding": 1, "asymmetric": True}),
    "dilation 4": ("pac_conv2d", {"dilation": 4, "padding": 4, "normalize": True, "size": (11, 12)}),
    "transposed": ("pac_conv_transpose2d", {"stride": 2, "padding": 1, "output_padding": 1, "size": (6, 7)}),
    "transposed, normalize": ("pac_conv_transpose2d", {"stride": (3, 2), "normalize": True, "size": (5, 7)}),
    "pooled": ("pac_pool2d", {"padding": 1, "size": (9, 19)}),
    "pooled, channel_wise normalize": ("pac_pool2d", {"channel_wise": True, "normalize": True, "padding": 1}),
    "pooled, inv": ("pac_pool2d", {"kernel_type": "inv", "padding": 1, "stride": 2, "smooth": (1, 3)}),
}


def confident(case: Case, dtype: np.dtype, scale: float = 1.0) -> Case:
    """The call with confidences up to 2 in place of its mask, 0 where that is False."""
    mask = case.options["mask"]
    return with_mask(case, (scale * mask * np.random.default_rng(9).uniform(0.05, 2, mask.shape)).astype(dtype))


def masked(name: str, dtype: np.dtype, layout: str) -> Case:
    operator, options = CALLS[name]
    return build(operator, dtype=dtype, layout=layout, masked=True, **options)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize(
    ("dtype", "of_mask"), [*((dtype, dtype) for dtype in DTYPES), *((dtype, FLOAT32) for dtype in HALF)], ids=str
)
@pytest.mark.parametrize("name", CALLS)
def test_confidences(kernels: ModuleType, name: str, dtype: np.dtype, of_mask: np.dtype, layout: str) -> None:
    case = confident(masked(name, dtype, layout), of_mask)
    assert_equals_torch(case, backend_results(kernels, case))


@pytest.mark.parametrize("operator", OPERATORS)
@examples(60)
@given(data=st.data())
def test_drawn_confidences(kernels: ModuleType, operator: str, data: st.DataObject) -> None:
    case = data.draw(cases(operator, DTYPES).filter(lambda case: case.options.get("mask") is not None))
    case = confident(case, data.draw(st.sampled_from((case.dtype, FLOAT32))) if case.dtype in HALF else case.dtype)
    assert_equals_torch(case, backend_results(kernels, case), relative_to_terms=True)


@pytest.mark.parametrize(("dtype", "exponent"), [(FLOAT32, 100), (FLOAT32, -100), (FLOAT64, 900), (FLOAT64, -900)])
@pytest.mark.parametrize("name", CALLS)
def test_only_ratios_of_confidences_count(kernels: ModuleType, name: str, dtype: np.dtype, exponent: int) -> None:
    """Both divisors are sums of them."""
    case = masked(name, dtype, "NCHW")
    near, far = confident(case, dtype), confident(case, dtype, 2.0**exponent)
    np.testing.assert_array_equal(far.options["mask"] * 2.0**-exponent, near.options["mask"])
    assert_equals_torch(near, backend_results(kernels, far))


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("bad", [np.nan, np.inf])
@pytest.mark.parametrize("name", [name for name, (operator, _) in CALLS.items() if operator != "pac_kernel2d"])
def test_samples_of_no_confidence_are_never_read(kernels: ModuleType, name: str, bad: float, layout: str) -> None:
    case = confident(masked(name, FLOAT32, layout), FLOAT32)
    out = np.broadcast_to(case.options["mask"] == 0, case.arrays["input"].shape)
    found, want = (
        backend_results(kernels, case.replace(input=np.where(out, FLOAT32.type(value), case.arrays["input"]))).all()
        for value in (bad, 0)
    )
    assert found.keys() == want.keys()
    for result, array in want.items():
        assert found[result].tobytes() == array.tobytes(), result
    assert not found["input"][out].any()


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtype", [FLOAT32, BFLOAT16], ids=str)
@pytest.mark.parametrize("name", CALLS)
def test_masks_of_bytes_are_masks_of_bool(kernels: ModuleType, name: str, dtype: np.dtype, layout: str) -> None:
    case = masked(name, dtype, layout)
    want = backend_results(kernels, case).all()
    found = backend_results(kernels, with_mask(case, case.options["mask"].astype(np.uint8))).all()
    assert found.keys() == want.keys()
    for result, array in want.items():
        assert found[result].dtype == array.dtype
        assert found[result].tobytes() == array.tobytes(), result


@pytest.mark.parametrize("of_mask", [np.dtype(bool), FLOAT32], ids=str)
@pytest.mark.parametrize("name", CALLS)
def test_windows_without_confidence(kernels: ModuleType, name: str, of_mask: np.dtype) -> None:
    """The output is the bias, and only that has a gradient."""
    case = masked(name, FLOAT32, "NCHW")
    case = with_mask(case, np.zeros(case.options["mask"].shape, of_mask))
    found = backend_results(kernels, case)
    assert found.output_mask is not None
    assert not found.output_mask.any()
    bias = case.arrays.get("bias")
    np.testing.assert_array_equal(
        found.output, np.zeros_like(found.output) if bias is None else bias[:, None, None] + 0 * found.output
    )
    for array, gradient in found.gradients.items():
        assert gradient.any() == (array == "bias"), array


# --- float32 beside half types --------------------------------------------------------------------

MIXED: dict[str, tuple[str, dict[str, Any]]] = {
    "16 outputs": ("pac_conv2d", {"channels": 9, "outputs": 16, "padding": 1, "size": (9, 19)}),
    "3 outputs": ("pac_conv2d", {"channels": 5, "outputs": 3, "padding": 1, "size": (9, 19)}),
    "groups of 2": ("pac_conv2d", {"channels": 18, "outputs": 18, "groups": 9, "padding": 1, "size": (7, 14)}),
    "groups of 1": ("pac_conv2d", {"channels": 20, "outputs": 20, "groups": 20, "padding": 1, "size": (7, 14)}),
    "shared": ("pac_conv2d", {"channels": 5, "shared_filters": True, "padding": 1}),
    "mask": ("pac_conv2d", {"outputs": 9, "padding": 1, "masked": True}),
    "all options": (
        "pac_conv2d",
        {"outputs": 9, "padding": 1, "masked": True, "normalize": True, "kernel_type": "inv", "smooth": (3, 3)},
    ),
    "many inputs": ("pac_conv2d", {"channels": 300, "outputs": 9, "padding": 1, "size": (4, 7), "batch": 1}),
    "transposed": ("pac_conv_transpose2d", {"outputs": 9, "stride": 2, "padding": 1, "size": (6, 9)}),
    "transposed, 2 outputs": ("pac_conv_transpose2d", {"outputs": 2, "stride": 2, "normalize": True, "size": (6, 9)}),
    "pooled": ("pac_pool2d", {"channels": 6, "padding": 1, "size": (9, 19)}),
    "pooled, channel_wise": ("pac_pool2d", {"channels": 6, "channel_wise": True, "normalize": True}),
}
# "kernel" stands in place of the guide; where nothing is said of an array, it has the input's dtype.
FLOATS = ("guide", "kernel", "weight", "bias", "guide weight bias", "kernel weight bias")


def mixed(name: str, floats: list[str], dtype: np.dtype, layout: str) -> Case:
    """A call whose arrays in ``floats`` are float32 numbers that the input's dtype cannot hold."""
    operator, options = MIXED[name]
    options = dict(options)
    if "kernel" in floats:
        for option in ("masked", "normalize", "kernel_type", "smooth"):
            options.pop(option, None)
    wide = FLOAT32 if {"guide", "kernel"} & set(floats) else dtype
    case = build(operator, dtype=dtype, guide_dtype=wide, layout=layout, with_kernel="kernel" in floats, **options)
    random, arrays = np.random.default_rng(13), {}
    for array in {"weight", "bias"} & set(floats):
        arrays[array] = normal(random, case.arrays[array].shape, FLOAT32)
    return case.replace(**arrays)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtype", HALF, ids=str)
@pytest.mark.parametrize("floats", FLOATS)
@pytest.mark.parametrize("name", MIXED)
def test_float32_beside_half(kernels: ModuleType, name: str, floats: str, dtype: np.dtype, layout: str) -> None:
    if MIXED[name][0] == "pac_pool2d" and floats not in ("guide", "kernel"):
        pytest.skip("pac_pool2d has no weight")
    case = mixed(name, floats.split(), dtype, layout)
    for array in floats.split():
        assert case.arrays[array].dtype == FLOAT32
        assert (case.arrays[array] != case.arrays[array].astype(dtype).astype(FLOAT32)).any()
    # All that the gradients depend on is exact, so that those of float32 arrays are as exact as float32.
    assert_equals_torch(case, backend_results(kernels, case))


# --- neighbours far from a masked centre ----------------------------------------------------------


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("distance", [20.0, 100.0, 1e4])
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_two_far_neighbours(kernels: ModuleType, dtype: np.dtype, distance: float, layout: str) -> None:
    guide = to_layout("guide", np.array([0, distance, 0]).astype(dtype).reshape(1, 1, 1, 3), layout)
    mask = to_layout("mask", np.array([True, False, True]).reshape(1, 1, 1, 3), layout)
    options = {"kernel_size": (1, 3), "mask": mask, "normalize": True, "layout": layout}
    case = Case("pac_kernel2d", {"guide": guide}, options, dtype)
    # The kernel's gradient of the first tap alone: that of the distance is 1/4 there, and -1/4 at the last.
    grad = np.zeros(output_shape(case), dtype)
    grad.flat[0] = 1
    found = backend_results(kernels, case, grad)
    assert found.output.astype(np.float64).ravel().tolist() == [0.5, 0, 0.5]
    assert_equals_torch(case, found, grad)


@pytest.mark.parametrize(
    ("dtype", "distance"), [(FLOAT16, 65504.0), (BFLOAT16, 1e30), (FLOAT32, 1e30), (FLOAT64, 1e250)], ids=str
)
def test_one_neighbour_at_any_distance(kernels: ModuleType, dtype: np.dtype, distance: float) -> None:
    """It has weight 1, also where the square of its distance is no number of the dtype."""
    guide = np.array([0, distance, 0]).astype(dtype).reshape(1, 1, 1, 3)
    mask = np.array([True, False, False]).reshape(1, 1, 1, 3)
    options = {"kernel_size": (1, 3), "mask": mask, "normalize": True}
    found = backend_results(
        kernels, Case("pac_kernel2d", {"guide": guide}, options, dtype), np.ones((1, 1, 1, 3, 1, 1), dtype)
    )
    assert found.output.astype(np.float64).ravel().tolist() == [1, 0, 0]
    assert found.gradients["guide"].astype(np.float64).ravel().tolist() == [0, 0, 0]


JUMPS: dict[str, tuple[str, dict[str, Any]]] = {
    "kernel": ("pac_kernel2d", {"padding": 1}),
    "kernel, channel_wise": ("pac_kernel2d", {"padding": 1, "channel_wise": True}),
    "kernel, stride 2": ("pac_kernel2d", {"padding": 1, "stride": 2}),
    "9 outputs": ("pac_conv2d", {"outputs": 9, "padding": 1}),
    "2 outputs, 5x5": ("pac_conv2d", {"outputs": 2, "padding": 2, "kernel_size": (5, 5)}),
    "asymmetric": ("pac_conv2d", {"outputs": 9, "padding": 1, "asymmetric": True}),
    "groups": ("pac_conv2d", {"groups": 3, "padding": 1}),
    "transposed": ("pac_conv_transpose2d", {"outputs": 9, "stride": 2, "padding": 1}),
    "pooled": ("pac_pool2d", {"padding": 1}),
    "pooled, channel_wise": ("pac_pool2d", {"padding": 1, "channel_wise": True, "channels": 3}),
}


@pytest.mark.parametrize("of_mask", [np.dtype(bool), FLOAT32], ids=str)
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("name", JUMPS)
def test_jumps_around_masked_centres(
    kernels: ModuleType, name: str, dtype: np.dtype, layout: str, of_mask: np.dtype
) -> None:
    """Most kernels are far below what the dtype holds before they are divided; their quotients are of any size."""
    operator, options = JUMPS[name]
    case = build(operator, dtype=dtype, masked=True, normalize=True, size=(11, 13), **options)
    random = np.random.default_rng(17)
    # Squared distances are exact in float32: a jump of 100 in one channel, multiples of 1/8 in the others.
    guide = np.clip(np.round(8 * case.arrays["guide"].astype(np.float64)), -15, 15) / 8
    guide[:, 0] = 100 * (random.random((len(guide), *guide.shape[2:])) < 0.5)
    mask = (random.random(case.options["mask"].shape) < 0.35).astype(of_mask)
    if of_mask == FLOAT32:
        mask *= random.uniform(0.1, 2, mask.shape).astype(FLOAT32)
    case = with_mask(case.replace(guide=guide.astype(dtype)), mask)
    assert (case.arrays["guide"].astype(np.float64) == guide).all()
    arrays = {key: None if value is None else to_layout(key, value, layout) for key, value in case.arrays.items()}
    options = {**case.options, "mask": to_layout("mask", mask, layout), "layout": layout}
    case = Case(operator, arrays, options, dtype)
    grad = case.grad(output_shape(case))
    assert_equals_torch(case, backend_results(kernels, case, grad), grad)
