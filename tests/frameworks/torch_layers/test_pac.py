"""The pixel-adaptive layers: what they compute, their arguments, and masks."""

from __future__ import annotations

import inspect
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import arrayops as ao
from torch_layer_cases import CASES

# Names and defaults of the reference code (NVlabs/pacnet), in their order.
CONVOLUTION = {"bias": True, "kernel_type": "gaussian", "smooth_kernel_type": "none", "normalize_kernel": False}
CONVOLUTION.update(shared_filters=False, filler="uniform", native_impl=False)
REQUIRED = inspect.Parameter.empty
ARGUMENTS = {
    "PacConv2d": {
        **dict.fromkeys(("in_channels", "out_channels", "kernel_size"), REQUIRED),
        **{"stride": 1, "padding": 0, "dilation": 1},
        **CONVOLUTION,
    },
    "PacConvTranspose2d": {
        **dict.fromkeys(("in_channels", "out_channels", "kernel_size"), REQUIRED),
        **{"stride": 1, "padding": 0, "output_padding": 0, "dilation": 1},
        **CONVOLUTION,
    },
    "PacPool2d": {
        "kernel_size": REQUIRED,
        **{"stride": 1, "padding": 0, "dilation": 1, "kernel_type": "gaussian", "smooth_kernel_type": "none"},
        **{"channel_wise": False, "normalize_kernel": False, "out_channels": -1, "native_impl": False},
    },
}
CRF = {
    **dict.fromkeys(("channels", "num_steps"), REQUIRED),
    **{"final_output": "log_Q", "perturbed_init": True, "native_impl": False, "fixed_weighting": False},
    **{"unary_weight": 1.0, "pairwise_kernels": None},
}
ARGUMENTS.update(PacCRF=CRF, PacCRFLoose=CRF)


@pytest.mark.parametrize("name", ARGUMENTS)
def test_arguments_are_those_of_the_reference_code(layers: Any, name: str) -> None:
    parameters = inspect.signature(getattr(layers, name)).parameters.values()
    positional = {each.name: each.default for each in parameters if each.kind is each.POSITIONAL_OR_KEYWORD}
    assert positional == ARGUMENTS[name]
    assert list(positional) == list(ARGUMENTS[name])


@pytest.mark.parametrize("name", ARGUMENTS)
def test_arguments_of_calls_are_those_of_the_reference_code(layers: Any, name: str) -> None:
    names = list(inspect.signature(getattr(layers, name).forward).parameters)[1:]
    crf = ["unary", "edge_feat", "edge_kernel", "logQ"]
    expected = {"PacCRF": crf, "PacCRFLoose": crf[:-1]}
    assert names == expected.get(name, ["input_2d", "input_for_kernel", "kernel", "mask"])


@st.composite
def windows(draw: Any) -> dict[str, Any]:
    """Arguments of a convolution and of torch's own."""
    groups = draw(st.sampled_from([1, 2]))
    return {
        "in_channels": 2 * groups,
        "out_channels": draw(st.integers(1, 3)) * groups,
        "kernel_size": (draw(st.integers(1, 4)), draw(st.integers(1, 4))),
        "stride": (draw(st.integers(1, 3)), draw(st.integers(1, 3))),
        "padding": (draw(st.integers(0, 2)), draw(st.integers(0, 2))),
        "dilation": (draw(st.integers(1, 2)), draw(st.integers(1, 2))),
        "bias": draw(st.booleans()),
        "groups": groups,
    }


@settings(max_examples=30, deadline=None)
@given(arguments=windows(), seed=st.integers(0, 2**16))
def test_constant_guide_is_a_convolution_of_torch(torch: Any, layers: Any, arguments: Any, seed: int) -> None:
    """The weights of torch's layer fit, transposed ones as well."""
    torch.manual_seed(seed)
    image = torch.randn(2, arguments["in_channels"], 9, 8, dtype=torch.float64)
    for ours, theirs in ((layers.PacConv2d, torch.nn.Conv2d), (layers.PacConvTranspose2d, torch.nn.ConvTranspose2d)):
        layer, reference = ours(**arguments).double(), theirs(**arguments).double()
        layer.load_state_dict(dict(reference.state_dict()))
        output = reference(image)
        if 0 in output.shape:
            continue
        size = image.shape[2:] if ours is layers.PacConv2d else output.shape[2:]
        guide = torch.full((2, 3, *size), 0.3, dtype=torch.float64)
        # Where the guide is padded with zeros, it is not constant.
        found = layer(image, 0 * guide)
        torch.testing.assert_close(found, output, rtol=1e-12, atol=1e-12)


