"""Static shapes of results where some sizes are unknown: never a wrong one, and as many as follow from the others."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import arrayops as ao
from arrayops._core.op import Meta, Metas, Op
from arrayops._core.unknown_sizes import PartialMeta, UnknownSize, infer_partially
from arrayops._ops import OPS
from backend_recorder import Recorder
from differentiable_calls import CALLS, DifferentiableCall
from strategies import examples


class Known(NamedTuple):
    """A call with all sizes."""

    op: Op
    metas: Metas
    parameters: Any

    def without(self, *unknown: tuple[int, int]) -> tuple[PartialMeta | None, ...]:
        """The arrays' metas without the sizes of these arrays and axes."""
        return tuple(
            None
            if meta is None
            else PartialMeta(
                tuple(None if (i, axis) in unknown else size for axis, size in enumerate(meta.shape)), meta.dtype
            )
            for i, meta in enumerate(self.metas)
        )

    def axes(self) -> list[tuple[int, int]]:
        return [(i, axis) for i, meta in enumerate(self.metas) if meta for axis in range(len(meta.shape))]


def known(call: DifferentiableCall) -> Iterator[Known]:
    """The forward and the backward call, as they reach a backend."""
    with pytest.MonkeyPatch.context() as monkeypatch:
        recorder = Recorder(monkeypatch)
        getattr(ao, call.op.name)(**call.call)
        [forward] = recorder.calls()
        call.gradients(call.cotangents())
        backward = recorder.calls()[-1]
    for op, recorded in ((call.op, forward), (call.op.backward, backward)):
        metas = tuple(None if a is None else Meta(a.shape, str(a.dtype)) for a in recorded.arrays)
        yield Known(op, metas, recorded.parameters)


KNOWN = {
    f"{name}-{direction}": each
    for name, call in CALLS.items()
    for direction, each in zip(("forward", "backward"), known(call), strict=True)
}


def assert_never_wrong(found: Any, expected: Metas) -> None:
    for partial, meta in zip(found, expected, strict=True):
        assert (partial is None) == (meta is None)
        if partial is not None and meta is not None:
            assert partial.dtype == meta.dtype
            assert len(partial.shape) == len(meta.shape)
            assert all(size in (None, actual) for size, actual in zip(partial.shape, meta.shape, strict=True))


@pytest.mark.parametrize("call", KNOWN.values(), ids=KNOWN)
def test_one_unknown_size_in_each_place(call: Known) -> None:
    """A size of a result is known if all values of the unknown one that the rule accepts give the same."""
    expected = call.op.infer(call.metas, call.parameters)
    assert infer_partially(call.op, call.without(), call.parameters) == expected
    for i, axis in call.axes():
        found = infer_partially(call.op, call.without((i, axis)), call.parameters)
        assert_never_wrong(found, expected)
        accepted = []
        for size in range(40):
            meta = call.metas[i]
            assert meta is not None
            changed = meta._replace(shape=(*meta.shape[:axis], size, *meta.shape[axis + 1 :]))
            try:
                accepted.append(call.op.infer((*call.metas[:i], changed, *call.metas[i + 1 :]), call.parameters))
            except (TypeError, ValueError):
                continue
        for k, partial in enumerate(found):
            for j in range(0 if partial is None else len(partial.shape)):
                if len({results[k].shape[j] for results in accepted}) == 1:
                    assert partial.shape[j] is not None


@examples(100)
@given(data=st.data())
def test_any_unknown_sizes(data: st.DataObject) -> None:
    call = data.draw(st.sampled_from(list(KNOWN.values())))
    unknown = data.draw(st.sets(st.sampled_from(call.axes())))
    found = infer_partially(call.op, call.without(*unknown), call.parameters)
    assert_never_wrong(found, call.op.infer(call.metas, call.parameters))


def infer(name: str, *shapes: tuple[int | None, ...] | None, **keywords: Any) -> tuple[int | None, ...]:
    """Shape of the first result of an operator of float32 arrays, whose keywords a small call of NumPy arrays gives."""
    with pytest.MonkeyPatch.context() as monkeypatch:
        recorder = Recorder(monkeypatch)
        keywords.pop("call")(ao)
        [call] = recorder.calls()
    metas = tuple(None if shape is None else PartialMeta(shape, "float32") for shape in shapes)
    result = infer_partially(OPS[name], metas, call.parameters)[0]
    assert result is not None
    return result.shape


