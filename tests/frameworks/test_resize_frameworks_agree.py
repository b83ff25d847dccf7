"""resize2d beside torch interpolate and ONNX Resize: whole matrices of one axis, and random images with gradients."""

from __future__ import annotations

from typing import Any

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given
from numpy.testing import assert_allclose

import arrayops as ao
from optional import optional
from strategies import examples
from tolerances import RELATIVE

torch = optional("torch")
F = optional("torch.nn.functional")

# Keywords of arrayops, and of torch.
TORCH: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "nearest": ({"mode": "nearest", "coordinates": "asymmetric"}, {"mode": "nearest"}),
    "nearest-exact": ({"mode": "nearest"}, {"mode": "nearest-exact"}),
    "area": ({"mode": "area"}, {"mode": "area"}),
    **{
        f"{mode}{' align_corners' * corners}{' antialias' * antialias}": (
            {
                "mode": mode,
                "coordinates": "align_corners" if corners else "half_pixel",
                "antialias": antialias,
            },
            {"mode": mode, "align_corners": corners, "antialias": antialias},
        )
        for mode in ("bilinear", "bicubic")
        for corners in (False, True)
        for antialias in (False, True)
    },
}


SIZES = (1, 2, 3, 4, 5, 7, 8, 10, 13, 16, 21, 32, 33, 47, 64)


@pytest.mark.parametrize("name", TORCH)
def test_every_weight_is_torchs(name: str) -> None:
    mine, theirs = TORCH[name]
    for inputs in SIZES:
        units = np.concatenate([np.eye(inputs)] * (4 // inputs + 1))[None, :, None, :]  # 4 channels at least
        # Torch's nearest differs from itself, between memory formats, where an output lies between two samples.
        tensor = torch.from_numpy(units).contiguous(
            memory_format=torch.channels_last if "nearest" in name else torch.contiguous_format
        )
        for outputs in SIZES:
            want = F.interpolate(tensor, size=(1, outputs), **theirs).numpy()
            assert_allclose(ao.resize2d(units, (1, outputs), **mine), want, rtol=0, atol=1e-13)


@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("name", TORCH)
@examples(15)
@given(data=st.data())
def test_random_sizes_equal_torch(name: str, dtype: Any, layout: str, data: st.DataObject) -> None:
    """Up, down, and one axis up while the other goes down; forward and gradient."""
    mine, theirs = TORCH[name]
    # Of images one pixel wide, torch 2.13 repeats the first row where it antialiases.
    least = 1, 2 if "antialias" in name else 1
    size, target = (tuple(data.draw(st.integers(low, 40)) for low in least) for _ in range(2))
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32 - 1)))
    x, grad = (rng.standard_normal((2, 4, *extent)).astype(dtype) for extent in (size, target))
    tensor = torch.from_numpy(x.astype(np.float64)).requires_grad_()
    want = F.interpolate(tensor, size=target, **theirs)
    (want_grad,) = torch.autograd.grad(want, tensor, torch.from_numpy(grad.astype(np.float64)))
    arrays = [x, grad] if layout == "NCHW" else [np.ascontiguousarray(a.transpose(0, 2, 3, 1)) for a in (x, grad)]
    found = (
        ao.resize2d(arrays[0], target, layout=layout, **mine),
        ao.resize2d_backward(arrays[1], arrays[0], target, layout=layout, **mine).input,
    )
    # Sums cancel where a cubic kernel is negative: relative to what comes in.
    for got, expected, source in zip(found, (want.detach(), want_grad), (x, grad), strict=True):
        expected = expected.numpy() if layout == "NCHW" else expected.numpy().transpose(0, 2, 3, 1)
        scale = max(np.linalg.norm(expected), np.linalg.norm(source) * min(1, (expected.size / source.size) ** 0.5))
        assert np.linalg.norm(got - expected) <= RELATIVE[np.dtype(dtype)] * scale


NEAREST = {"half_pixel": "round_prefer_ceil", "align_corners": "round_prefer_ceil", "asymmetric": "floor"}
ONNX: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    **{
        f"{mode} {coordinates}": (
            {"mode": mode, "coordinates": coordinates},
            {
                "mode": {"bilinear": "linear", "bicubic": "cubic"}.get(mode, mode),
                "coordinate_transformation_mode": coordinates,
                **({"nearest_mode": NEAREST[coordinates]} if mode == "nearest" else {}),
            },
        )
        for mode in ("nearest", "bilinear", "bicubic")
        for coordinates in NEAREST
    },
    **{
        f"{mode} {coordinates} antialias": (
            {"mode": mode, "coordinates": coordinates, "antialias": True},
            {
                "mode": {"bilinear": "linear", "bicubic": "cubic"}[mode],
                "coordinate_transformation_mode": coordinates,
                "antialias": 1,
                "exclude_outside": 1,
                "cubic_coeff_a": -0.5,
            },
        )
        for mode in ("bilinear", "bicubic")
        for coordinates in ("half_pixel", "asymmetric")
    },
}


@pytest.fixture(scope="module")
def onnx() -> Any:
    module = pytest.importorskip("onnx", reason="onnx is not installed")
    pytest.importorskip("onnx.reference", reason="onnx is not installed")
    return module


@pytest.mark.parametrize("name", ONNX)
def test_random_sizes_equal_onnx(name: str, onnx: Any) -> None:
    """The reference evaluator, in float32; the gradient is that of the matrix, which units show."""
    mine, theirs = ONNX[name]
    make, floats = onnx.helper, onnx.TensorProto.FLOAT
    node = make.make_node("Resize", ["x", "", "", "sizes"], ["y"], **theirs)
    inputs = [
        make.make_tensor_value_info("x", floats, [None] * 4),
        make.make_tensor_value_info("sizes", onnx.TensorProto.INT64, [4]),
    ]
    graph = make.make_graph([node], "resize", inputs, [make.make_tensor_value_info("y", floats, [None] * 4)])
    model = make.make_model(graph, opset_imports=[make.make_opsetid("", 19)])
    evaluator = onnx.reference.ReferenceEvaluator(model)
    rng = np.random.default_rng(len(name))
    for _ in range(6):
        size, target = rng.integers(1, 9, 2), rng.integers(1, 12, 2)
        x = rng.standard_normal((1, 1, *size)).astype(np.float32)
        (want,) = evaluator.run(None, {"x": x, "sizes": np.array([1, 1, *target])})
        assert_allclose(ao.resize2d(x, tuple(map(int, target)), **mine), want, rtol=0, atol=2e-5)
    for old, new in ((5, 12), (9, 4), (3, 3), (1, 4), (4, 1)):
        units = np.eye(old, dtype=np.float32)[:, None, None, :]
        want = np.concatenate(
            [evaluator.run(None, {"x": u[None], "sizes": np.array([1, 1, 1, new])})[0] for u in units]
        )
        found = ao.resize2d_backward(
            np.eye(new, dtype=np.float32)[:, None, None, :], np.zeros((new, 1, 1, old), np.float32), (1, new), **mine
        )
        assert_allclose(found.input[:, 0, 0], want[:, 0, 0].T, rtol=0, atol=2e-5)
