"""What must hold between calls of resize2d and merge_feature_maps, whatever the oracle says."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

import arrayops as ao
from case import Case
from memory_probe import ROOM, WORKSPACE, extra_memory
from merge_cases import HOWS, SAMPLINGS, build, gradients, maps_of, with_maps
from optional import optional
from strategies import FLOAT16, FLOAT32, FLOAT64
from tolerances import assert_close

torch = optional("torch")
F = optional("torch.nn.functional")

SIZES = [(15, 15), (6, 17), (40, 3)]


@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
@pytest.mark.parametrize("sampling", SAMPLINGS, ids=str)
def test_merging_is_resizing_then_reducing(sampling: dict[str, Any], layout: str) -> None:
    axis = layout.index("C")
    resized = {
        "concat": lambda each: np.concatenate(each, axis),
        "add": lambda each: each[0] + each[1] + each[2],
        "mean": lambda each: (each[0] + each[1] + each[2]) / 3,
        "max": lambda each: np.maximum(np.maximum(each[0], each[1]), each[2]),
    }
    for how, reduce in resized.items():
        case = build("merge_feature_maps", SIZES, how=how, size=(21, 16), layout=layout, **sampling)
        each = [ao.resize2d(x, (21, 16), layout=layout, **sampling) for x in maps_of(case)]
        assert_close(case.call(ao), reduce(each), FLOAT64)


@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
@pytest.mark.parametrize("dtype", [FLOAT64, FLOAT16], ids=str)
@pytest.mark.parametrize("how", ["add", "mean"])
def test_sums_over_many_tiles(how: str, dtype: np.dtype, layout: str) -> None:
    """Maps that need all of rows and columns resized, one of both, or none, in several bands of each."""
    size = (130, 413)
    sizes = [(60, 200), size, (130, 90), (31, 413), (7, 9)]
    case = build("merge_feature_maps", sizes, how=how, size=size, dtype=dtype, layout=layout)
    each = [ao.resize2d(x.astype(np.float64), size, layout=layout) for x in maps_of(case)]
    assert_close(case.call(ao), sum(each) / (5 if how == "mean" else 1), dtype)
    grad = case.grad(each[0].shape)
    for got, x in zip(gradients(case, ao, grad), maps_of(case), strict=True):
        wide = ao.resize2d_backward(grad.astype(np.float64), x.astype(np.float64), size, layout=layout).input
        assert_close(got, wide / (5 if how == "mean" else 1), dtype)


@pytest.mark.parametrize("sampling", SAMPLINGS, ids=str)
def test_constants_stay_constant(sampling: dict[str, Any]) -> None:
    """Weights of an output sum to one."""
    for size, target in (((5, 9), (12, 4)), ((100, 3), (7, 70))):
        np.testing.assert_allclose(ao.resize2d(np.full((1, 1, *size), 7.0), target, **sampling), 7, rtol=1e-14)


@pytest.mark.parametrize("mode", ["bilinear", "bicubic"])
def test_corners_are_aligned(mode: Any) -> None:
    x = np.random.default_rng(0).standard_normal((1, 1, 5, 6))
    for target in ((9, 14), (3, 2)):
        y = ao.resize2d(x, target, mode=mode, coordinates="align_corners")
        assert (y[..., :: target[0] - 1, :: target[1] - 1] == x[..., ::4, ::5]).all()
    # Samples that outputs fall on come through as they are.
    np.testing.assert_array_equal(ao.resize2d(x, (9, 11), mode=mode, coordinates="align_corners")[..., ::2, ::2], x)


def test_bilinear_keeps_straight_lines() -> None:
    ramp = np.broadcast_to(np.linspace(0, 1, 11), (1, 1, 7, 11))
    want = np.broadcast_to(np.linspace(0, 1, 31), (1, 1, 4, 31))
    np.testing.assert_allclose(ao.resize2d(ramp, (4, 31), coordinates="align_corners"), want, atol=1e-15)


def test_area_of_whole_blocks_is_their_mean() -> None:
    x = np.random.default_rng(0).standard_normal((2, 3, 12, 20))
    want = x.reshape(2, 3, 4, 3, 5, 4).mean(axis=(3, 5))
    assert_close(ao.resize2d(x, (4, 5), mode="area"), want, FLOAT64)


@pytest.mark.parametrize("how", HOWS)
def test_nhwc_equals_nchw(how: str) -> None:
    size = (50, 20) if how == "flat" else (21, 16)
    nchw, nhwc = (build("merge_feature_maps", SIZES, how=how, size=size, layout=name) for name in ("NCHW", "NHWC"))
    output = nchw.call(ao)
    assert_close(nhwc.call(ao).transpose(0, 3, 1, 2), output, FLOAT64)
    grad = nchw.grad(output.shape)
    for a, b in zip(gradients(nchw, ao, grad), gradients(nhwc, ao, grad.transpose(0, 2, 3, 1)), strict=True):
        assert_close(b.transpose(0, 3, 1, 2), a, FLOAT64)


@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
def test_images_of_a_batch_are_independent(layout: str) -> None:
    case = build("merge_feature_maps", SIZES, how="mean", batch=3, layout=layout)
    whole = case.call(ao)
    for n in range(3):
        assert with_maps(case, *(x[n : n + 1] for x in maps_of(case))).call(ao).tobytes() == whole[n : n + 1].tobytes()


# Shapes of several tiles along every axis.
LARGE: dict[str, dict[str, Any]] = {
    "skip connection": {"sizes": [(28, 28), (14, 14), (7, 7)], "channels": 96},
    "channels of their own": {"sizes": [(56, 40), (20, 90)], "channels": [70, 3], "size": (64, 64)},
    "wide up": {"sizes": [(60, 200)], "size": (130, 413), "mode": "bicubic"},
    "wide down": {"sizes": [(300, 410)], "size": (50, 77), "mode": "bicubic", "antialias": True},
    "one axis up": {"sizes": [(300, 20)], "size": (40, 200), "mode": "bilinear", "antialias": True},
    "long": {"sizes": [(1, 6000), (6000, 1)], "size": (3, 2500)},
    "to a point": {"sizes": [(400, 500)], "size": (1, 1), "mode": "area"},
    "from a point": {"sizes": [(1, 1)], "size": (200, 301), "mode": "bicubic"},
    "many channels": {"sizes": [(9, 9), (4, 5)], "channels": 1500},
}


def large(name: str, layout: str, dtype: Any = FLOAT32, **more: Any) -> Case:
    options = {**LARGE[name], **more}
    return build("merge_feature_maps", options.pop("sizes"), dtype=dtype, layout=layout, **options)


@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
@pytest.mark.parametrize("dtype", [FLOAT32, FLOAT16], ids=str)
@pytest.mark.parametrize("name", LARGE)
def test_many_tiles_equal_torch(name: str, dtype: np.dtype, layout: str) -> None:
    case = large(name, layout, dtype)
    output = case.call(ao)
    tensors = [torch.from_numpy(x.astype(np.float64)).requires_grad_() for x in maps_of(case)]
    options = {"mode": "bilinear", "antialias": False, **case.options}
    size = output.shape[2:] if layout == "NCHW" else output.shape[1:3]
    images = tensors if layout == "NCHW" else [x.permute(0, 3, 1, 2) for x in tensors]
    want = torch.cat(
        [F.interpolate(x, size, mode=options["mode"], antialias=options["antialias"]) for x in images], dim=1
    )
    want = want if layout == "NCHW" else want.permute(0, 2, 3, 1)
    assert_close(output, want.detach().numpy(), dtype)
    grad = case.grad(output.shape)
    found = torch.autograd.grad(want, tensors, torch.from_numpy(grad.astype(np.float64)))
    for got, expected in zip(gradients(case, ao, grad), found, strict=True):
        assert_close(got, expected.numpy(), dtype)


@pytest.fixture
def threads() -> Iterator[None]:
    """Whatever a test does to the number of threads ends with it."""
    yield
    ao.set_num_threads(None)


@pytest.mark.slow
@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
@pytest.mark.parametrize("how", HOWS)
def test_same_bits_for_every_number_of_threads(how: str, layout: str, threads: None) -> None:
    cases = [large("skip connection", layout, how=how, **({"size": (40, 50)} if how == "flat" else {}))]
    if how == "concat":
        cases += [large(name, layout) for name in LARGE]

    def every_bit(case: Case) -> list[bytes]:
        output = case.call(ao)
        return [array.tobytes() for array in (output, *gradients(case, ao, case.grad(output.shape)))]

    for case in cases:
        ao.set_num_threads(1)
        want = every_bit(case)
        for count in (2, 5, 2):
            ao.set_num_threads(count)
            assert every_bit(case) == want, (count, case)


@pytest.mark.slow
@pytest.mark.parametrize("dtype", ["np.float32", "np.float16"])
@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
@pytest.mark.parametrize(
    ("setup", "calls"),
    [
        (
            "maps = [array(2, 128, 160, 160), array(2, 128, 80, 80)]",
            "[ao.merge_feature_maps(maps, how=how, **keywords) for how in ('concat', 'mean')]",
        ),
        (
            "maps = [array(2, 128, 160, 160), array(2, 128, 80, 80)]; grad = array(2, 256, 160, 160)",
            "ao.merge_feature_maps_backward(grad, maps, **keywords).maps",
        ),
        ("x = array(1, 3, 4000, 3000)", "[ao.resize2d(x, 16, antialias=True, **keywords)]"),
        ("x = array(2, 4096, 28, 28)", "[ao.resize2d(x, 56, **keywords)]"),
    ],
    ids=["forward", "backward", "photo to thumbnail", "many channels"],
)
def test_extra_memory(setup: str, calls: str, layout: str, dtype: str) -> None:
    """No resized map is stored: the second of the first call would be 25 MiB, and copies of halves 100 MiB."""
    pytest.importorskip("resource", reason="this system does not tell peak memory")
    arrange = (
        f"plain = array\n"
        f"def array(n, c, h, w): return plain(*((n, c, h, w) if {layout == 'NCHW'} else (n, h, w, c)), dtype={dtype})\n"
        f"keywords = dict(layout={layout!r})\n"
        f"ao.resize2d(array(1, 2, 8, 8), 4, **keywords)\n"
    )
    assert extra_memory(arrange + setup, calls) <= WORKSPACE // 4 + ROOM