def ones(*shape: int) -> np.ndarray:
    return np.ones(shape, np.float32)


def test_batch_is_not_taken_for_a_probe() -> None:
    """Large probes do not fit into the flat result: what is left must not decide the batch."""
    shape = infer(
        "merge_feature_maps",
        (None, None, None, 4),
        (None, 6, 6, 4),
        call=lambda ao: ao.merge_feature_maps([ones(1, 2, 2, 4)] * 2, how="flat", size=21, layout="NHWC"),
    )
    assert shape == (None, 21, 21, 4)


@pytest.mark.parametrize(
    ("size", "expected"), [("smallest", (1, 6, None, 2)), ("largest", (1, 15, None, 2)), ((3, 4), (1, 3, 4, 2))]
)
def test_extremes_of_unknown_sizes(size: Any, expected: tuple[int | None, ...]) -> None:
    shape = infer(
        "merge_feature_maps",
        (1, 15, None, 1),
        (1, 6, 6, 1),
        call=lambda ao: ao.merge_feature_maps([ones(1, 2, 2, 1)] * 2, size=size, layout="NHWC"),
    )
    assert shape == expected


def test_sizes_that_follow_from_a_guide() -> None:
    def call(ao: Any) -> Any:
        return ao.pac_conv_transpose2d(
            ones(1, 3, 3, 2), ones(1, 6, 6, 1), ones(3, 3, 4, 2), stride=2, padding="SAME", layout="NHWC"
        )

    arrays = (3, 3, 4, 2), None, None, None, None, None, None
    guide = (None, 18, None, 3)
    assert infer("pac_conv_transpose2d", (None, None, None, 2), guide, *arrays, call=call) == (None, 18, None, 4)
    assert infer("pac_conv_transpose2d", (7, None, 5, 2), (None,) * 4, *arrays, call=call) == (7, None, 10, 4)


def test_large_size_that_follows() -> None:
    shape = infer(
        "pac_conv2d",
        (None, None, None, 2),
        (None, 4000, None, 3),
        (3, 3, 2, 4),
        *[None] * 6,
        call=lambda ao: ao.pac_conv2d(ones(1, 3, 3, 2), ones(1, 3, 3, 1), ones(3, 3, 2, 4), padding=1, layout="NHWC"),
    )
    assert shape == (None, 4000, None, 4)


def test_errors_that_no_unknown_size_explains() -> None:
    def call(ao: Any) -> Any:
        return ao.conv2d(ones(1, 2, 5, 5), ones(4, 2, 3, 3))

    with pytest.raises(ValueError, match=r"^conv2d: weight is \(4, 3, None, 3\), expected 2 input channels"):
        infer("conv2d", (None, 2, None, None), (4, 3, None, 3), None, call=call)


class TestUnknownSize:
    def test_is_equal_to_all_numbers(self) -> None:
        size = UnknownSize(7)
        assert size == 3
        assert 3 == size  # noqa: SIM300
        assert not size != 3  # noqa: SIM202
        assert (1, size) == (1, 2)
        assert not size % 4
        assert size % 4 == 3

    def test_arithmetic_gives_unknown_sizes(self) -> None:
        size = UnknownSize(7)
        for result in (size + 1, 1 + size, size - 1, 1 - size, 2 * size, size * 2, size // 2, 9 // size, -size):
            assert isinstance(result, UnknownSize)
        assert int(-(-size // 2)) == 4
        assert int(np.floor(7 * 1.5)) == int(size * 1.5)
        quotient, remainder = divmod(size, 2)
        assert isinstance(quotient, UnknownSize)
        assert remainder == 1

    def test_reads_none(self) -> None:
        assert (
            f"{UnknownSize(7)} {UnknownSize(7)!r} {(1, UnknownSize(7))} {UnknownSize(7):d}"
            == "None None (1, None) None"
        )

    def test_is_no_key_of_a_cache(self) -> None:
        with pytest.raises(TypeError, match="unhashable"):
            hash(UnknownSize(7))
