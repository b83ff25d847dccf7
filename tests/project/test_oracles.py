"""The oracles themselves: hand-computed tables, torch's own operators, and loops against unfold."""

from __future__ import annotations

import dataclasses

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given

from case import GRADIENTS, Case
from optional import optional
from oracles import conv, pac, pac_torch
from strategies import CONVOLUTIONS, FLOAT64, OPERATORS, cases, convolutions, examples
from tolerances import FINITE_DIFFERENCE, STEP, assert_close, norm

torch = optional("torch")
F = optional("torch.nn.functional")

E = np.exp
ROW = np.array([0.0, 1.0, 3.0]).reshape(1, 1, 1, 3)  # a guide of one row
PAD = ((0, 0), (1, 1))


def columns(kernels: np.ndarray) -> np.ndarray:
    """(taps, outputs) of a one-row kernel."""
    assert kernels.shape[:3] == (1, 1, 1)
    assert kernels.shape[4] == 1
    return kernels[0, 0, 0, :, 0, :]


# --- tables: columns are outputs, rows are taps ---------------------------------------------------


def test_gaussian_table() -> None:
    # Differences to the centres 0, 1, 3; outside the image the guide is 0.
    want = [
        [1, E(-0.5), E(-2)],  # left: 0-0, 0-1, 1-3
        [1, 1, 1],
        [E(-0.5), E(-2), E(-4.5)],  # right: 1-0, 3-1, 0-3
    ]
    np.testing.assert_allclose(columns(pac.pac_kernel2d(ROW, (1, 3), padding=PAD)), want, rtol=1e-15)


def test_asymmetric_table() -> None:
    # Only where the tap is larger than the centre does the difference count.
    want = [[1, 1, 1], [1, 1, 1], [E(-0.5), E(-2), 1]]
    np.testing.assert_allclose(columns(pac.pac_kernel2d(ROW, (1, 3), padding=PAD, asymmetric=True)), want, rtol=1e-15)


def test_inv_table() -> None:
    # alpha + (d^2 + 1e-4)^(lambda / 2), alpha 10, lambda 2: squares 0 1 4 / 0 0 0 / 1 4 9.
    alpha, power = np.array(10.0), np.array([2.0])
    got = columns(pac.pac_kernel2d(ROW, (1, 3), padding=PAD, kernel_type="inv", inv_alpha=alpha, inv_lambda=power))
    want = np.array([[10, 11, 14], [10, 10, 10], [11, 14, 19]]) + 1e-4
    np.testing.assert_allclose(got, want, rtol=1e-15)


def test_smooth_table() -> None:
    # Guide 0 1 3 filtered with 1 2 10 as a cross-correlation: 10, 0+2+30, 1+6. Its flip would give 1, 10+2+3, 16.
    smooth = np.array([[1.0, 2.0, 10.0]])
    power, alpha = np.array(2.0), np.array(0.0)
    got = columns(
        pac.pac_kernel2d(ROW, (1, 1), kernel_type="inv", inv_alpha=alpha, inv_lambda=power, smooth_kernel=smooth)
    )
    np.testing.assert_allclose(got, [[100 + 1e-4, 31**2 + 1e-4, 16 + 1e-4]], rtol=1e-15)


def test_smooth_reaches_in_from_a_centre_outside() -> None:
    # One tap at position -1: guide there is 0, the smoothed one is 5 * guide[0].
    guide = np.array([2.0, 0.0]).reshape(1, 1, 1, 2)
    got = pac.pac_kernel2d(
        guide,
        (1, 1),
        padding=((0, 0), (1, 0)),
        kernel_type="inv",
        inv_alpha=np.array(0.0),
        inv_lambda=np.array(2.0),
        smooth_kernel=np.array([[0.0, 0.0, 5.0]]),
    )
    np.testing.assert_allclose(columns(got), [[100 + 1e-4, 4 + 1e-4, 0 + 1e-4]], rtol=1e-15)


def test_normalize_table() -> None:
    got = columns(pac.pac_kernel2d(ROW, (1, 3), padding=PAD, normalize=True))
    a, b, c = 1 + E(-0.5), 1 + E(-0.5) + E(-2), 1 + E(-2)  # taps outside are left out of the sum and set to 0
    want = [[0, E(-0.5) / b, E(-2) / c], [1 / a, 1 / b, 1 / c], [E(-0.5) / a, E(-2) / b, 0]]
    np.testing.assert_allclose(got, want, rtol=1e-15)