def test_pool_with_constant_guide_is_average_pooling(torch: Any, layers: Any) -> None:
    image = torch.randn(2, 3, 9, 11, dtype=torch.float64)
    guide = torch.ones(2, 4, 9, 11, dtype=torch.float64)
    pool = layers.PacPool2d(3, stride=2, padding=1, normalize_kernel=True)
    expected = torch.nn.functional.avg_pool2d(image, 3, 2, 1, count_include_pad=False)
    torch.testing.assert_close(pool(image, guide), expected)


@pytest.mark.parametrize(
    ("kernel_type", "options"),
    [
        ("gaussian", {}),
        ("gaussian_asym", {"asymmetric": True}),
        ("inv_0.3_-1.5", {"kernel_type": "inv"}),
        ("inv_0.3_-1.5_asym", {"kernel_type": "inv", "asymmetric": True}),
        ("inv_0.3_-1.5_asym_fixed", {"kernel_type": "inv", "asymmetric": True}),
        ("inv_0.3_-1.5_fixed_asym", {"kernel_type": "inv", "asymmetric": True}),
        ("inv_3e-1_-1.5_fixed", {"kernel_type": "inv"}),
    ],
)
@pytest.mark.parametrize("smooth", ["none", "gaussian", "average_5", "full_3"])
def test_kernel_types(torch: Any, layers: Any, kernel_type: str, options: Any, smooth: str) -> None:
    """The layer beside a call of the function with its options spelled out."""
    image, guide = (tensor.double() for tensor in CASES["conv"].tensors())
    layer = layers.PacConv2d(4, 6, 3, 2, 1, kernel_type=kernel_type, smooth_kernel_type=smooth, dtype=torch.float64)
    options = dict(options)
    trained = {"weight", "bias"}
    if kernel_type.startswith("inv"):
        options.update(inv_alpha=torch.tensor(0.3).double(), inv_lambda=torch.tensor(-1.5).double())
        # Decimal fractions are not rounded to float32.
        options["inv_alpha"].fill_(0.3)
        trained |= set() if "fixed" in kernel_type else {"inv_alpha", "inv_lambda"}
    axis = torch.tensor([0.25, 0.5, 0.25], dtype=torch.float64)
    kernels = {
        "gaussian": torch.outer(axis, axis),
        "average_5": torch.full((5, 5), 1 / 25, dtype=torch.float64),
        "full_3": torch.full((3, 3), 1 / 9, dtype=torch.float64),
    }
    if smooth != "none":
        options["smooth_kernel"] = kernels[smooth]
        trained |= {"smooth_kernel"} if smooth == "full_3" else set()
    expected = ao.pac_conv2d(image, guide, layer.weight, layer.bias, stride=2, padding=1, **options)
    torch.testing.assert_close(layer(image, guide), expected, rtol=0, atol=0)
    assert {name for name, _ in layer.named_parameters()} == trained


@pytest.mark.parametrize("name", ["conv", "transposed", "pool", "pool channel_wise"])
def test_kernel_of_the_layer(torch: Any, layers: Any, name: str) -> None:
    """A computed kernel gives the same as its guide, which is then ignored."""
    layer, (image, guide) = CASES[name].layer(), CASES[name].tensors()
    mask = torch.rand(2, 1, *image.shape[2:]) > 0.4
    kernel, output_mask = layer.compute_kernel(guide)
    assert output_mask is None
    torch.testing.assert_close(layer(image, guide + 1, kernel), layer(image, guide))
    torch.testing.assert_close(layer(image, None, kernel=kernel), layer(image, guide))
    kernel, output_mask = layer.compute_kernel(guide, mask)
    masked = layer(image, guide, mask=mask)
    # The function with a mask reads no invalid pixels; with a kernel, it multiplies them by 0.
    torch.testing.assert_close(layer(image, None, kernel), masked.output)
    torch.testing.assert_close(output_mask, masked.output_mask)


