"""PAC on the CUDA backend in sizes that take more than one tile, chunk, band or share, and with odd windows."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from pac_cases import build, named
from strategies import BFLOAT16, FLOAT16, FLOAT32, FLOAT64, OPERATORS

pytest.importorskip("cupy", reason="CuPy is not installed")

import cuda_device
from arrayops._backends.cuda.engine import device as properties
from arrayops._backends.cuda.engine.module import Kernel
from arrayops._backends.cuda.pac import gradients as pac_gradients
from arrayops._backends.cuda.window import weight_gradient
from cuda_checks import backward, check, check_backward, check_forward, oracle
from tolerances import assert_close

CONVOLUTIONS = ("pac_conv2d", "pac_conv_transpose2d")


@pytest.fixture
def constant(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[ModuleType, str, Any], None]]:
    """Sets a constant of the backend, and forgets the plans that were made with another, before and after."""

    def change(module: ModuleType, name: str, value: Any) -> None:
        monkeypatch.setattr(module, name, value)
        cuda_device.forget()

    yield change
    monkeypatch.undo()
    cuda_device.forget()


def contractions() -> list[Kernel]:
    return [kernel for kernel in cuda_device.kernels() if kernel.identity.name.startswith("contraction")]


def direct() -> list[bool]:
    """Of each contraction that was asked for."""
    return [("UNSTAGED", "") in kernel.identity.defines for kernel in contractions()]


# --- tiles and chunks of channels -----------------------------------------------------------------

MANY = {"batch": 1, "size": (20, 37), "channels": 40, "outputs": 70, "padding": 1}


@pytest.mark.parametrize(
    ("operator", "dtype", "options"),
    [
        ("pac_conv2d", FLOAT32, {}),
        ("pac_conv2d", FLOAT16, {"layout": "NHWC", "groups": 2, "masked": True}),
        ("pac_conv2d", FLOAT64, {"groups": 10}),
        ("pac_conv2d", BFLOAT16, {"stride": (1, 2), "dilation": (2, 1)}),
        ("pac_conv2d", FLOAT32, {"groups": 40, "outputs": 80, "layout": "NHWC"}),
        ("pac_conv_transpose2d", FLOAT32, {"size": (10, 13), "stride": (2, 3), "layout": "NHWC"}),
        ("pac_conv_transpose2d", FLOAT16, {"size": (11, 19), "stride": 2, "groups": 5, "output_padding": 1}),
        ("pac_conv_transpose2d", FLOAT64, {"size": (9, 37), "stride": (2, 1), "kernel_size": (5, 3)}),
        ("pac_conv_transpose2d", BFLOAT16, {"groups": 40, "outputs": 40}),
    ],
    ids=str,
)
def test_several_tiles_and_channels(device: Any, operator: str, dtype: np.dtype, options: dict[str, Any]) -> None:
    check(device, build(operator, dtype=dtype, **{**MANY, **options}))


@pytest.mark.parametrize(
    ("operator", "dtype", "layout", "options"),
    [
        ("pac_pool2d", FLOAT32, "NCHW", {"stride": 2}),
        ("pac_pool2d", FLOAT32, "NHWC", {"channel_wise": True, "dilation": 2, "smooth": (3, 3)}),
        ("pac_conv2d", FLOAT32, "NHWC", {"shared_filters": True, "kernel_size": (2, 5)}),
        ("pac_conv_transpose2d", FLOAT32, "NCHW", {"shared_filters": True, "stride": (2, 3)}),
        ("pac_kernel2d", FLOAT32, "NHWC", {"channel_wise": True, "guide_channels": 20, "smooth": (3, 3)}),
    ],
    ids=str,
)
def test_many_channels_apart(device: Any, operator: str, dtype: np.dtype, layout: str, options: dict[str, Any]) -> None:
    check(device, build(operator, dtype=dtype, layout=layout, **{**MANY, "outputs": 40, **options}))


@pytest.mark.parametrize(
    ("channels", "outputs", "dtype", "name"),
    [
        (1, 1, FLOAT32, "gaussian"),
        (2, 9, FLOAT64, "inv"),
        (3, 8, FLOAT32, "kernel"),
        (5, 17, FLOAT16, "mask normalize inv smooth"),
        (9, 33, FLOAT32, "gaussian"),
        (17, 65, FLOAT32, "gaussian"),
        (33, 1, FLOAT32, "gaussian"),
        (1, 65, FLOAT32, "inv asymmetric"),
        (9, 64, FLOAT32, "gaussian"),
        (8, 32, FLOAT32, "gaussian"),
        (4, 16, FLOAT16, "inv asymmetric"),
    ],
)
def test_every_tile_of_channels(device: Any, channels: int, outputs: int, dtype: np.dtype, name: str) -> None:
    """Around each size of a tile or chunk, forward and as the gradient of the input."""
    options: dict[str, Any] = {"dtype": dtype, "batch": 1}
    check_forward(device, named("pac_conv2d", name, **options, channels=channels, outputs=outputs))
    case = named("pac_conv2d", name, **options, channels=outputs, outputs=channels)
    check_backward(device, case, needs=("input",))


@pytest.mark.parametrize("operator", OPERATORS)
def test_more_taps_than_a_chunk(device: Any, operator: str) -> None:
    check(device, build(operator, dtype=FLOAT32, batch=1, size=(11, 12), kernel_size=(9, 7), padding=(4, 3)))


@pytest.mark.parametrize(
    ("operator", "name"),
    [("pac_conv2d", "gaussian"), *((operator, "mask normalize inv smooth") for operator in OPERATORS)],
)
def test_one_tap(device: Any, operator: str, name: str) -> None:
    check(device, named(operator, name, kernel_size=(1, 1), dtype=FLOAT32), relative_to_terms=True)


@pytest.mark.parametrize("operator", OPERATORS)
def test_strides_beyond_the_filter(device: Any, operator: str) -> None:
    """Between windows lie samples that no tap reads, and in the transposed form outputs that no sample reaches."""
    case = build(operator, dtype=FLOAT64, kernel_size=(2, 1), stride=(4, 5), size=(14, 13))
    output = check_forward(device, case)
    gradients = check_backward(device, case)
    if operator == "pac_conv_transpose2d":
        reached = np.ix_(np.arange(output.shape[2]) % 4 < 2, np.arange(output.shape[3]) % 5 < 1)
        unreached = np.ones(output.shape[2:], bool)
        unreached[reached] = False
        assert (output[:, :, unreached] == case.arrays["bias"][:, None]).all()
    elif operator != "pac_kernel2d":
        assert not gradients.input[:, :, 2:4].any()


@pytest.mark.parametrize("operator", OPERATORS)
def test_dilation_and_stride_with_a_common_factor(device: Any, operator: str) -> None:
    """Taps then fall on some phases alone."""
    check(device, build(operator, dtype=FLOAT32, stride=(2, 4), dilation=(4, 2), size=(12, 11), padding=3))


@pytest.mark.parametrize("operator", OPERATORS)
def test_images_smaller_than_the_padding(device: Any, operator: str) -> None:
    """In the transposed form padding is cut from the output."""
    if operator == "pac_conv_transpose2d":
        options: dict[str, Any] = {"size": (4, 7), "padding": ((4, 0), (3, 4))}
    else:
        options = {"size": (1, 2), "padding": ((4, 3), (5, 0))}
    check(device, build(operator, dtype=FLOAT32, **options))


# --- shared memory --------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [FLOAT32, FLOAT64], ids=str)
@pytest.mark.parametrize("operator", CONVOLUTIONS)
def test_more_shared_memory_than_usual(device: Any, operator: str, dtype: np.dtype) -> None:
    """Above 48 KiB a kernel has to opt in, and launches have to ask for it."""
    dilation = 60 if dtype == FLOAT32 else 30
    check(device, build(operator, dtype=dtype, batch=1, size=(9, 18), dilation=dilation, padding=dilation))
    assert direct() == [False, False]
    assert all(kernel.call.max_dynamic_shared_size_bytes > 48 << 10 for kernel in contractions())


@pytest.mark.parametrize(
    ("name", "dtype", "layout"),
    [("mask", FLOAT32, "NCHW"), ("gaussian", FLOAT64, "NCHW"), ("mask", FLOAT16, "NHWC")],
    ids=str,
)
@pytest.mark.parametrize("operator", CONVOLUTIONS)
def test_windows_beyond_shared_memory(device: Any, operator: str, name: str, dtype: np.dtype, layout: str) -> None:
    case = named(operator, name, dtype=dtype, layout=layout, batch=1, size=(9, 18), dilation=150, padding=150)
    check(device, case)
    assert direct() == [True, True]


@pytest.mark.parametrize("operator", CONVOLUTIONS)
def test_direct_equals_staged(device: Any, operator: str, constant: Any) -> None:
    """On a device with little shared memory; several tiles, taps and channels, a stride."""
    case = build(operator, dtype=FLOAT32, **{**MANY, "stride": 2, "size": (17, 35)})
    staged = check_forward(device, case)
    gradient = check_backward(device, case, needs=("input",)).input
    assert direct() == [False, False]
    found = properties.current()
    constant(properties, "properties", lambda _: found._replace(shared_bytes=8 << 10))
    assert_close(check_forward(device, case), staged, FLOAT32)
    assert_close(check_backward(device, case, needs=("input",)).input, gradient, FLOAT32)
    assert direct() == [True, True]


# --- bands and shares -----------------------------------------------------------------------------

# Bytes of a row of the moment of `build`'s cases (9 x 10, 3 x 3 filter, padding 1) in float64, one channel of K.
ROW = 9 * 10 * 8


@pytest.mark.parametrize(
    ("most", "expected"),
    [
        pytest.param(1, 27, id="a row each"),
        pytest.param(4 * ROW, 9, id="rows"),
        pytest.param(9 * ROW, 3, id="an image each"),
        pytest.param(2 * 9 * ROW, 2, id="images"),
    ],
)
@pytest.mark.parametrize(
    ("name", "layout"), [("gaussian", "NCHW"), ("mask normalize inv smooth", "NHWC"), ("kernel", "NCHW")]
)
@pytest.mark.parametrize("operator", OPERATORS)
def test_bands(
    device: Any, operator: str, name: str, layout: str, most: int, expected: int, constant: Any, monkeypatch: Any
) -> None:
    if name == "kernel" and operator == "pac_kernel2d":
        pytest.skip("pac_kernel2d makes kernels")
    case = named(operator, name, layout=layout, batch=3, padding=1)
    whole = check_backward(device, case)
    constant(pac_gradients, "BAND_BYTES", most)
    cut, counts = pac_gradients.bands, []

    def counted(made: Any) -> list[Any]:
        counts.append(list(cut(made)))
        return counts[-1]

    monkeypatch.setattr(pac_gradients, "bands", counted)
    banded = check_backward(device, case)
    assert [len(bands) for bands in counts] == [expected]
    for field in case.present:
        terms = np.maximum(np.abs(getattr(whole, field)), 1)
        assert_close(getattr(banded, field), getattr(whole, field), FLOAT64, terms, field)


@pytest.mark.parametrize("share", [1, 7, 64, 100])
@pytest.mark.parametrize(
    ("operator", "name", "dtype", "options"),
    [
        ("pac_conv2d", "kernel", FLOAT32, {"channels": 18, "outputs": 34}),
        ("pac_conv2d", "mask normalize inv smooth", FLOAT16, {"groups": 3, "stride": 2, "layout": "NHWC"}),
        ("pac_conv2d", "shared", FLOAT64, {"masked": True}),
        ("pac_conv_transpose2d", "asymmetric", FLOAT32, {"stride": (2, 1), "groups": 2}),
        ("pac_conv_transpose2d", "shared", BFLOAT16, {"stride": (1, 3)}),
    ],
    ids=str,
)
def test_shares_of_a_weight(
    device: Any, operator: str, name: str, dtype: np.dtype, options: dict[str, Any], share: int, constant: Any
) -> None:
    """Every block sums its own share, and nothing is left out or counted twice at their ends."""
    constant(weight_gradient, "SHARE_PAIRS", share)
    check_backward(device, named(operator, name, dtype=dtype, **options), needs=("weight",))


@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
def test_long_shares_of_a_weight_lose_no_digits(device: Any, layout: str, constant: Any) -> None:
    """As for many large images, whose shares are long."""
    constant(weight_gradient, "MAX_SHARES", 1)
    draw = np.random.default_rng(7)
    x, grad = (draw.standard_normal((1, 17, 40960), FLOAT32) for _ in range(2))

    def image(array: np.ndarray) -> np.ndarray:
        found = array.reshape(1, 17, 160, 256)
        return found if layout == "NCHW" else np.ascontiguousarray(np.moveaxis(found, 1, 3))

    weight = np.zeros((17, 17, 1, 1) if layout == "NCHW" else (1, 1, 17, 17), FLOAT32)
    got = device.conv2d_backward(image(grad), image(x), weight, layout=layout, needs=("weight",)).weight
    want = np.einsum("ncp, nop -> oc", x.astype(FLOAT64), grad)
    found = got.reshape(17, 17) if layout == "NCHW" else got.reshape(17, 17).T
    # One sum in float32 throughout would be at 3e-6.
    assert np.linalg.norm(found - want) < 1.5e-6 * np.linalg.norm(want)


def test_more_images_than_a_block_has_threads(device: Any) -> None:
    case = build("pac_conv2d", dtype=FLOAT64, batch=300, size=(2, 2), kernel_size=(2, 1), channels=1, outputs=1)
    check(device, case)


# --- architectures --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("compute_capability", "dtype", "layout"),
    [
        (75, FLOAT16, "NHWC"),
        (75, BFLOAT16, "NCHW"),
        (75, FLOAT32, "NCHW"),
        (90, FLOAT16, "NCHW"),
        (90, BFLOAT16, "NHWC"),
    ],
    ids=str,
)
@pytest.mark.parametrize("operator", CONVOLUTIONS)
def test_contraction_of_other_architectures(
    operator: str, dtype: np.dtype, layout: str, compute_capability: int
) -> None:
    """Which instructions and how much shared memory there are."""
    case = build(operator, dtype=dtype, layout=layout, channels=20, outputs=18, masked=True, stride=2)
    with cuda_device.emulated(compute_capability) as device:
        check_forward(device, case)
        grad = case.grad(oracle(case).forward().shape)
        got = backward(device, case, grad, needs=("input",))
        assert_close(got.input, oracle(case).backward(grad)["input"], dtype)


@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
def test_little_shared_memory_holds_many_taps_in_float64(layout: str) -> None:
    """Of K for all taps of a chunk, float64 takes the most shared memory, and compute capability 7.5 has the least."""
    case = build("pac_conv2d", dtype=FLOAT64, layout=layout, kernel_size=(7, 7), padding=3, batch=1)
    with cuda_device.emulated(75) as device:
        check_forward(device, case)