def test_mask_table() -> None:
    mask = np.array([True, False, False]).reshape(1, 1, 1, 3)
    got, filled = pac.pac_kernel2d(ROW, (1, 3), padding=PAD, mask=mask)
    # Kept / valid: 1/2, 1/3, 0/2. The last window is empty.
    want = [[0, 3 * E(-0.5), 0], [2, 0, 0], [0, 0, 0]]
    np.testing.assert_allclose(columns(got), want, rtol=1e-15)
    assert filled.tolist() == [[[[True, True, False]]]]
    both, filled = pac.pac_kernel2d(ROW, (1, 3), padding=PAD, mask=mask, normalize=True)
    assert columns(both).tolist() == [[0, 1, 0], [1, 0, 0], [0, 0, 0]]
    assert filled.tolist() == [[[[True, True, False]]]]


def test_channels_table() -> None:
    guide = np.array([[0.0, 1.0, 3.0], [2.0, 2.0, 0.0]]).reshape(1, 2, 1, 3)
    got = pac.pac_kernel2d(guide, (1, 2))  # centre is tap 1
    np.testing.assert_allclose(got[0, 0, 0, :, 0], [[E(-0.5), E(-4)], [1, 1]], rtol=1e-15)
    got = pac.pac_kernel2d(guide, (1, 2), channel_wise=True)
    assert got.shape == (1, 2, 1, 2, 1, 2)
    np.testing.assert_allclose(got[0, 0, 0, :, 0], [[E(-0.5), E(-2)], [1, 1]], rtol=1e-15)
    np.testing.assert_allclose(got[0, 1, 0, :, 0], [[1, E(-2)], [1, 1]], rtol=1e-15)


def test_confidence_table() -> None:
    mask = np.array([0.5, 0.0, 4.0]).reshape(1, 1, 1, 3)
    got, filled = pac.pac_kernel2d(ROW, (1, 3), padding=PAD, mask=mask)
    # Divided by confidence / valid taps: 0.5 / 2, 4.5 / 3, 4 / 2.
    want = [[0, E(-0.5) / 3, 0], [2, 0, 2], [0, 8 / 3 * E(-2), 0]]
    np.testing.assert_allclose(columns(got), want, rtol=1e-15)
    assert filled.all()
    both, filled = pac.pac_kernel2d(ROW, (1, 3), padding=PAD, mask=mask, normalize=True)
    a = 0.5 * E(-0.5) + 4 * E(-2)
    np.testing.assert_allclose(columns(both), [[0, 0.5 * E(-0.5) / a, 0], [1, 0, 1], [0, 4 * E(-2) / a, 0]], rtol=1e-15)
    assert filled.all()


@pytest.mark.parametrize("far", [20.0, 100.0, 1e100])
def test_far_neighbours_of_a_masked_centre(far: float) -> None:
    guide = np.array([far, 0.0, far]).reshape(1, 1, 1, 3)
    mask = np.array([True, False, True]).reshape(1, 1, 1, 3)
    kernels, filled = pac.pac_kernel2d(guide, (1, 3), mask=mask, normalize=True)
    assert kernels.ravel().tolist() == [0.5, 0, 0.5]
    assert filled.all()
    if torch:
        call = pac_torch.Call(
            "pac_kernel2d", {"guide": guide}, {"kernel_size": (1, 3), "mask": mask, "normalize": True}
        )
        assert call.forward().ravel().tolist() == [0.5, 0, 0.5]


def test_conv_table() -> None:
    x = np.array([1.0, 10.0, 100.0]).reshape(1, 1, 1, 3)
    w = np.array([2.0, 3.0, 5.0]).reshape(1, 1, 1, 3)
    got = pac.pac_conv2d(x, ROW, w, np.array([7.0]), padding=PAD)
    want = [
        7 + 3 * 1 + 5 * 10 * E(-0.5),
        7 + 2 * 1 * E(-0.5) + 3 * 10 + 5 * 100 * E(-2),
        7 + 2 * 10 * E(-2) + 3 * 100,
    ]
    np.testing.assert_allclose(got.ravel(), want, rtol=1e-15)


def test_transposed_table() -> None:
    # x = 1 10 into weight 2 3 5 with stride 2: stuffed 1 0 10, full output of 5: 2, 3, 5 + 20, 30, 50.
    x = np.array([1.0, 10.0]).reshape(1, 1, 1, 2)
    w = np.array([2.0, 3.0, 5.0]).reshape(1, 1, 1, 3)
    flat = np.ones((1, 1, 1, 5))
    assert pac.pac_conv_transpose2d(x, flat, w, stride=(1, 2)).ravel().tolist() == [2, 3, 25, 30, 50]
    guide = np.array([0.0, 1.0, 3.0, 3.0, 5.0]).reshape(1, 1, 1, 5)
    # Guide taps lie at Y - 1, Y, Y + 1; x[0] is under the last, middle and first tap of outputs 0, 1, 2.
    got = pac.pac_conv_transpose2d(x, guide, w, stride=(1, 2)).ravel()
    want = [
        2 * E(-0.5),  # tap 1 - 0
        3,  # tap 1 - 1
        5 * E(-2) + 20,  # first tap 1 - 3 with x[0], last tap 3 - 3 with x[1]
        30,
        50 * E(-2),  # 3 - 5
    ]
    np.testing.assert_allclose(got, want, rtol=1e-15)