class TestMasks:
    @pytest.mark.parametrize("dtype", ["bool", "uint8", "int64", "float32", "float64", "float16"])
    def test_dtypes(self, torch: Any, layers: Any, dtype: str) -> None:
        image, guide = CASES["conv"].tensors()
        layer = CASES["conv"].layer()
        mask = torch.rand(2, 1, *image.shape[2:]) > 0.4
        output, output_mask = layer(image, guide, mask=mask.to(getattr(torch, dtype)))
        expected = ao.pac_conv2d(image, guide, layer.weight, layer.bias, mask=mask)
        torch.testing.assert_close((output, output_mask), tuple(expected), rtol=0, atol=0)
        assert output_mask.dtype is torch.bool

    def test_fractions_are_refused(self, torch: Any, layers: Any) -> None:
        image, guide = CASES["conv"].tensors()
        for value in (0.5, 2.0, float("nan")):
            mask = torch.ones(2, 1, *image.shape[2:])
            mask[1, 0, 2, 3] = value
            with pytest.raises(ValueError, match="PacConv2d: mask has values other than 0 and 1, expected"):
                CASES["conv"].layer()(image, guide, mask=mask)

    def test_with_a_kernel(self, torch: Any, layers: Any) -> None:
        layer, (image, guide) = CASES["conv"].layer(), CASES["conv"].tensors()
        mask = torch.ones(2, 1, *image.shape[2:], dtype=torch.bool)
        with pytest.raises(ValueError, match="PacConv2d: mask is set, expected None with kernel: pass it to compute_k"):
            layer(image, None, layer.compute_kernel(guide)[0], mask)
        with pytest.raises(TypeError, match="PacConv2d: kernel is a tuple, expected a tensor: compute_kernel returns"):
            layer(image, None, layer.compute_kernel(guide))


BAD = [
    ("PacConv2d", {"in_channels": 0}, "in_channels is 0, expected at least 1"),
    ("PacConv2d", {"out_channels": 2.0}, "out_channels is 2.0, expected an integer"),
    ("PacConv2d", {"kernel_size": (3, 3, 3)}, r"kernel_size is \(3, 3, 3\), expected an integer or a pair"),
    ("PacConv2d", {"stride": 0}, "stride is 0, expected at least 1"),
    ("PacConv2d", {"padding": "full"}, "padding is 'full', expected 'SAME', 'VALID' or numbers"),
    ("PacConv2d", {"bias": None}, "bias is None, expected True or False"),
    ("PacConv2d", {"kernel_type": "quad"}, "kernel_type is 'quad', expected 'gaussian' or 'inv_<alpha>_<lambda>'"),
    ("PacConv2d", {"kernel_type": "inv"}, "kernel_type is 'inv', expected"),
    ("PacConv2d", {"kernel_type": "inv_1"}, "kernel_type is 'inv_1', expected"),
    ("PacConv2d", {"kernel_type": "inv_a_1"}, "kernel_type is 'inv_a_1', expected"),
    ("PacConv2d", {"kernel_type": "inv_1_1_asym_asym"}, "kernel_type is 'inv_1_1_asym_asym', expected"),
    ("PacConv2d", {"kernel_type": "gaussian_fixed"}, "kernel_type is 'gaussian_fixed', expected"),
    ("PacConv2d", {"smooth_kernel_type": "full"}, "smooth_kernel_type is 'full', expected 'none'"),
    ("PacConv2d", {"smooth_kernel_type": "average_4"}, "smooth_kernel_type is 'average_4', expected 'none'"),
    ("PacConv2d", {"normalize_kernel": 1}, "normalize_kernel is 1, expected True or False"),
    ("PacConv2d", {"groups": 3}, "in_channels is 4, expected a multiple of groups 3"),
    ("PacConv2d", {"groups": 4}, "out_channels is 6, expected a multiple of groups 4"),
    (
        "PacConv2d",
        {"shared_filters": True},
        "shared_filters is True, expected False with in_channels 4, out_channels 6",
    ),
    ("PacConv2d", {"filler": "zeros"}, "filler is 'zeros', expected 'uniform' or 'linear'"),
    ("PacConv2d", {"filler": "pool"}, "filler 'pool' needs shared_filters=True, as many output as input channels"),
    ("PacConv2d", {"filler": "linear", "out_channels": 4}, "filler 'linear' needs a transposed convolution"),
    ("PacConv2d", {"kernel_type": "inv_nan_1"}, "kernel_type is 'inv_nan_1', expected"),
    ("PacConv2d", {"smooth_kernel_type": "full_\u0663"}, "smooth_kernel_type is 'full_\u0663', expected 'none'"),
    ("PacConv2d", {"filler": "crf", "out_channels": 4, "kernel_size": 4}, "filler 'crf' needs an odd kernel_size"),
    (
        "PacConvTranspose2d",
        {"filler": "linear", "out_channels": 4, "stride": 3},
        "filler 'linear' needs a kernel_size of at least 2 stride - 1",
    ),
    ("PacConvTranspose2d", {"output_padding": -1}, "output_padding is -1, expected at least 0"),
]


@pytest.mark.parametrize(("name", "changes", "message"), BAD)
def test_bad_arguments(layers: Any, name: str, changes: Any, message: str) -> None:
    arguments = {"in_channels": 4, "out_channels": 6, "kernel_size": 3, **changes}
    with pytest.raises((TypeError, ValueError), match=f"^{name}: {message}"):
        getattr(layers, name)(**arguments)


