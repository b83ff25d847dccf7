"""Outputs and gradients that the reference code of pixel-adaptive convolution produced, in float64.

``vectors/*.npz`` hold settings under ``meta`` (JSON, one for each configuration) and arrays as ``<number>_<name>``.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

VECTORS = Path(__file__).parent / "vectors"
PAC = json.loads(str(np.load(VECTORS / "pacnet_vectors.npz")["meta"]))
CRF = json.loads(str(np.load(VECTORS / "paccrf_vectors.npz")["meta"]))
LAYERS = {"conv": "PacConv2d", "convt": "PacConvTranspose2d", "pool": "PacPool2d", "kernel": "PacPool2d"}
TOLERANCE = 1e-10


def arrays_of(torch: Any, file: str, number: int) -> dict[str, Any]:
    """The tensors of one configuration by their names."""
    with np.load(VECTORS / file) as vectors:
        prefix = f"{number}_"
        return {
            name.removeprefix(prefix): torch.from_numpy(vectors[name])
            for name in vectors.files
            if name.startswith(prefix)
        }


def assert_equal(torch: Any, result: Any, expected: Any) -> None:
    assert result.dtype is torch.float64
    torch.testing.assert_close(result, expected, rtol=TOLERANCE, atol=TOLERANCE)


@pytest.mark.parametrize(
    "number", range(len(PAC)), ids=[f"{i} {meta['kind']} {meta['kt']}" for i, meta in enumerate(PAC)]
)
def test_pac(torch: Any, layers: Any, number: int) -> None:
    meta, arrays = PAC[number], arrays_of(torch, "pacnet_vectors.npz", number)
    kind = meta["kind"]
    channels = arrays["x"].shape[1]
    arguments = {
        "kernel_size": tuple(meta["k"]),
        "stride": tuple(meta["s"]),
        "padding": tuple(meta["p"]),
        "dilation": tuple(meta["d"]),
        "kernel_type": meta["kt"],
        "smooth_kernel_type": meta["smooth"],
        "normalize_kernel": meta["norm"],
    }
    if kind in ("pool", "kernel"):
        arguments.update(channel_wise=meta["cw"], out_channels=channels)
    else:
        arguments.update(in_channels=channels, out_channels=len(arrays["b"]), shared_filters=meta["shared"])
    if kind == "convt":
        arguments["output_padding"] = tuple(meta["op"])
    layer = getattr(layers, LAYERS[kind])(**arguments).double()

    # The file has the weight of pooling and kernels too, where it means nothing, and smoothing kernels without axes.
    entries = {"weight": "w", "bias": "b"} if kind in ("conv", "convt") else {}
    entries.update(inv_alpha="al", inv_lambda="la", smooth_kernel="sm")
    state = {name: arrays[key] for name, key in entries.items() if key in arrays}
    if "smooth_kernel" in layer.state_dict():
        smooth = state.get("smooth_kernel", layer.smooth_kernel.detach())
        state["smooth_kernel"] = smooth[None, None]
    layers.load_pacnet_state_dict(layer, state)

    guide, mask = arrays["g"].requires_grad_(), arrays.get("m")
    if kind == "kernel":
        sources = {"g": guide}
        output, output_mask = layer.compute_kernel(guide, mask)
    else:
        sources = {"x": arrays["x"].requires_grad_(), "g": guide}
        found = layer(arrays["x"], guide, mask=mask)
        output, output_mask = (found, None) if mask is None else found
    assert_equal(torch, output, arrays["y"])
    if mask is not None:
        torch.testing.assert_close(output_mask, arrays["om"])
    output.backward(arrays["gy"])
    for name, source in sources.items():
        assert_equal(torch, source.grad, arrays[f"d{name}"])
    for name, parameter in layer.named_parameters():
        expected = arrays[f"d{entries[name]}"]
        if kind == "convt" and name == "weight":
            expected = expected.flip(2, 3)
        assert_equal(torch, parameter.grad, expected.reshape(parameter.shape))


@pytest.mark.parametrize("number", range(len(CRF)))
def test_crf(torch: Any, layers: Any, number: int) -> None:
    meta, arrays = CRF[number], arrays_of(torch, "paccrf_vectors.npz", number)
    settings = {"kernel_size": 3, "dilation": meta["dilation"], "blur": meta["blur"], "compat_type": meta["compat"]}
    first = {**settings, "spatial_filter": meta["spatial"], "pairwise_weight": 0.7}
    second = {"kernel_size": 5, "compat_type": "potts", "spatial_filter": False, "pairwise_weight": 0.4}
    kind = layers.PacCRFLoose if meta["loose"] else layers.PacCRF
    crf = kind(4, 3, fixed_weighting=meta["fixed"], unary_weight=0.8, pairwise_kernels=[first, second]).double()
    state = {name.removeprefix("p_"): array for name, array in arrays.items() if name.startswith("p_")}
    done = layers.load_pacnet_state_dict(crf, state)
    assert sorted(done.unchanged) == sorted(state)

    unary = arrays["u"].requires_grad_()
    features = [arrays[name].requires_grad_() for name in ("f0", "f1")]
    output = crf(unary, features)
    assert_equal(torch, output, arrays["y"])
    output.backward(arrays["gy"])
    assert_equal(torch, unary.grad, arrays["du"])
    for i, source in enumerate(features):
        if arrays[f"df{i}"].numel():
            assert_equal(torch, source.grad, arrays[f"df{i}"])
        else:
            assert source.grad is None
    gradients = {name: parameter.grad for name, parameter in crf.named_parameters() if parameter.grad is not None}
    expected = {name.removeprefix("d_"): array for name, array in arrays.items() if name.startswith("d_")}
    assert gradients.keys() == expected.keys()
    for name, gradient in gradients.items():
        assert_equal(torch, gradient, expected[name])
