"""What must hold between calls of the PAC operators and against torch's own, whatever the oracle says."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

import arrayops as ao
from case import Case
from optional import optional
from oracles import pac_torch
from pac_cases import NAMED, TABLE, build, named
from strategies import DTYPES, FLOAT32, FLOAT64, OPERATORS
from tolerances import assert_close

torch = optional("torch")
F = optional("torch.nn.functional")


def output(case: Case) -> np.ndarray:
    result = case.call(ao)
    return result if isinstance(result, np.ndarray) else result.output


def gradients(case: Case, shape: tuple[int, ...], **extra: Any) -> Any:
    return case.backward(ao, case.grad(shape), **extra)


def every_bit(case: Case) -> list[bytes]:
    """The bytes of all results and gradients of a call."""
    result = case.call(ao)
    results = [result] if isinstance(result, np.ndarray) else list(result)
    return [a.tobytes() for a in (*results, *gradients(case, results[0].shape)) if a is not None]


def double(case: Case, *names: str) -> list[torch.Tensor]:
    return [torch.from_numpy(case.arrays[name].astype(np.float64)) for name in names]


# --- a constant guide -----------------------------------------------------------------------------

# Where every centre tap is inside the image any constant will do; outside, the guide is 0, and so must the constant be.
CONVOLUTIONS = [
    ("3x3", 1.7, {"padding": 1}),
    ("1x1", 1.7, {"kernel_size": (1, 1)}),
    ("even", 1.7, {"kernel_size": (2, 4)}),
    ("stride, dilation", 1.7, {"kernel_size": (3, 5), "stride": (2, 3), "dilation": (2, 1), "padding": (2, 1)}),
    ("groups", 1.7, {"groups": 3, "padding": 1}),
    ("depthwise", 1.7, {"groups": 6, "padding": 1}),
    ("centres outside", 0.0, {"padding": 4, "kernel_size": (4, 3)}),
]


@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize(("constant", "options"), [c[1:] for c in CONVOLUTIONS], ids=[c[0] for c in CONVOLUTIONS])
def test_constant_guide_is_conv2d(constant: float, options: dict, dtype: np.dtype, layout: str) -> None:
    case = build("pac_conv2d", dtype=dtype, **options)
    want = F.conv2d(
        *double(case, "input", "weight", "bias"),
        options.get("stride", 1),
        options.get("padding", 0),
        options.get("dilation", 1),
        options.get("groups", 1),
    ).numpy()
    case = build("pac_conv2d", dtype=dtype, layout=layout, **options)
    got = output(case.replace(guide=np.full_like(case.arrays["guide"], constant)))
    assert_close(got, want if layout == "NCHW" else want.transpose(0, 2, 3, 1), dtype)


TRANSPOSED = [
    ("3x3", 1.7, {"padding": 1}),
    ("stride 2", 1.7, {"padding": 1, "stride": 2, "output_padding": 1}),
    ("bilinear", 0.0, {"kernel_size": (4, 4), "padding": 1, "stride": 2}),
    ("smaller than the stride", 1.7, {"kernel_size": (1, 1), "stride": (3, 2), "output_padding": (2, 0)}),
    ("dilation", 1.7, {"kernel_size": (3, 5), "stride": (2, 1), "dilation": (3, 2), "padding": (0, 3)}),
    ("cut into the input", 1.7, {"kernel_size": (3, 3), "padding": 3, "stride": 3}),
    ("groups", 1.7, {"groups": 3, "stride": 2}),
    ("depthwise", 1.7, {"groups": 6, "stride": 2, "padding": 1}),
]


@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize(("constant", "options"), [c[1:] for c in TRANSPOSED], ids=[c[0] for c in TRANSPOSED])
def test_constant_guide_is_conv_transpose2d(constant: float, options: dict, dtype: np.dtype, layout: str) -> None:
    case = build("pac_conv_transpose2d", dtype=dtype, **options)
    want = F.conv_transpose2d(
        *double(case, "input", "weight", "bias"),
        options.get("stride", 1),
        options.get("padding", 0),
        options.get("output_padding", 0),
        options.get("groups", 1),
        options.get("dilation", 1),
    ).numpy()
    case = build("pac_conv_transpose2d", dtype=dtype, layout=layout, **options)
    got = output(case.replace(guide=np.full_like(case.arrays["guide"], constant)))
    assert_close(got, want if layout == "NCHW" else want.transpose(0, 2, 3, 1), dtype)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize(
    ("kernel_size", "stride", "padding"), [((3, 3), 1, 1), ((2, 3), (2, 3), (0, 1)), ((5, 4), 5, 0)]
)
def test_constant_guide_is_average_pooling(kernel_size: Any, stride: Any, padding: Any, dtype: np.dtype) -> None:
    case = build("pac_pool2d", dtype=dtype, kernel_size=kernel_size, stride=stride, padding=padding)
    want = F.avg_pool2d(*double(case, "input"), kernel_size, stride, padding).numpy() * np.prod(kernel_size)
    assert_close(output(case.replace(guide=np.full_like(case.arrays["guide"], -0.5))), want, dtype)


def test_shared_filter_is_a_depthwise_convolution_with_one_filter() -> None:
    for operator in ("pac_conv2d", "pac_conv_transpose2d"):
        shared = build(operator, shared_filters=True, stride=2)
        depthwise = build(operator, groups=6, stride=2)
        shared = shared.replace(guide=depthwise.arrays["guide"])
        depthwise = depthwise.replace(
            weight=np.broadcast_to(shared.arrays["weight"], (6, 1, 3, 3)),
            bias=shared.arrays["bias"],
            input=shared.arrays["input"],
        )
        assert_close(output(shared), output(depthwise), FLOAT64)


# --- one call, two ways ---------------------------------------------------------------------------

WITH_GUIDE = [(o, n) for o, n in NAMED if o != "pac_kernel2d" and "kernel" not in n]


def through_kernel(case: Case) -> tuple[Case, Case]:
    """The same call as a pac_kernel2d and a call with `kernel=`."""
    options = dict(case.options)
    arrays = {k: case.arrays.get(k) for k in ("guide", "inv_alpha", "inv_lambda", "smooth_kernel")}
    first = {k: options.pop(k) for k in ("mask", "kernel_type", "asymmetric", "channel_wise") if k in options}
    first["normalize"] = options.pop("normalize_kernel", False)
    first |= {k: options[k] for k in ("stride", "padding", "dilation", "layout", "output_padding") if k in options}
    weight = case.arrays.get("weight")
    if weight is None:
        first["kernel_size"] = options["kernel_size"]
    else:
        first["kernel_size"] = weight.shape[2:] if options.get("layout", "NCHW") == "NCHW" else weight.shape[:2]
    if case.operator == "pac_conv_transpose2d":
        first["transposed"] = True
    if "channel_wise" in first:
        options["channel_wise"] = True
    kernel = Case("pac_kernel2d", arrays, first, case.dtype)
    rest = {k: v for k, v in case.arrays.items() if k not in arrays}
    return kernel, Case(case.operator, {**rest, "guide": None, "kernel": output(kernel)}, options, case.dtype)


@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
@pytest.mark.parametrize("dtype", [FLOAT64, FLOAT32], ids=str)
@pytest.mark.parametrize(("operator", "name"), WITH_GUIDE)
def test_guide_call_equals_kernel_call(operator: str, name: str, dtype: np.dtype, layout: str) -> None:
    """Forward, and backward by the chain rule through the kernel."""
    case = named(operator, name, dtype=dtype, layout=layout)
    kernel, rest = through_kernel(case)
    want = output(case)
    assert_close(output(rest), want, dtype)
    fused, split = gradients(case, want.shape), gradients(rest, want.shape)
    of_guide = kernel.backward(ao, split.kernel)
    for field in case.present:
        source = of_guide if field in of_guide._fields else split
        got, limit = getattr(source, field), getattr(fused, field)
        if field == "input" and case.options.get("mask") is not None:
            got = np.where(case.options["mask"], got, 0)  # K is 0 at masked-out taps, and so is this already
            assert_close(split.input, got, dtype)
        assert_close(got, limit, dtype, what=field)


@pytest.mark.parametrize("dtype", [FLOAT64, FLOAT32], ids=str)
@pytest.mark.parametrize(("operator", "name"), NAMED)
def test_nhwc_equals_nchw(operator: str, name: str, dtype: np.dtype) -> None:
    nchw, nhwc = (named(operator, name, dtype=dtype, layout=layout) for layout in ("NCHW", "NHWC"))
    order = (0, 5, 3, 4, 1, 2) if operator == "pac_kernel2d" else (0, 3, 1, 2)
    want, got = nchw.call(ao), nhwc.call(ao)
    if "mask" in nchw.options:
        np.testing.assert_array_equal(got.output_mask.transpose(0, 3, 1, 2), want.output_mask)
        want, got = want.output, got.output
    assert_close(got.transpose(order), want, dtype)
    grad = nchw.grad(want.shape)
    there = np.ascontiguousarray(grad.transpose(np.argsort(order)))
    a, b = nchw.backward(ao, grad), nhwc.backward(ao, there)
    for field in nchw.present:
        value = getattr(b, field)
        if value.ndim > 3:
            back = {"weight": (3, 2, 0, 1), "kernel": (0, 5, 3, 4, 1, 2)}.get(field, (0, 3, 1, 2))
            value = value.transpose(back)
        assert_close(value, getattr(a, field), dtype, what=field)


@pytest.mark.parametrize("normalize", [False, True])
@pytest.mark.parametrize("operator", ["pac_kernel2d", "pac_conv2d", "pac_pool2d"])
def test_a_mask_of_true_is_no_mask(operator: str, normalize: bool) -> None:
    options: dict[str, Any] = {"normalize": normalize, "kernel_size": (3, 2), "stride": (1, 2)}
    without = build(operator, **options)
    masked = build(operator, masked=np.ones((2, 1, 9, 10), bool), **options)
    want, got = without.call(ao), masked.call(ao)
    assert got.output_mask.all()
    assert_close(got.output, want, FLOAT64)
    a, b = gradients(without, want.shape), gradients(masked, want.shape)
    for field in without.present:
        assert_close(getattr(b, field), getattr(a, field), FLOAT64, what=field)


@pytest.mark.parametrize("operator", OPERATORS[1:])
def test_a_mask_of_true_at_the_border_only_zeroes_what_is_outside(operator: str) -> None:
    """All valid taps are kept, so nothing is divided; outside, x is 0 anyway."""
    options: dict[str, Any] = {"padding": 1, "stride": 2}
    want = output(build(operator, **options))
    got = output(build(operator, masked=np.ones((2, 1, 9, 10), bool), **options))
    assert_close(got, want, FLOAT64)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_normalized_kernels_sum_to_one(dtype: np.dtype) -> None:
    for operator_options in ({}, {"transposed": True, "stride": 2}, {"channel_wise": True, "kernel_type": "inv"}):
        case = build("pac_kernel2d", dtype=dtype, masked=True, normalize=True, padding=1, **operator_options)
        result = case.call(ao)
        total = result.output.astype(np.float64).sum((2, 3))
        assert_close(total, np.broadcast_to(result.output_mask, total.shape).astype(np.float64), dtype)
        assert 0 < result.output_mask.sum() < result.output_mask.size or not case.options.get("transposed")


# --- linearity, shifts, batches -------------------------------------------------------------------


@pytest.mark.parametrize("name", ["gaussian", "mask normalize inv smooth", "sides, dilation"])
@pytest.mark.parametrize("operator", OPERATORS[1:])
def test_linear_in_input_weight_and_grad_output(operator: str, name: str) -> None:
    case = named(operator, name, bias=False)
    rng = np.random.default_rng(1)
    for field in ("input", "weight"):
        if field not in case.arrays:
            continue
        a = case.arrays[field]
        b = rng.standard_normal(a.shape)
        got = output(case.replace(**{field: 3 * a - 0.5 * b}))
        want = 3 * output(case) - 0.5 * output(case.replace(**{field: b}))
        assert_close(got, want, FLOAT64, what=field)
    shape = output(case).shape
    g, h = rng.standard_normal(shape), rng.standard_normal(shape)
    parts = [case.backward(ao, x) for x in (3 * g - 0.5 * h, g, h)]
    for field in case.present:
        got, a, b = (getattr(part, field) for part in parts)
        want = 3 * a - 0.5 * b
        assert_close(got, want, FLOAT64, np.abs(3 * a) + np.abs(0.5 * b), what=field)


@pytest.mark.parametrize("kernel_type", ["gaussian", "inv"])
@pytest.mark.parametrize("operator", ["pac_kernel2d", "pac_conv2d", "pac_pool2d"])
def test_only_differences_of_the_guide_count(operator: str, kernel_type: str) -> None:
    case = build(operator, kernel_type=kernel_type, dilation=2)
    moved = case.replace(guide=case.arrays["guide"] + 8.0)
    assert_close(output(moved), output(case), FLOAT64, 10 * np.abs(output(case)))


@pytest.mark.parametrize("offset", [10.0, 100.0])
def test_distances_are_summed_as_differences(offset: float) -> None:
    """Expanding the square loses 5e-5 at an offset of 10 and 6e-3 at 100 in float32."""
    case = build("pac_conv2d", dtype=FLOAT32, guide_channels=16)
    case = case.replace(guide=case.arrays["guide"] + np.float32(offset))
    assert_close(output(case), pac_torch.Call("pac_conv2d", case.arrays, case.options).forward(), FLOAT32)
    grad = case.grad(output(case).shape)
    want = pac_torch.Call("pac_conv2d", case.arrays, case.options).backward(grad)
    assert_close(case.backward(ao, grad).guide, want["guide"], FLOAT32)


@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
@pytest.mark.parametrize("operator", OPERATORS)
def test_images_of_a_batch_are_independent(operator: str, layout: str) -> None:
    case = build(operator, batch=3, masked=True, normalize=True, layout=layout)
    whole = output(case)
    for n in range(3):
        arrays = {k: v[n : n + 1] if k in ("input", "guide") else v for k, v in case.arrays.items()}
        one = Case(operator, arrays, {**case.options, "mask": case.options["mask"][n : n + 1]}, case.dtype)
        assert_close(output(one), whole[n : n + 1], FLOAT64)


# --- shapes beyond one block ----------------------------------------------------------------------

LARGE: dict[str, tuple[str, dict[str, Any]]] = {
    "kernel2d": ("pac_kernel2d", {"size": (70, 90), "padding": 2, "kernel_size": (5, 5), "normalize": True}),
    "conv2d": ("pac_conv2d", {"size": (70, 90), "padding": 1, "masked": True, "normalize": True}),
    "conv2d 5x5 strided": ("pac_conv2d", {"size": (150, 90), "padding": "SAME", "kernel_size": (5, 5), "stride": 2}),
    "conv2d 32 channels": (
        "pac_conv2d",
        {"size": (70, 90), "padding": 2, "kernel_size": (5, 5), "channels": 32, "outputs": 24, "batch": 1},
    ),
    "conv2d depthwise": ("pac_conv2d", {"size": (70, 90), "padding": 1, "channels": 16, "outputs": 16, "groups": 16}),
    "conv2d one long row": ("pac_conv2d", {"size": (2, 5000), "padding": 1, "channels": 3, "smooth": (3, 3)}),
    "conv2d one wide column": ("pac_conv2d", {"size": (5000, 1), "padding": (1, 1), "channels": 3}),
    "conv2d filter larger than the image": ("pac_conv2d", {"size": (3, 2), "padding": "SAME", "kernel_size": (9, 11)}),
    "conv2d 21x21 dilated": (
        "pac_conv2d",
        {"size": (50, 40), "padding": 20, "kernel_size": (21, 3), "dilation": (2, 5), "channels": 2, "batch": 1},
    ),
    "transposed": (
        "pac_conv_transpose2d",
        {"size": (35, 45), "stride": 2, "padding": 1, "output_padding": 1, "masked": True, "normalize": True},
    ),
    "transposed 33x33 stride 8": (
        "pac_conv_transpose2d",
        {
            "size": (5, 6),
            "stride": 8,
            "padding": "SAME",
            "kernel_size": (33, 33),
            "channels": 2,
            "outputs": 2,
            "batch": 1,
            "masked": True,
        },
    ),
    "transposed shared 17x17 stride 4": (
        "pac_conv_transpose2d",
        {
            "size": (13, 11),
            "stride": 4,
            "padding": "SAME",
            "kernel_size": (17, 17),
            "channels": 1,
            "batch": 1,
            "shared_filters": True,
            "normalize": True,
            "masked": True,
        },
    ),
    "pool2d": ("pac_pool2d", {"size": (70, 90), "padding": 3, "kernel_size": (7, 7), "channel_wise": True}),
    "pool2d strided": ("pac_pool2d", {"size": (70, 90), "stride": 7, "kernel_size": (7, 7), "kernel_type": "inv"}),
}


@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
@pytest.mark.parametrize("name", LARGE)
def test_many_blocks_equal_unfold(name: str, layout: str) -> None:
    operator, options = LARGE[name]
    case = build(operator, layout=layout, dtype=FLOAT32, **options)
    call = pac_torch.Call(operator, case.arrays, case.options)
    result = case.call(ao)
    if "mask" in case.options:
        np.testing.assert_array_equal(result.output_mask, call.filled())
        result = result.output
    assert_close(result, call.forward(), FLOAT32)
    grad = case.grad(result.shape)
    want, got = call.backward(grad), case.backward(ao, grad)
    for field in case.present:
        assert_close(getattr(got, field), want[field], FLOAT32, what=field)


# --- determinism ----------------------------------------------------------------------------------


@pytest.fixture
def threads() -> Iterator[None]:
    """Whatever a test does to the number of threads ends with it."""
    yield
    ao.set_num_threads(None)


def test_number_of_threads_is_kept_and_restored(threads: None) -> None:
    default = ao.get_num_threads()
    assert default >= 1
    ao.set_num_threads(3)
    assert ao.get_num_threads() == 3
    ao.set_num_threads(None)
    assert ao.get_num_threads() == default


@pytest.mark.slow
@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
@pytest.mark.parametrize("name", [n for n in LARGE if "33x33" not in n])
def test_same_bits_for_every_number_of_threads(name: str, layout: str, threads: None) -> None:
    operator, options = LARGE[name]
    case = build(operator, layout=layout, dtype=FLOAT32, **options)
    ao.set_num_threads(1)
    want = every_bit(case)
    for count in (2, 5):
        ao.set_num_threads(count)
        assert every_bit(case) == want, count


@pytest.mark.parametrize("operator", OPERATORS)
def test_same_bits_for_every_call(operator: str) -> None:
    for name in TABLE[operator]:
        case = named(operator, name, dtype=FLOAT32)
        want = every_bit(case)
        for _ in range(3):
            assert every_bit(case) == want, name