def test_transposed_kernel_table() -> None:
    guide = np.array([0.0, 1.0, 3.0, 3.0]).reshape(1, 1, 1, 4)
    # stride 2, 3 taps, padding 1, output_padding 1: 2 inputs, at outputs 0 and 2.
    options = {"transposed": True, "stride": (1, 2), "padding": (0, 1), "output_padding": (0, 1)}
    got = columns(pac.pac_kernel2d(guide, (1, 3), **options))
    plain = columns(pac.pac_kernel2d(guide, (1, 3), padding=(0, 1)))
    np.testing.assert_array_equal(got, plain)  # kept on stuffed zeros
    got = columns(pac.pac_kernel2d(guide, (1, 3), normalize=True, **options))
    a = E(-0.5) + E(-2)
    want = [[0, E(-0.5) / a, 0, 1], [1, 0, 1, 0], [0, E(-2) / a, 0, 0]]
    np.testing.assert_allclose(got, want, rtol=1e-15)


def test_even_transposed_kernel_pads_less_in_front() -> None:
    guide = np.array([0.0, 1.0, 3.0]).reshape(1, 1, 1, 3)
    got = columns(pac.pac_kernel2d(guide, (1, 2), transposed=True))  # taps Y and Y + 1, centre Y + 1
    np.testing.assert_allclose(got, [[E(-0.5), E(-2), E(-4.5)], [1, 1, 1]], rtol=1e-15)


def test_masked_out_values_are_never_read() -> None:
    x = np.array([np.nan, 10.0, np.inf]).reshape(1, 1, 1, 3)
    guide = np.array([np.nan, 1.0, 3.0]).reshape(1, 1, 1, 3)
    mask = np.isfinite(x)
    got, filled = pac.pac_pool2d(x, guide, (1, 3), mask=mask, padding=PAD)
    np.testing.assert_allclose(got.ravel(), [np.nan, 30, 20 * E(-2)], rtol=1e-15)  # the first centre is NaN
    assert filled.all()


def test_output_sizes() -> None:
    one = np.zeros((1, 1, 7, 8))
    assert pac.pac_pool2d(one, one, 3, stride=2, padding="SAME").shape == (1, 1, 4, 4)
    assert pac.pac_pool2d(one, one, (2, 3), stride=(3, 1), padding=((1, 0), (0, 2))).shape == (1, 1, 3, 8)
    out = np.zeros((1, 1, 14, 24))
    w = np.zeros((1, 1, 5, 2))
    assert pac.pac_conv_transpose2d(one, out, w, stride=(2, 3), padding="same").shape == (1, 1, 14, 24)


# --- torch's own operators ------------------------------------------------------------------------


