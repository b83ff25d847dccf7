"""A value that is not finite reaches the results of PAC whose formula reads it, and no others."""

from collections.abc import Iterator

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given

import compiled_pac_calls
from case import Case
from oracles import pac_torch
from pac_cases import build
from pac_checks import Results, output_shape, public_results
from pac_reads import Reads
from strategies import FLOAT32, FLOAT64, OPERATORS, Ranges, cases, examples
from tolerances import BFLOAT16, assert_close

pytest.importorskip("torch", reason="torch is not installed")

NAMES = ("input", "guide", "weight", "kernel", "grad")
VALUES = (np.nan, np.inf, -np.inf)
# Windows with gaps between them, rows shorter than a vector and longer, groups, everything that `cases` draws.
RANGES = Ranges(
    kernel=(1, 1, 2, 3, 3, 4),
    stride=(1, 1, 2, 3, 5),
    dilation=(1, 1, 2, 3, 9),
    padding=5,
    more=(24, 7),
    groups=(1, 1, 2, 3, 9),
    channels=(1, 2, 3, 4, 9),
)
# One element at a time in every third call, and in large ones of different algorithms.
TABLE = [*list(compiled_pac_calls.CALLS)[::3], *list(compiled_pac_calls.LARGE_CALLS)[::5]]


def assert_reaches_readers_alone(case: Case, name: str, index: tuple[int, ...], value: float) -> None:
    """All other results are finite, and those of the call with a finite value there."""
    shape = output_shape(case)
    grad, reads = case.grad(shape), Reads(case, shape)
    clean = public_results(case, grad)
    spoiled = (grad if name == "grad" else case.arrays[name]).copy()
    spoiled[index] = value
    with np.errstate(all="ignore"):
        broken = case if name == "grad" else case.replace(**{name: spoiled})
        found = public_results(broken, spoiled if name == "grad" else grad)
    may = reads.results(name, index)[1]
    # What is infinite in the guide gives a Gaussian of 0.
    must = None if name == "guide" and not np.isnan(value) else Reads(broken, shape).results(name, index)[0]
    if found.output_mask is not None:
        np.testing.assert_array_equal(found.output_mask, clean.output_mask)
    for result, array in found.all().items():
        if result == "output_mask":
            continue
        reached = ~np.isfinite(array.astype(np.float64))
        assert not (reached & ~may[result]).any(), (result, index, "reached")
        if must is not None:
            assert not (must[result] & ~reached).any(), (result, index, "not reached")
        other = ~may[result]
        assert array[other].tobytes() == clean.all()[result][other].tobytes(), (result, index, "changed")


def indices(case: Case, name: str) -> Iterator[tuple[int, ...]]:
    """The last, and another."""
    shape = output_shape(case) if name == "grad" else case.arrays[name].shape
    random = np.random.default_rng(7)
    yield tuple(length - 1 for length in shape)
    yield tuple(int(random.integers(length)) for length in shape)


@pytest.mark.parametrize("dtype", [FLOAT32, pytest.param(BFLOAT16, marks=pytest.mark.slow)], ids=str)
@pytest.mark.parametrize("name", TABLE)
def test_table_of_calls(name: str, dtype: np.dtype) -> None:
    case = compiled_pac_calls.call(name, dtype)
    for spoiled in NAMES:
        if spoiled == "grad" or case.arrays.get(spoiled) is not None:
            for index, value in zip(indices(case, spoiled), VALUES, strict=False):
                assert_reaches_readers_alone(case, spoiled, index, value)


@pytest.mark.parametrize("operator", OPERATORS)
@examples(100)
@given(data=st.data())
def test_drawn_calls(data: st.DataObject, operator: str) -> None:
    case = data.draw(cases(operator, (FLOAT32, FLOAT64, BFLOAT16), memory=False, ranges=RANGES))
    given_arrays = [name for name in NAMES[:-1] if case.arrays.get(name) is not None and case.arrays[name].size]
    name = data.draw(st.sampled_from((*given_arrays, "grad")))
    shape = output_shape(case) if name == "grad" else case.arrays[name].shape
    index = tuple(data.draw(st.integers(0, length - 1)) for length in shape)
    assert_reaches_readers_alone(case, name, index, data.draw(st.sampled_from(VALUES)))


# --- what nothing reads ---------------------------------------------------------------------------


def assert_same(found: Results, want: Results) -> None:
    assert found.all().keys() == want.all().keys()
    for name, array in want.all().items():
        assert found.all()[name].tobytes() == array.tobytes(), name


@pytest.mark.parametrize("operator", OPERATORS)
@examples(60)
@given(data=st.data())
def test_what_nothing_reads_may_be_anything(data: st.DataObject, operator: str) -> None:
    """Between and behind the windows, under taps that do not count, and samples that are masked out."""
    case = data.draw(cases(operator, (FLOAT32, FLOAT64, BFLOAT16), memory=False, ranges=RANGES))
    shape = output_shape(case)
    grad, reads = case.grad(shape), Reads(case, shape)
    want, broken = public_results(case, grad), {}
    for name in ("input", "guide"):
        if case.arrays.get(name) is not None:
            unread = reads.unread(name)
            broken[name] = np.where(unread, np.asarray(data.draw(st.sampled_from(VALUES))), case.arrays[name])
            broken[name] = broken[name].astype(case.arrays[name].dtype)
            assert not want.gradients[name][unread].any()
    with np.errstate(all="ignore"):
        assert_same(public_results(case.replace(**broken), grad), want)


