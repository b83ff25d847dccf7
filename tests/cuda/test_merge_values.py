"""resize2d and merge_feature_maps on the CUDA backend against the loops, forward and each gradient."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import arrayops as ao
from case import Case
from merge_cases import HOWS, OPERATORS, SAMPLINGS, build, gradients, make, maps_of, with_maps
from oracles import merge
from pairwise import pairwise
from strategies import BFLOAT16, DTYPES, FLOAT16, FLOAT32, FLOAT64, in_memory

pytest.importorskip("cupy", reason="CuPy is not installed")

import cuda_device
from arrayops._backends.cuda.engine import image_threads
from cuda_checks import check_merge
from tolerances import assert_close

ORDERS = ("fifo", "lifo", "random")
MEMORY = ("contiguous", "fortran", "every other", "negative strides", "offset")

# Old and new sizes: up, down, one axis up and the other down, the same, to and from one pixel, several blocks.
RESIZES = {
    "up": ((5, 4), (11, 9)),
    "down": ((11, 9), (4, 5)),
    "mixed": ((4, 13), (9, 5)),
    "rows alone": ((4, 6), (7, 6)),
    "same": ((5, 6), (5, 6)),
    "to one": ((7, 6), (1, 1)),
    "from one": ((1, 1), (6, 7)),
    "several blocks": ((13, 9), (17, 19)),
}
# Channels that lie in one block, fill a warp, and make a thread take several.
CHANNELS = (1, 3, 13, 100)

MERGES = {
    "one map": [(5, 4)],
    "two maps": [(7, 6), (3, 4)],
    "crossed": [(4, 9), (8, 3)],
    "three maps": [(5, 5), (3, 2), (5, 3)],
    "more than a launch takes": [(4, 5), (2, 3), (5, 2), (3, 3), (1, 1), (4, 4)],
}
SIZES = ("largest", "smallest", (6, 5))


def rows(**factors: Any) -> list[Any]:
    """Parameters of a test: every two levels of different factors meet."""
    table = pairwise({**factors, "dtype": DTYPES, "layout": ("NCHW", "NHWC"), "order": ORDERS, "memory": MEMORY})
    return [pytest.param(*row.values(), id="-".join(map(str, row.values()))) for row in table]


def in_form(case: Case, memory: str) -> Case:
    return with_maps(case, *(in_memory(x, memory) for x in maps_of(case)))


@pytest.mark.parametrize(
    ("sampling", "sizes", "channels", "dtype", "layout", "order", "memory"),
    rows(sampling=range(len(SAMPLINGS)), sizes=list(RESIZES), channels=CHANNELS),
)
def test_resizing(
    device: Any, sampling: int, sizes: str, channels: int, dtype: np.dtype, layout: str, order: str, memory: str
) -> None:
    size, target = RESIZES[sizes]
    options = {"batch": 1 if channels == 100 else 2, "channels": channels, "dtype": dtype, "layout": layout}
    case = build("resize2d", [size], size=target, **options, **SAMPLINGS[sampling])
    with device.order(order):
        check_merge(device, in_form(case, memory), memory)


@pytest.mark.parametrize(
    ("maps", "how", "size", "mode", "channels", "dtype", "layout", "order", "memory"),
    rows(
        maps=list(MERGES),
        how=HOWS,
        size=SIZES,
        mode=("nearest", "bilinear", "bicubic", "area"),
        channels=(3, 13),
    ),
)
def test_merging(
    device: Any,
    maps: str,
    how: str,
    size: Any,
    mode: str,
    channels: int,
    dtype: np.dtype,
    layout: str,
    order: str,
    memory: str,
) -> None:
    sizes = MERGES[maps]
    if how == "flat":
        size = (sum(h * w for h, w in sizes) // 7 + 2, 7)
    each = [channels + 2 * number for number in range(len(sizes))] if how == "concat" else channels
    case = build(
        "merge_feature_maps", sizes, how=how, size=size, mode=mode, channels=each, dtype=dtype, layout=layout, seed=3
    )
    with device.order(order):
        check_merge(device, in_form(case, memory), memory)


@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("memory", ["contiguous", "every other"])
def test_maps_of_the_common_size_are_copied_bit_by_bit(device: Any, dtype: np.dtype, layout: str, memory: str) -> None:
    """Of all bit patterns, forward and back; a map of another size beside it changes nothing."""
    rng = np.random.default_rng(0)

    def any_bits(shape: tuple[int, ...]) -> np.ndarray:
        whole = rng.integers(0, 256, (*shape[:-1], shape[-1] * np.dtype(dtype).itemsize), np.uint8).view(dtype)
        return in_memory(whole, memory)

    shape = (2, 5, 6, 13) if layout == "NHWC" else (2, 13, 5, 6)
    x, small = any_bits(shape), np.ones((2, 3, 3, 13) if layout == "NHWC" else (2, 13, 3, 3), dtype)
    assert device.resize2d(x, (5, 6), layout=layout).tobytes() == x.tobytes()
    grad = any_bits(shape)
    assert device.resize2d_backward(grad, x, (5, 6), layout=layout).input.tobytes() == grad.tobytes()
    axis = layout.index("C")
    merged = device.merge_feature_maps([small, x, small], layout=layout)
    assert np.split(merged, 3, axis)[1].tobytes() == x.tobytes()
    grads = [any_bits(shape), any_bits(shape), any_bits(shape)]
    found = device.merge_feature_maps_backward(np.concatenate(grads, axis), [small, x, small], layout=layout)
    assert found.maps[1].tobytes() == grads[1].tobytes()


@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
def test_the_flat_recipe(device: Any, layout: str) -> None:
    """The bits of the CPU, with 180 zeros behind the positions of both maps, and the same way back."""
    maps = [np.random.default_rng(i).random((2, size, size, 5)) + 1 for i, size in enumerate((15, 6))]
    if layout == "NCHW":
        maps = [x.transpose(0, 3, 1, 2) for x in maps]
    case = make("merge_feature_maps", maps, {"how": "flat", "size": (21, 21), "layout": layout}, FLOAT64)
    output = case.call(device)
    assert output.tobytes() == case.call(ao).tobytes()
    assert (output == 0).sum() == 2 * 5 * 180
    for got, x in zip(gradients(case, device, output), maps, strict=True):
        np.testing.assert_array_equal(got, x)


def test_samples_that_no_output_reads_have_gradient_zero(device: Any) -> None:
    x = np.full((1, 1, 9, 9), np.nan)
    x[:, :, ::3, ::3] = 1
    options: dict[str, Any] = {"mode": "nearest", "coordinates": "asymmetric"}
    assert (device.resize2d(x, (3, 3), **options) == 1).all()
    found = device.resize2d_backward(np.full((1, 1, 3, 3), 2.0), x, (3, 3), **options).input
    assert (found[:, :, ::3, ::3] == 2).all()
    assert found.sum() == 18


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("sampling", SAMPLINGS, ids=str)
def test_values_that_are_not_finite_reach_what_has_their_weight_alone(
    device: Any, sampling: dict[str, Any], value: float
) -> None:
    for size, target in (((7, 6), (5, 13)), ((4, 9), (4, 5)), ((12, 4), (4, 4))):
        case = build("resize2d", [size], size=target, **sampling)
        broken = maps_of(case)[0].copy()
        broken[1, 2, 3, 2] = value
        with np.errstate(invalid="ignore"):
            want = with_maps(case, broken).call(merge)
        got = with_maps(case, broken).call(device)
        np.testing.assert_array_equal(np.isfinite(got), np.isfinite(want))
        np.testing.assert_array_equal(np.isnan(got), np.isnan(want))
        assert_close(np.where(np.isfinite(got), got, 0), np.where(np.isfinite(want), want, 0), FLOAT64)


@pytest.mark.parametrize("how", HOWS)
def test_nan_reaches_what_has_its_weight_alone(device: Any, how: str) -> None:
    """That of one map in the result, and that of the result in the gradients."""
    sizes = [(9, 5), (9, 15), (6, 13), (4, 7), (2, 3)]
    size = (20, 20) if how == "flat" else (9, 15)
    case = build("merge_feature_maps", sizes, how=how, size=size)
    for number in range(len(sizes)):
        maps = [x.copy() for x in maps_of(case)]
        maps[number][1, 2, 1, 1] = np.nan
        got, want = with_maps(case, *maps).call(device), with_maps(case, *maps).call(merge)
        np.testing.assert_array_equal(np.isnan(got), np.isnan(want))
        assert_close(np.nan_to_num(got), np.nan_to_num(want), FLOAT64)
    grad = case.grad(case.call(merge).shape)
    grad[0, 1, 4, 4] = np.nan
    for found, wanted in zip(gradients(case, device, grad), gradients(case, merge, grad), strict=True):
        np.testing.assert_array_equal(np.isnan(found), np.isnan(wanted))
        assert_close(np.nan_to_num(found), np.nan_to_num(wanted), FLOAT64)


def test_max_gives_the_gradient_to_the_first_map_that_attains_it(device: Any) -> None:
    maps = [
        np.array([[[[1.0, 5.0, 2.0, np.nan]]]]),
        np.array([[[[1.0, 4.0, 3.0, np.nan]]]]),
        np.full((1, 1, 1, 4), 3.0),
        np.array([[[[3.0, 3.0, 3.0, np.nan]]]]),
        np.array([[[[3.0, 5.0, 3.0, np.nan]]]]),
    ]
    grad = np.array([[[[10.0, 20.0, 30.0, 40.0]]]])
    output = device.merge_feature_maps(maps, how="max")
    np.testing.assert_array_equal(output, [[[[3.0, 5.0, 3.0, np.nan]]]])
    found = device.merge_feature_maps_backward(grad, maps, how="max").maps
    assert [g.ravel().tolist() for g in found[:3]] == [[0, 20, 0, 40], [0, 0, 30, 0], [10, 0, 0, 0]]
    assert not any(g.any() for g in found[3:])


@pytest.mark.parametrize("count", [256, 257, 300])
def test_max_of_many_maps(device: Any, count: int) -> None:
    """The last of them wins, whose number takes more than a byte from 257 maps on; else the first."""
    maps = [np.zeros((1, 1, 2, 2), np.float32)] * (count - 1) + [np.ones((1, 1, 1, 1), np.float32)]
    grad = np.ones((1, 1, 3, 2), np.float32)
    options: dict[str, Any] = {"how": "max", "size": (3, 2)}
    assert (device.merge_feature_maps(maps, **options) == 1).all()
    found = device.merge_feature_maps_backward(grad, maps, **options).maps
    assert float(found[-1][0, 0, 0, 0]) == 6
    assert not any(g.any() for g in found[:-1])
    same = device.merge_feature_maps_backward(grad, maps[:-1], **options).maps
    assert abs(same[0].sum() - 6) < 1e-5
    assert not any(g.any() for g in same[1:])


@pytest.mark.parametrize("dtype", [FLOAT16, BFLOAT16], ids=str)
def test_half_types_accumulate_in_float32(device: Any, dtype: np.dtype) -> None:
    # A half accumulator would stop growing at 2048 (256 for bfloat16), and one that is rounded between launches too.
    maps = [np.full((1, 1, 1, 1), 256, dtype)] + [np.ones((1, 1, 1, 1), dtype)] * 256
    assert float(device.merge_feature_maps(maps, how="add")[0, 0, 0, 0]) == 512
    x = np.full((1, 1, 64, 64), 3, dtype)
    assert float(device.resize2d(x, 1, mode="area")[0, 0, 0, 0]) == 3
    grad = np.ones((1, 1, 64, 64), dtype)
    assert float(device.resize2d_backward(grad, np.ones((1, 1, 1, 1), dtype), 64).input[0, 0, 0, 0]) == 4096


@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
@pytest.mark.parametrize("how", HOWS)
def test_equal_bits_in_any_order(device: Any, how: str, layout: str) -> None:
    size = (14, 15) if how == "flat" else (12, 14)
    case = build(
        "merge_feature_maps", [(12, 9), (5, 14), (3, 4)], how=how, size=size, layout=layout, channels=13, dtype=FLOAT32
    )
    grad = case.grad(case.call(ao).shape)
    found = set()
    for order, seed in (("fifo", 1), ("lifo", 1), ("random", 1), ("random", 2)):
        with device.order(order, seed):
            found.add((case.call(device).tobytes(), *(g.tobytes() for g in gradients(case, device, grad))))
    assert len(found) == 1


@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
@pytest.mark.parametrize("how", ["concat", "add", "max", "flat"])
@pytest.mark.parametrize("zero", ["batch", "channels"])
def test_zero_sizes(device: Any, zero: str, how: str, layout: str) -> None:
    """As on the CPU; one map of a concatenation may lack channels too."""
    options: dict[str, Any] = {"how": how, "layout": layout, "size": (6, 7)}
    if zero == "batch":
        options["batch"] = 0
    else:
        options["channels"] = [2, 0, 3] if how == "concat" else 0
    check_merge(device, build("merge_feature_maps", [(4, 5), (2, 3), (6, 2)], **options))


@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
def test_views_that_repeat_one_element(device: Any, layout: str) -> None:
    case = build("merge_feature_maps", [(4, 5), (2, 3)], how="add", layout=layout)
    views = [np.broadcast_to(x[..., :1], x.shape) for x in maps_of(case)]
    copies = [x.copy() for x in views]
    assert with_maps(case, *views).call(device).tobytes() == with_maps(case, *copies).call(device).tobytes()


def macros(name: str) -> list[dict[str, Any]]:
    """Of each unit with a kernel of this name that was asked for."""
    return [dict(found.identity.defines) for found in cuda_device.kernels() if found.identity.name == name]


@pytest.mark.parametrize(
    ("how", "dtype", "channels"),
    [row.values() for row in pairwise({"how": ("concat", "mean", "max"), "dtype": DTYPES, "channels": (16, 100, 14)})],
    ids=str,
)
def test_four_channels_at_once(device: Any, how: str, dtype: np.dtype, channels: int) -> None:
    """Where all of them are aligned, and with the bits of one at a time."""
    sizes = [(5, 4), (2, 3), (3, 5), (3, 3), (1, 2)]
    options: dict[str, Any] = {"how": how, "channels": channels, "dtype": dtype, "batch": 1, "size": (6, 5)}
    case = build("merge_feature_maps", sizes, layout="NHWC", **options)
    got = check_merge(device, case)
    assert any("VECTORIZED" in found for found in macros("merge_resize")) == (channels % 4 == 0)
    turned = make("merge_feature_maps", [x.transpose(0, 3, 1, 2) for x in maps_of(case)], {**case.options}, dtype)
    turned.options["layout"] = "NCHW"
    output = turned.call(device)
    assert output.transpose(0, 2, 3, 1).tobytes() == got[0].tobytes()
    for one, other in zip(
        gradients(turned, device, case.grad(got[0].shape).transpose(0, 3, 1, 2)), got[1:], strict=True
    ):
        assert one.transpose(0, 2, 3, 1).tobytes() == other.tobytes()


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_channels_that_are_not_aligned_are_taken_one_by_one(device: Any, dtype: np.dtype) -> None:
    """Fours of channels that begin in the middle of four."""
    case = build("merge_feature_maps", [(2, 3), (3, 5), (2, 2)], layout="NHWC", channels=[2, 8, 2], dtype=dtype)
    check_merge(device, case)
    assert not any("VECTORIZED" in found for found in macros("merge_resize"))


@pytest.mark.parametrize(("channels", "each"), [(16, 16), (12, 8), (6, 4), (5, 2)])
@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
def test_copies_take_what_fits_at_once(device: Any, layout: str, channels: int, each: int) -> None:
    shape = (2, 3, 4, channels)
    x = np.random.default_rng(0).standard_normal(shape).astype(FLOAT16)
    assert device.resize2d(x, shape[2:] if layout == "NCHW" else shape[1:3], layout=layout).tobytes() == x.tobytes()
    assert [found["ITEM_BYTES"] for found in macros("merge_copy")] == [each]


@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
def test_more_blocks_of_channels_than_an_axis_of_the_grid_has(
    device: Any, layout: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(image_threads, "MAX_BLOCKS_YZ", 3)
    case = build("merge_feature_maps", [(3, 4), (2, 2)], channels=[230, 331], layout=layout, dtype=FLOAT32, batch=1)
    check_merge(device, case)


@pytest.mark.parametrize("operator", OPERATORS)
def test_needs(device: Any, operator: str) -> None:
    case = build(operator, [(4, 5)], size=(6, 7))
    grad = case.grad((2, 3, 6, 7))
    field = "input" if operator == "resize2d" else "maps"
    assert gradients(case, device, grad, needs=()) == [None]
    whole, got = gradients(case, device, grad), gradients(case, device, grad, needs=(field,))
    assert [a.tobytes() for a in got] == [a.tobytes() for a in whole]


def test_nothing_of_the_size_of_a_resized_map_is_stored(device: Any) -> None:
    """Beside results and tables: but for the gradient of max, which takes a byte an element."""
    case = build("merge_feature_maps", [(16, 16), (8, 8), (4, 4)], how="add", channels=8, dtype=FLOAT32)
    for how, more in (("add", 0), ("mean", 0), ("concat", 0), ("max", 1)):
        case.options["how"] = how
        given = case.grad((2, 24 if how == "concat" else 8, 16, 16))
        placed = given.nbytes + sum(x.nbytes for x in maps_of(case))
        case.call(device)  # tables are made
        gradients(case, device, given)
        with cuda_device.allocations() as sizes:
            output = case.call(device)
        assert sum(sizes) == placed - given.nbytes + output.nbytes, how
        with cuda_device.allocations() as sizes:
            gradients(case, device, given)
        assert sum(sizes) == placed + sum(x.nbytes for x in maps_of(case)) + more * output.size, how
