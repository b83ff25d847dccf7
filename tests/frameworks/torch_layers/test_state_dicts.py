"""Checkpoints of the reference code: what `load_pacnet_state_dict` converts, refuses and says."""

from __future__ import annotations

import io
from collections import OrderedDict
from typing import Any

import pytest

import arrayops as ao
from torch_layer_cases import CASES


@pytest.fixture
def network(torch: Any, layers: Any) -> Any:
    """A network with layers of every kind at several depths."""
    return torch.nn.ModuleDict(
        {
            "encoder": torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), layers.PacConv2d(4, 4, 3, bias=False)),
            "up": torch.nn.ModuleList(
                [
                    layers.PacConvTranspose2d(4, 6, 5, smooth_kernel_type="full_3", kernel_type="inv_1_1"),
                    layers.PacConvTranspose2d(4, 4, (3, 5), shared_filters=True, smooth_kernel_type="gaussian"),
                ]
            ),
            "pool": layers.PacPool2d(3, smooth_kernel_type="average_5"),
            "plain": torch.nn.ConvTranspose2d(4, 2, 3),
            "crf": layers.PacCRF(4, 1, pairwise_kernels={"compat_type": "2d"}),
        }
    )


FLIPPED = ["up.0.weight", "up.1.weight"]
RESHAPED = ["up.0.smooth_kernel", "up.1.smooth_kernel", "pool.smooth_kernel"]


def checkpoint_of(torch: Any, network: Any) -> dict[str, Any]:
    """Random tensors with the names and shapes of the reference code."""
    found = OrderedDict((name, torch.randn(tensor.shape)) for name, tensor in network.state_dict().items())
    for name in RESHAPED:
        found[name] = found[name][None, None]
    return found


def test_converts(torch: Any, layers: Any, network: Any) -> None:
    checkpoint = checkpoint_of(torch, network)
    before = {name: tensor.clone() for name, tensor in checkpoint.items()}
    done = layers.load_pacnet_state_dict(network, checkpoint)
    assert done.flipped == FLIPPED
    assert sorted(done.reshaped) == sorted(RESHAPED)
    assert sorted(done.unchanged) == sorted({*checkpoint} - {*FLIPPED, *RESHAPED})
    assert done.missing_keys == done.unexpected_keys == []
    for name, tensor in network.state_dict().items():
        expected = before[name].flip(2, 3) if name in FLIPPED else before[name]
        torch.testing.assert_close(tensor, expected[0, 0] if name in RESHAPED else expected, rtol=0, atol=0)
    assert {name: tensor.shape for name, tensor in checkpoint.items()} == {n: t.shape for n, t in before.items()}
    for name, tensor in checkpoint.items():
        torch.testing.assert_close(tensor, before[name], rtol=0, atol=0)


def test_says_what_it_did(torch: Any, layers: Any, network: Any) -> None:
    text = str(layers.load_pacnet_state_dict(network, checkpoint_of(torch, network)))
    assert "2 spatially reversed (filters of transposed convolutions): up.0.weight, up.1.weight" in text
    assert "3 leading axes dropped (smoothing kernels): up.0.smooth_kernel" in text
    assert "loaded as they are: encoder.0.weight" in text


def test_result_is_that_of_the_reversed_filter(torch: Any, layers: Any) -> None:
    """The reference code applies the filter in the other direction, here spelled out by stuffing zeros."""
    layer = layers.PacConvTranspose2d(4, 6, 5, 2, 2, 1, bias=False, dtype=torch.float64)
    weight = torch.randn(4, 6, 5, 5, dtype=torch.float64)
    layers.load_pacnet_state_dict(layer, {"weight": weight})
    image, guide = (tensor.double() for tensor in CASES["transposed"].tensors())
    kernel, _ = layer.compute_kernel(guide)
    stuffed = torch.zeros(2, 4, 14, 18, dtype=torch.float64)
    stuffed[:, :, ::2, ::2] = image
    expected = ao.pac_conv2d(stuffed, None, weight.transpose(0, 1).contiguous(), kernel=kernel, padding=2)
    torch.testing.assert_close(layer(image, guide), expected, rtol=1e-12, atol=1e-12)


class TestStrictness:
    def test_missing_and_unexpected(self, torch: Any, layers: Any, network: Any) -> None:
        checkpoint = checkpoint_of(torch, network)
        del checkpoint["up.0.weight"]
        checkpoint["head.weight"] = torch.zeros(3)
        with pytest.raises(RuntimeError, match=r"Missing key\(s\) in state_dict: \"up.0.weight\"") as error:
            layers.load_pacnet_state_dict(network, checkpoint)
        assert 'Unexpected key(s) in state_dict: "head.weight"' in str(error.value)
        done = layers.load_pacnet_state_dict(network, checkpoint, strict=False)
        assert done.missing_keys == ["up.0.weight"]
        assert done.unexpected_keys == ["head.weight"]
        assert done.flipped == ["up.1.weight"]
        assert "head.weight" not in done.unchanged
        assert "1 missing in the state dict: up.0.weight\n1 not in the module: head.weight" in str(done)

    def test_other_shapes(self, torch: Any, layers: Any, network: Any) -> None:
        checkpoint = checkpoint_of(torch, network)
        checkpoint["up.0.weight"] = torch.zeros(4, 6, 3, 3)
        with pytest.raises(RuntimeError, match=r"size mismatch for up.0.weight"):
            layers.load_pacnet_state_dict(network, checkpoint)

    def test_smoothing_kernels_of_the_reference_do_not_fit_unconverted(
        self, torch: Any, layers: Any, network: Any
    ) -> None:
        with pytest.raises(RuntimeError, match=r"size mismatch for up.0.smooth_kernel"):
            network.load_state_dict(checkpoint_of(torch, network))