@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
@pytest.mark.parametrize("kernel_size", [(1, 1), (2, 1), (1, 2)], ids=str)
@pytest.mark.parametrize("operator", [name for name in OPERATORS if name != "pac_conv_transpose2d"])
def test_gaps_between_windows(operator: str, kernel_size: tuple[int, int], layout: str) -> None:
    case = build(operator, dtype=FLOAT32, layout=layout, stride=3, kernel_size=kernel_size, size=(11, 20))
    reads = Reads(case, output_shape(case))
    broken = {}
    for name in {"input", "guide"} & set(case.arrays):
        unread = reads.unread(name)
        # Windows that are 1 or 2 wide begin at every third pixel.
        assert unread.mean() > 0.6
        broken[name] = np.where(unread, np.float32(np.nan), case.arrays[name])
    assert_same(public_results(case.replace(**broken)), public_results(case))


# --- masked-out samples ---------------------------------------------------------------------------


@pytest.mark.parametrize("operator", [name for name in OPERATORS if name != "pac_kernel2d"])
@examples(40)
@given(data=st.data())
def test_masked_out_samples_are_never_read(data: st.DataObject, operator: str) -> None:
    """Results are those of zeros there, whose gradient is exactly 0 whatever the gradient of the output holds."""
    case = data.draw(
        cases(operator, (FLOAT32, FLOAT64, BFLOAT16), memory=False, ranges=RANGES).filter(
            lambda case: case.options.get("mask") is not None
        )
    )
    out = np.broadcast_to(~case.options["mask"], case.arrays["input"].shape)
    value = data.draw(st.sampled_from(VALUES))
    zero, broken = (np.where(out, np.asarray(v, case.dtype), case.arrays["input"]) for v in (0, value))
    grad = case.grad(output_shape(case))
    assert_same(public_results(case.replace(input=broken), grad), public_results(case.replace(input=zero), grad))
    spoiled = np.where(np.random.default_rng(case.seed).random(grad.shape) < 0.3, np.asarray(value, case.dtype), grad)
    with np.errstate(all="ignore"):
        found = public_results(case.replace(input=broken), spoiled)
    assert not found.gradients["input"][out].any()


# --- smoothing far from 0 -------------------------------------------------------------------------


def far_guide(operator: str, layout: str, **options: object) -> Case:
    """Guide of 1e4 and a little, smoothing that keeps its mean: every float32 number here is exact."""
    case = build(operator, dtype=FLOAT32, layout=layout, size=(14, 21), smooth=(3, 3), **options)
    random = np.random.default_rng(11)
    near = np.round(case.arrays["guide"].astype(np.float64) * 2**6) / 2**6
    # Multiples of 2^-20 whose sum is 1: neither their products with the guide nor the sums of those are exact.
    blur = np.round(random.uniform(0.05, 0.15, (3, 3)) * 2**20) / 2**20
    blur[1, 1] += 1 - blur.sum()
    guide, smooth = (near + 1e4).astype(FLOAT32), blur.astype(FLOAT32)
    assert (guide.astype(np.float64) == near + 1e4).all()
    assert smooth.astype(np.float64).sum() == 1
    return case.replace(guide=guide, smooth_kernel=smooth)


def assert_as_exact_as_around_zero(case: Case, names: list[str], grad: np.ndarray) -> None:
    oracle = pac_torch.Call(case.operator, case.arrays, case.options)
    found = public_results(case, grad)
    assert_close(found.output, oracle.forward(), FLOAT32, what="output")
    want = oracle.backward(grad)
    for name in names:
        assert_close(found.gradients[name], want[name], FLOAT32, what=name)


# Windows are inside of the image, outside of which the guide is 0; those of a transposed convolution are not, and
# where they meet the border, their kernel is 0 if it is not normalised.
FAR = [(operator, normalize) for operator in OPERATORS for normalize in (False, True)]
FAR.remove(("pac_conv_transpose2d", True))


@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
@pytest.mark.parametrize(("operator", "normalize"), FAR)
def test_smoothing_far_from_zero(operator: str, normalize: bool, layout: str) -> None:
    case = far_guide(operator, layout, normalize=normalize)
    names = [name for name in case.present if name != "smooth_kernel"]
    assert_as_exact_as_around_zero(case, names, case.grad(output_shape(case)))


@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
@pytest.mark.parametrize("operator", OPERATORS)
def test_gradient_of_smoothing_far_from_zero(operator: str, layout: str) -> None:
    """Of terms that do not cancel: differences, and what they are multiplied by, are positive."""
    case = far_guide(operator, layout, asymmetric=True)
    signed = ("guide", "smooth_kernel")
    case = case.replace(**{name: np.abs(case.arrays[name]) for name in case.present if name not in signed})
    assert_as_exact_as_around_zero(case, case.present, np.abs(case.grad(output_shape(case))))