@pytest.mark.parametrize("groups", [1, 2])
@pytest.mark.parametrize(
    ("size", "stride", "padding", "dilation"), [((3, 3), 1, 1, 1), ((2, 3), (2, 1), (0, 2), (1, 2))]
)
def test_constant_guide_is_conv2d(groups: int, size: tuple, stride: object, padding: object, dilation: object) -> None:
    rng = np.random.default_rng(0)
    x, w, b = rng.normal(size=(2, 4, 7, 8)), rng.normal(size=(6, 4 // groups, *size)), rng.normal(size=6)
    got = pac.pac_conv2d(
        x, np.ones((2, 3, 7, 8)), w, b, groups=groups, stride=stride, padding=padding, dilation=dilation
    )
    # A constant guide differs from the 0 outside the image, where x is 0 as well.
    want = F.conv2d(*map(torch.from_numpy, (x, w, b)), stride, padding, dilation, groups)
    assert_close(got, want.numpy(), FLOAT64)


@pytest.mark.parametrize("groups", [1, 2])
@pytest.mark.parametrize(
    ("size", "stride", "padding", "dilation", "extra"),
    [((3, 3), 2, 1, 1, 1), ((2, 4), (3, 1), (0, 2), (1, 2), 0), ((4, 4), 2, 1, 1, 0), ((2, 1), 3, 0, 1, (2, 0))],
)
def test_constant_guide_is_conv_transpose2d(
    groups: int, size: tuple, stride: object, padding: object, dilation: object, extra: object
) -> None:
    rng = np.random.default_rng(0)
    x, w, b = rng.normal(size=(2, 4, 4, 3)), rng.normal(size=(4, 6 // groups, *size)), rng.normal(size=6)
    want = F.conv_transpose2d(*map(torch.from_numpy, (x, w, b)), stride, padding, extra, groups, dilation).numpy()
    # The centre of an even kernel lies half a tap off and may fall outside the guide: zeros are constant there too.
    guide = np.zeros((2, 3, *want.shape[2:]))
    options = {"groups": groups, "stride": stride, "padding": padding, "dilation": dilation, "output_padding": extra}
    assert_close(pac.pac_conv_transpose2d(x, guide, w, b, **options), want, FLOAT64)
    if size == (3, 3):
        assert_close(pac.pac_conv_transpose2d(x, guide + 1, w, b, **options), want, FLOAT64)


def test_constant_guide_is_average_pooling() -> None:
    x = np.random.default_rng(0).normal(size=(2, 3, 7, 9))
    got = pac.pac_pool2d(x, np.ones((2, 2, 7, 9)), (3, 2), stride=2, padding=(1, 0))
    assert_close(got, 6 * F.avg_pool2d(torch.from_numpy(x), (3, 2), 2, (1, 0)).numpy(), FLOAT64)


# --- loops against unfold -------------------------------------------------------------------------


def with_confidences(case: Case, wanted: bool) -> Case:
    """The call with numbers in place of a mask's True, if it has a mask and they are wanted."""
    if case.options.get("mask") is None or not wanted:
        return case
    confidences = case.options["mask"] * np.random.default_rng(case.seed).uniform(0.1, 2, case.options["mask"].shape)
    return dataclasses.replace(case, options={**case.options, "mask": confidences})


@pytest.mark.parametrize("operator", OPERATORS)
@examples(60)
@given(data=st.data())
def test_loops_equal_unfold(operator: str, data: st.DataObject) -> None:
    case = with_confidences(data.draw(cases(operator, (FLOAT64,))), data.draw(st.booleans()))
    call = pac_torch.Call(operator, case.arrays, case.options)
    want = case.call(pac)
    magnitude = call.forward_magnitude()
    if case.options.get("mask") is not None:
        want, filled = want
        np.testing.assert_array_equal(call.filled(), filled)
    assert_close(call.forward(), want, FLOAT64, magnitude)


def project(case: Case, grad_output: np.ndarray) -> float:
    output = case.call(pac)
    return float(((output[0] if isinstance(output, tuple) else output) * grad_output).sum())


@pytest.mark.parametrize("operator", OPERATORS)
@examples(15)
@given(data=st.data())
def test_autograd_equals_finite_differences(operator: str, data: st.DataObject) -> None:
    case = with_confidences(data.draw(cases(operator, (FLOAT64,), memory=False)), data.draw(st.booleans()))
    call = pac_torch.Call(operator, case.arrays, case.options)
    rng = np.random.default_rng(case.seed)
    grad_output = rng.normal(size=call.forward().shape)
    gradients, magnitudes = call.backward(grad_output), call.backward_magnitude(grad_output)
    for name in GRADIENTS[operator]:
        value = case.arrays.get(name)
        if value is None:
            assert gradients[name] is None
            continue
        # Every gradient is at most what its sum over absolute values says.
        assert (np.abs(gradients[name]) <= magnitudes[name] * (1 + 1e-9) + 1e-300).all(), name
        direction = rng.normal(size=value.shape)
        up, down = (project(case.replace(**{name: value + s * STEP * direction}), grad_output) for s in (1, -1))
        got = (up - down) / (2 * STEP)
        want = float((gradients[name] * direction).sum())
        assert abs(got - want) <= FINITE_DIFFERENCE * (1 + norm(magnitudes[name] * direction)), name


@pytest.mark.parametrize("size", [False, True])
@pytest.mark.parametrize("operator", CONVOLUTIONS)
@examples(40)
@given(data=st.data())
def test_gradients_of_convolutions_by_loops_equal_autograd(operator: str, size: bool, data: st.DataObject) -> None:
    if not torch:
        pytest.skip("torch is not installed")
    case = data.draw(convolutions(operator, (FLOAT64,)))
    grad = case.grad(case.call(conv).shape)
    want = conv.backward(operator, case.arrays, case.options, grad, size)
    got = conv.backward_loops(operator, case.arrays, case.options, grad, size)
    terms = conv.backward(operator, case.arrays, case.options, grad, size=True)
    assert set(got) == set(want)
    for name in want:
        assert_close(got[name], want[name], FLOAT64, terms[name], f"{name} of {case!r}")