class TestWrongLoader:
    def test_own_checkpoint(self, torch: Any, layers: Any, network: Any) -> None:
        """Its filters would be reversed."""
        with pytest.raises(ValueError, match=r"saved by a layer of arrayops \(up.0\), expected one of the reference"):
            layers.load_pacnet_state_dict(network, network.state_dict())
        pool = layers.PacPool2d(3, smooth_kernel_type="average_5")
        with pytest.raises(ValueError, match=r"saved by a layer of arrayops \(the module\)"):
            layers.load_pacnet_state_dict(pool, dict(pool.state_dict()))

    def test_own_checkpoint_from_a_file(self, torch: Any, layers: Any, network: Any) -> None:
        file = io.BytesIO()
        torch.save(network.state_dict(), file)
        file.seek(0)
        with pytest.raises(ValueError, match="saved by a layer of arrayops"):
            layers.load_pacnet_state_dict(network, torch.load(file))

    def test_checkpoint_of_another_class(self, torch: Any, layers: Any) -> None:
        """torch notes the version of a class beside its entries; the reference's layers have the default."""

        class PacConvTranspose2d(torch.nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.weight = torch.nn.Parameter(torch.randn(4, 6, 5, 5))
                self.bias = torch.nn.Parameter(torch.randn(6))

        theirs, ours = torch.nn.Sequential(PacConvTranspose2d()), torch.nn.Sequential(CASES["transposed"].layer())
        with pytest.warns(UserWarning, match=r"state dict for 0\. was saved by another class.*load_pacnet_state_dict"):
            ours.load_state_dict(theirs.state_dict())
        done = layers.load_pacnet_state_dict(ours, theirs.state_dict())
        assert done.flipped == ["0.weight"]
        torch.testing.assert_close(ours[0].weight, theirs[0].weight.flip(2, 3), rtol=0, atol=0)

    def test_own_checkpoints_load_without_a_warning(self, torch: Any, layers: Any, network: Any) -> None:
        network.load_state_dict(network.state_dict())
        network.load_state_dict(dict(network.state_dict()))


def test_layer_under_two_names(torch: Any, layers: Any) -> None:
    """A state dict has an entry for each."""
    layer = layers.PacConvTranspose2d(4, 6, 5, smooth_kernel_type="full_3")
    network = torch.nn.ModuleDict({"first": layer, "second": layer})
    weight, smooth, bias = torch.randn(4, 6, 5, 5), torch.randn(1, 1, 3, 3), torch.randn(6)
    entries = {"weight": weight, "smooth_kernel": smooth, "bias": bias}
    done = layers.load_pacnet_state_dict(
        network, {f"{name}.{key}": tensor for name in network for key, tensor in entries.items()}
    )
    assert done.flipped == ["first.weight", "second.weight"]
    torch.testing.assert_close(layer.weight, weight.flip(2, 3), rtol=0, atol=0)
    torch.testing.assert_close(layer.smooth_kernel, smooth[0, 0], rtol=0, atol=0)


def test_weights_that_torch_computes(torch: Any, layers: Any) -> None:
    layer = torch.nn.utils.parametrizations.weight_norm(layers.PacConvTranspose2d(4, 6, 5, bias=False))
    direction, length = torch.randn(4, 6, 5, 5), torch.rand(4, 1, 1, 1)
    state = {"parametrizations.weight.original0": length, "parametrizations.weight.original1": direction}
    layers.load_pacnet_state_dict(layer, state)
    norm = direction.flatten(1).norm(dim=1)[:, None, None, None]
    torch.testing.assert_close(layer.weight, (length * direction / norm).flip(2, 3))


def test_assigned_to_a_module_without_memory(torch: Any, layers: Any) -> None:
    layer = layers.PacConvTranspose2d(4, 6, 5, device="meta")
    weight = torch.randn(4, 6, 5, 5)
    layers.load_pacnet_state_dict(layer, {"weight": weight, "bias": torch.randn(6)}, assign=True)
    assert {parameter.device.type for parameter in layer.parameters()} == {"cpu"}
    torch.testing.assert_close(layer.weight, weight.flip(2, 3), rtol=0, atol=0)


def test_parallel_wrappers(torch: Any, layers: Any, network: Any) -> None:
    """A state dict that DataParallel saved, whose names begin with "module."."""
    checkpoint = checkpoint_of(torch, network)
    prefixed = OrderedDict((f"module.{name}", tensor) for name, tensor in checkpoint.items())
    done = layers.load_pacnet_state_dict(torch.nn.DataParallel(network), prefixed)
    assert done.flipped == [f"module.{name}" for name in FLIPPED]
    torch.nn.modules.utils.consume_prefix_in_state_dict_if_present(prefixed, "module.")
    assert layers.load_pacnet_state_dict(network, prefixed).flipped == FLIPPED
