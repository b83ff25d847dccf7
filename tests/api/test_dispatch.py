"""The way of a call: what is checked, in which order, and what is said."""

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import pytest

from arrayops import _backends, _frameworks
from arrayops._call.dispatch import checked_needs, dispatch, dispatch_backward
from arrayops._core.op import ArraySpec, Meta, Op
from arrayops._frameworks import base, numpy
from saving import dispatch_saving
from toy_op import SCALED, Backend, Parameters

KNOWN = "expected an array of NumPy, CuPy, PyTorch, JAX, TensorFlow or another library with DLPack"
ONE = np.ones((2, 3), np.float32)


class Options(NamedTuple):
    both: bool = True


def infer(metas: Any, parameters: Options) -> Any:
    if metas[0].shape != (2, 3):
        raise ValueError(f"joined: first is {metas[0].shape}, expected (2, 3)")
    return (metas[0], Meta((1,), "bool") if parameters.both else None)


JOINED = Op(
    "joined",
    "toy",
    (
        ArraySpec("first"),
        ArraySpec("labels", kind="label", optional=True, differentiable=False),
        ArraySpec("rest", variadic=True),
    ),
    Options,
    infer,
    outputs=("output", "flag"),
)


class Recorder:
    """Stands in for `arrayops._backends.find`, and for the functions it finds."""

    def __init__(self) -> None:
        self.wanted: list[tuple[str, str, str]] = []
        self.calls: list[tuple[Any, Any]] = []

    def find(self, kind: str, family: str, name: str) -> Any:
        self.wanted.append((kind, family, name))
        return self

    def __call__(self, arrays: Any, parameters: Any) -> Any:
        self.calls.append((arrays, parameters))
        return tuple(np.full(1, index, np.float32) for index in range(2))


@pytest.fixture
def recorder(monkeypatch: pytest.MonkeyPatch) -> Iterator[Recorder]:
    found = Recorder()
    monkeypatch.setattr(_backends, "find", found.find)
    return found


class Foreign(numpy.NumPyFramework):
    """Arrays of another framework, which lie and behave as told."""

    name = "Foreign"

    def recognises(self, array_type: type) -> bool:
        return array_type is ForeignArray

    def describe(self, array: Any) -> Meta:
        if array.unreadable:
            raise base.Unreadable("is a dream, expected an array: wake up")
        return Meta((2, 3), "float32")

    def device(self, array: Any) -> base.Device:
        if array.place is None:
            raise base.Unreadable("is nowhere, which arrayops does not support: move it to the CPU")
        return array.place

    def to_backend(self, array: Any) -> Any:
        return ONE

    def from_backend(self, result: Any, like: Any) -> Any:
        return ("foreign", result, like)


class ForeignArray:
    def __init__(self, place: base.Device | None = numpy.HOST, *, unreadable: bool = False) -> None:
        self.place, self.unreadable = place, unreadable


class Variable:
    """An object that holds an array."""

    def __init__(self, value: Any) -> None:
        self.value = value


class Wrapper(base.ArrayWrapper):
    def recognises(self, array_type: type) -> bool:
        return array_type is Variable

    def unwrap(self, array: Any) -> Any:
        return array.value


@pytest.fixture
def foreign(monkeypatch: pytest.MonkeyPatch) -> Foreign:
    framework = Foreign()
    monkeypatch.setitem(_frameworks._framework_of_type, ForeignArray, framework)
    return framework


def message(kind: type[Exception], *call: Any) -> str:
    with pytest.raises(kind) as error:
        dispatch(*call)
    assert type(error.value) is kind
    return str(error.value)