def test_pool_needs_channels_for_its_parameters(layers: Any) -> None:
    arguments = {"kernel_size": 3, "channel_wise": True}
    with pytest.raises(ValueError, match=r"^PacPool2d: out_channels is -1, expected the number of channels"):
        layers.PacPool2d(**arguments, kernel_type="inv_1_1")
    assert layers.PacPool2d(**arguments, kernel_type="inv_1_1_fixed").inv_alpha.shape == ()
    assert layers.PacPool2d(**arguments, kernel_type="inv_1_1", out_channels=5).inv_alpha.shape == (5,)


def test_no_guide(torch: Any, layers: Any) -> None:
    with pytest.raises(ValueError, match="pac_conv2d: guide and kernel are both None, expected exactly one"):
        CASES["conv"].layer()(CASES["conv"].tensors()[0], None)


def test_state_has_the_names_of_the_reference_code(torch: Any, layers: Any) -> None:
    """Names and shapes of entries, and which are parameters."""
    options = {"kernel_type": "inv_0.5_1", "smooth_kernel_type": "full_3"}
    fixed = {"kernel_type": "inv_0.5_1_fixed", "smooth_kernel_type": "average_3"}
    adaptive = {"inv_alpha": (), "inv_lambda": (), "smooth_kernel": (3, 3)}
    cases = (
        (layers.PacConv2d(4, 6, (3, 5), **options), {"weight": (6, 4, 3, 5), "bias": (6,), **adaptive}, {}),
        (layers.PacConvTranspose2d(4, 6, 5, **fixed), {"weight": (4, 6, 5, 5), "bias": (6,)}, adaptive),
        (layers.PacConv2d(4, 4, 3, shared_filters=True, bias=False), {"weight": (1, 1, 3, 3)}, {}),
        (
            layers.PacConvTranspose2d(4, 4, 3, shared_filters=True, bias=False, filler="pool"),
            {},
            {"weight": (1, 1, 3, 3)},
        ),
        (layers.PacPool2d(3, **options), adaptive, {}),
        (
            layers.PacPool2d(
                3, channel_wise=True, out_channels=4, smooth_kernel_type="gaussian", kernel_type="inv_1_1"
            ),
            {"inv_alpha": (4,), "inv_lambda": (4,)},
            {"smooth_kernel": (3, 3)},
        ),
        (layers.PacPool2d(3), {}, {}),
    )
    for layer, parameters, buffers in cases:
        assert {name: tuple(each.shape) for name, each in layer.named_parameters()} == parameters
        assert {name: tuple(each.shape) for name, each in layer.named_buffers()} == buffers
        assert layer.state_dict().keys() == {*parameters, *buffers}


def test_attributes_are_those_of_torch_layers(torch: Any, layers: Any) -> None:
    arguments = {"in_channels": 4, "out_channels": 6, "kernel_size": 3, "stride": 2, "padding": 1, "dilation": 1}
    ours = layers.PacConvTranspose2d(**arguments, output_padding=1)
    theirs = torch.nn.ConvTranspose2d(**arguments, output_padding=1)
    for name in (*arguments, "output_padding", "groups"):
        assert getattr(ours, name) == getattr(theirs, name)


def test_reset_parameters(torch: Any, layers: Any) -> None:
    layer = layers.PacConv2d(4, 6, 3, kernel_type="inv_0.5_1", smooth_kernel_type="full_3")
    torch.manual_seed(3)
    layer.reset_parameters()
    first = {name: tensor.clone() for name, tensor in layer.state_dict().items()}
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.fill_(9)
    torch.manual_seed(3)
    layer.reset_parameters()
    for name, tensor in layer.state_dict().items():
        torch.testing.assert_close(tensor, first[name], rtol=0, atol=0)


def test_interpolates_along_edges(torch: Any, layers: Any) -> None:
    """Linear weights with a kernel that is normalised: away from edges bilinear, and no value crosses an edge."""
    low = torch.zeros(1, 1, 8, 8, dtype=torch.float64)
    low[..., 4:] = 1
    guide = torch.zeros(1, 1, 16, 16, dtype=torch.float64)
    guide[..., 8:] = 50
    options = {"stride": 2, "padding": 2, "output_padding": 1, "normalize_kernel": True, "filler": "linear"}
    layer = layers.PacConvTranspose2d(1, 1, 5, dtype=torch.float64, **options)
    output = layer(low, guide)[0, 0].detach().numpy()
    np.testing.assert_allclose(output[4:12, 2:8], 0, atol=1e-12)
    assert (output[4:12, 8:14] > 0.5).all()