class TestWay:
    def test_backend_gets_arrays_and_parameters_as_they_are(self, recorder: Recorder) -> None:
        options = Options()
        results = dispatch(JOINED, (ONE, None, ONE), options)
        assert recorder.wanted == [("cpu", "toy", "joined")]
        [(arrays, parameters)] = recorder.calls
        assert isinstance(arrays, tuple)
        assert arrays[0] is ONE
        assert arrays[1] is None
        assert parameters is options
        assert [result[0] for result in results] == [0, 1]

    def test_result_that_is_not_promised_is_none(self, recorder: Recorder) -> None:
        output, flag = dispatch(JOINED, (ONE, None, ONE), Options(both=False))
        assert output[0] == 0
        assert flag is None

    def test_variadic_arrays_reach_the_backend_one_by_one(self, recorder: Recorder) -> None:
        dispatch(JOINED, (ONE, None, ONE, ONE, ONE), Options())
        assert len(recorder.calls[0][0]) == 5

    def test_result_is_made_like_the_first_array(self, recorder: Recorder, foreign: Foreign) -> None:
        first, second = ForeignArray(), ForeignArray()
        results = dispatch(JOINED, (first, None, second), Options())
        assert [(result[0], result[2]) for result in results] == [("foreign", first)] * 2

    def test_infer_runs_once_for_a_repeated_call(self, recorder: Recorder) -> None:
        calls: list[Any] = []

        def counted(metas: Any, parameters: Any) -> Any:
            calls.append(metas)
            return (metas[0], None)

        op = Op("counted", "toy", (ArraySpec("input"),), Options, counted)
        for array in (ONE, ONE + 1, ONE[:1], ONE):
            dispatch(op, (array,), Options())
        assert calls == [(Meta((2, 3), "float32"),), (Meta((1, 3), "float32"),)]

    def test_error_of_infer_is_not_remembered_as_a_result(self, recorder: Recorder) -> None:
        for _ in range(2):
            assert message(ValueError, JOINED, (ONE[0], None, ONE), Options()) == (
                "joined: first is (3,), expected (2, 3)"
            )
        assert recorder.calls == []

    def test_gpu_work_runs_in_the_launching_context(
        self, recorder: Recorder, foreign: Foreign, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        from contextlib import contextmanager

        log: list[Any] = []

        @contextmanager
        def launching(device: base.Device) -> Iterator[None]:
            log.append(device)
            yield
            log.append("left")

        monkeypatch.setattr(foreign, "launching", launching)
        monkeypatch.setattr(foreign, "to_backend", lambda array: log.append("to") or ONE)
        monkeypatch.setattr(foreign, "from_backend", lambda result, like: log.append("from"))
        place = base.Device("cuda", 1)
        dispatch(JOINED, (ForeignArray(place), None, ForeignArray(place)), Options())
        assert recorder.wanted == [("cuda", "toy", "joined")]
        assert log == [place, "to", "to", "from", "from", "left"]
        log.clear()
        dispatch(JOINED, (ForeignArray(), None, ForeignArray()), Options())
        assert log == ["to", "to", "from", "from"]


class TestRefusals:
    def test_missing_array(self, recorder: Recorder) -> None:
        assert message(TypeError, JOINED, (None, None, ONE), Options()) == "joined: first is None, expected an array"
        assert message(TypeError, JOINED, (ONE, None, ONE, None), Options()) == (
            "joined: rest[1] is None, expected an array"
        )

    def test_variables_stand_for_their_arrays(self, recorder: Recorder, monkeypatch: pytest.MonkeyPatch) -> None:
        """Variables in variables too, and whichever argument they are."""
        monkeypatch.setitem(_frameworks._framework_of_type, Variable, Wrapper())
        dispatch(JOINED, (ONE, None, Variable(Variable(ONE[0]))), Options())
        dispatch(JOINED, (Variable(ONE), None, ONE), Options())
        [(first, _), (second, _)] = recorder.calls
        assert first[2].base is ONE
        assert second[0] is ONE
        assert message(TypeError, JOINED, (Variable([1]), None, ONE), Options()) == f"joined: first is list, {KNOWN}"

    def test_no_array_at_all(self, recorder: Recorder) -> None:
        op = Op("idle", "toy", (ArraySpec("input", optional=True),), Options, infer)
        assert message(TypeError, op, (None,), Options()) == "idle: got no array, expected at least one"

    @pytest.mark.parametrize(
        ("value", "name"),
        [
            ([[1.0]], "list"),
            ((1.0,), "tuple"),
            ("text", "str"),
            (1.5, "float"),
            (2, "int"),
            (True, "bool"),
            (memoryview(b"12"), "memoryview"),
            (Options(), f"{Options.__module__}.Options"),
        ],
    )
    def test_no_array_type(self, recorder: Recorder, value: Any, name: str) -> None:
        assert message(TypeError, JOINED, (value, None, ONE), Options()) == f"joined: first is {name}, {KNOWN}"
        assert message(TypeError, JOINED, (ONE, None, ONE, value), Options()) == f"joined: rest[1] is {name}, {KNOWN}"

    def test_mixed_frameworks(self, recorder: Recorder, foreign: Foreign) -> None:
        assert message(TypeError, JOINED, (ONE, None, ONE, ForeignArray()), Options()) == (
            "joined: rest[1] is an array of Foreign, expected NumPy as for first"
        )
        assert message(TypeError, JOINED, (ForeignArray(), ONE, ONE), Options()) == (
            "joined: labels is an array of NumPy, expected Foreign as for first"
        )

    def test_mixed_devices(self, recorder: Recorder, foreign: Foreign) -> None:
        on_gpu = ForeignArray(base.Device("cuda", 1))
        assert message(ValueError, JOINED, (ForeignArray(), None, on_gpu), Options()) == (
            "joined: rest[0] is on cuda:1, expected cpu:0 as for first"
        )
        labelled = [ForeignArray(base.Device("cpu", 0, label)) for label in ("north", "south")]
        assert message(ValueError, JOINED, (labelled[0], None, labelled[1]), Options()) == (
            "joined: rest[0] is on south, expected north as for first"
        )

    def test_device_that_no_backend_serves(self, recorder: Recorder, foreign: Foreign) -> None:
        assert message(TypeError, JOINED, (ForeignArray(None), None, ONE), Options()) == (
            "joined: first is nowhere, which arrayops does not support: move it to the CPU"
        )

    def test_unreadable(self, recorder: Recorder, foreign: Foreign) -> None:
        assert message(TypeError, JOINED, (ForeignArray(unreadable=True), None, ONE), Options()) == (
            "joined: first is a dream, expected an array: wake up"
        )

    def test_order(self, recorder: Recorder, foreign: Foreign) -> None:
        """Arguments are looked at from the first to the last; what one array is comes before what several are."""
        dream = ForeignArray(unreadable=True)
        assert "list" in message(TypeError, JOINED, ([1], None, dream), Options())
        assert "expected NumPy as for first" in message(TypeError, JOINED, (ONE, None, dream), Options())
        assert "wake up" in message(TypeError, JOINED, (dream, None, ONE), Options())
        # Metadata is judged by infer when all arrays are known to be of one framework and device.
        assert "as for first" in message(TypeError, JOINED, (ONE[0], None, dream), Options())
        assert recorder.wanted == recorder.calls == []

    def test_count_of_arrays(self, recorder: Recorder) -> None:
        with pytest.raises(ValueError, match="zip"):
            dispatch(SCALED, (ONE,), Parameters())

    def test_backend_without_the_operator(self, foreign: Foreign) -> None:
        place = base.Device("cuda", 0)
        arrays = (ForeignArray(place), None, ForeignArray(place))
        assert message(NotImplementedError, JOINED, arrays, Options()) == (
            "joined: arrays on cuda are not supported by this version of arrayops: move them to the CPU"
        )


class TestNeeds:
    def test_names(self) -> None:
        assert checked_needs(JOINED, ["rest", "first"]) == {"rest", "first"}
        assert checked_needs(JOINED, "first") == {"first"}
        assert checked_needs(JOINED, iter(())) == frozenset()

    @pytest.mark.parametrize("name", ["labels", "output", "first[0]", ""])
    def test_other_names(self, name: str) -> None:
        with pytest.raises(ValueError, match="needs has") as error:
            checked_needs(JOINED, ["first", name])
        assert str(error.value) == f"joined_backward: needs has {name!r}, expected names among ('first', 'rest')"

    def test_reach_the_backend(self, recorder: Recorder) -> None:
        dispatch_backward(JOINED, (ONE,), (ONE, None, ONE), Options(), ["rest"])
        dispatch_backward(JOINED, (ONE,), (ONE, None, ONE), Options(), None)
        assert [parameters.needs for _, parameters in recorder.calls] == [{"rest"}, {"first", "rest"}]
        assert recorder.wanted == [("cpu", "toy", "joined_backward")] * 2

    def test_gradients_not_needed_are_none(self, recorder: Recorder) -> None:
        first, rest = dispatch_backward(JOINED, (ONE,), (ONE, None, ONE), Options(), ["rest"])
        assert first is None
        assert rest[0] == 1


class TestBackwardRecord:
    def test_arrays_and_outputs(self) -> None:
        assert [spec.name for spec in JOINED.backward.arrays] == ["grad_output", "first", "labels", "rest"]
        assert JOINED.backward.outputs == ("first", "rest")
        assert JOINED.backward is JOINED.backward

    def test_gradient_of_wrong_shape_or_dtype(self, recorder: Recorder) -> None:
        for gradient, kind, text in (
            (ONE[:1], ValueError, "joined_backward: grad_output is (1, 3), expected (2, 3) as the output"),
            (
                ONE.astype(np.float64),
                TypeError,
                "joined_backward: grad_output is float64, expected float32 as the output",
            ),
        ):
            with pytest.raises(kind) as error:
                dispatch_backward(JOINED, (gradient,), (ONE, None, ONE), Options(), None)
            assert str(error.value) == text

    def test_forward_errors_bear_the_backward_name(self, recorder: Recorder) -> None:
        with pytest.raises(ValueError, match=r"^joined_backward: first is \(3,\), expected \(2, 3\)$"):
            dispatch_backward(JOINED, (ONE,), (ONE[0], None, ONE), Options(), None)

    def test_has_no_backward(self) -> None:
        message = "joined_backward is a backward operator, expected a forward operator"
        with pytest.raises(TypeError, match=message):
            _ = JOINED.backward.backward


class Saving(NamedTuple):
    second: bool = True
    save: bool = False


def infer_summed(metas: Any, parameters: Saving) -> Any:
    places = Meta((1,), "int32")
    return (metas[0], *((places, places if parameters.second else None) if parameters.save else ()))


SUMMED = Op("summed", "toy", (ArraySpec("input"),), Saving, infer_summed, saved=("places", "ranks"))


class TestSaved:
    """What a forward hands on to its backward."""

    PLACES, RANKS = np.arange(1, dtype=np.int32), np.arange(1, 2, dtype=np.int32)

    @pytest.fixture
    def backend(self, monkeypatch: pytest.MonkeyPatch) -> list[Any]:
        """What the backend returns; it is found wherever it is looked for, and keeps its calls behind that."""
        found: list[Any] = [(ONE, self.PLACES, self.RANKS)]

        def function(arrays: Any, parameters: Any) -> Any:
            found.append((arrays, parameters))
            return found[0]

        monkeypatch.setattr(_backends, "find", lambda kind, family, name: function)
        return found

    def test_only_those_who_ask_get_it(self, backend: list[Any]) -> None:
        results, saved = dispatch_saving(SUMMED, (ONE,), Saving())
        assert results == (ONE,)
        assert saved == (self.PLACES, self.RANKS)
        assert backend[-1][1] == Saving(save=True)
        backend[0] = (ONE,)
        assert dispatch(SUMMED, (ONE,), Saving()) == (ONE,)
        assert backend[-1][1] == Saving(save=False)

    def test_what_is_not_promised_is_none(self, backend: list[Any]) -> None:
        assert dispatch_saving(SUMMED, (ONE,), Saving(second=False)) == ((ONE,), (self.PLACES, None))

    def test_operator_that_saves_nothing(self, recorder: Recorder) -> None:
        results, saved = dispatch_saving(JOINED, (ONE, None, ONE), Options())
        assert len(results) == 2
        assert saved == ()
        assert recorder.calls[0][1] == Options()

    def test_in_arrays_of_the_framework(self, backend: list[Any], foreign: Foreign) -> None:
        array = ForeignArray()
        results, saved = dispatch_saving(SUMMED, (array,), Saving())
        assert results == (("foreign", ONE, array),)
        assert saved == (("foreign", self.PLACES, array), ("foreign", self.RANKS, array))

    @pytest.mark.parametrize("saved", [(), (None, None)])
    def test_backward_without_it_gets_as_many_arrays_as_ever(self, backend: list[Any], saved: Any) -> None:
        backend[0] = (ONE,)
        dispatch_backward(SUMMED, (ONE,), (ONE,), Saving(), None, saved)
        assert len(backend[-1][0]) == 2

    @pytest.mark.parametrize("saved", [(PLACES, RANKS), (None, RANKS), (PLACES, None)])
    def test_backward_with_some_gets_all_places(self, backend: list[Any], saved: Any) -> None:
        backend[0] = (ONE,)
        dispatch_backward(SUMMED, (ONE,), (ONE,), Saving(), None, saved)
        assert backend[-1][0][:2] == (ONE, ONE)
        assert backend[-1][0][2:] == saved
        assert backend[-1][1].forward == Saving()

    def test_other_than_what_was_saved(self, backend: list[Any]) -> None:
        for places, kind, text in (
            (np.zeros(2, np.int32), ValueError, "summed_backward: saved_places is (2,), expected (1,) as the places"),
            (np.zeros(1, np.int64), TypeError, "summed_backward: saved_places is int64, expected int32 as the places"),
        ):
            with pytest.raises(kind) as error:
                dispatch_backward(SUMMED, (ONE,), (ONE,), Saving(), None, (places, None))
            assert str(error.value) == text


def test_toy_operator(monkeypatch: pytest.MonkeyPatch) -> None:
    toy = Backend()
    monkeypatch.setattr(_backends, "find", toy.find)
    np.testing.assert_array_equal(toy.scaled(ONE, scale=3), ONE * 3)
