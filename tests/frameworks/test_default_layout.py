"""The layout that each framework's arrays have by default, and what backends get of it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

import arrayops as ao
from arrayops._call.layout import resolved_layout
from backend_recorder import Recorder
from differentiable_calls import DifferentiableCall
from layouts import CALLS_IN_NCHW, nhwc_call
from operator_oracles import as_tuple

every_call = pytest.mark.parametrize("call", CALLS_IN_NCHW.values(), ids=CALLS_IN_NCHW)
HINT = "all arrays fit layout='NHWC': pass layout='NHWC'"


def converted(call: dict[str, Any], convert: Any) -> dict[str, Any]:
    """The call with the arrays of a framework."""
    found = {}
    for name, value in call.items():
        if isinstance(value, list):
            found[name] = [convert(each) for each in value]
        else:
            found[name] = convert(value) if isinstance(value, np.ndarray) else value
    return found


def flat(results: Any) -> list[np.ndarray]:
    """All arrays of a result, of NumPy."""
    return [
        np.asarray(each)
        for result in as_tuple(results)
        for each in (result if isinstance(result, list) else [result])
        if each is not None
    ]


def assert_same(got: Any, want: Any) -> None:
    got, want = flat(got), flat(want)
    assert [each.shape for each in got] == [each.shape for each in want]
    assert [each.tobytes() for each in got] == [each.tobytes() for each in want]


class TestTensorFlow:
    @every_call
    def test_default_is_nhwc(self, tf: Any, call: DifferentiableCall, recorder: Recorder) -> None:
        op = call.op
        arrays = nhwc_call(op, call.call)
        tensors = converted(arrays, tf.constant)
        want = as_tuple(getattr(ao, op.name)(**arrays, layout="NHWC"))
        grad: Any = want[0]
        if "reductions" in arrays:
            grad = tuple(
                None if name == "count" else each for name, each in zip(arrays["reductions"], want, strict=True)
            )
        grads = getattr(ao, op.backward.name)(grad, **arrays, layout="NHWC")
        own: Any = tuple(None if each is None else tf.constant(each) for each in as_tuple(grad))
        own = own if "reductions" in arrays else own[0] if isinstance(grad, np.ndarray) else own
        recorder.calls()
        for keywords in ({}, {"layout": None}, {"layout": "NHWC"}, {"layout": "channels_last"}):
            assert_same(getattr(ao, op.name)(**tensors, **keywords), want)
            assert_same(getattr(ao, op.backward.name)(own, **tensors, **keywords), grads)
        assert recorder.layouts() == [(op.name, "NHWC"), (op.backward.name, "NHWC")] * 4

    @every_call
    def test_channels_first(self, tf: Any, call: DifferentiableCall, recorder: Recorder) -> None:
        want = getattr(ao, call.op.name)(**call.call)
        recorder.calls()
        got = getattr(ao, call.op.name)(**converted(call.call, tf.constant), layout="channels_first")
        assert_same(got, want)
        assert recorder.layouts() == [(call.op.name, "NCHW")]

    def test_all_tensors(self, tf: Any) -> None:
        seen = []

        @tf.function
        def function(x: Any) -> Any:
            seen.append(resolved_layout("conv2d", None, x))
            return x

        function(tf.ones(1))
        assert seen == ["NHWC"]
        assert resolved_layout("conv2d", None, tf.Variable([1.0])) == "NHWC"

    def test_hint_for_a_weight_of_torch(self, tf: Any) -> None:
        with pytest.raises(ValueError, match=r"; weight fits layout='NCHW': transpose it by \(2, 3, 1, 0\), or pass"):
            ao.conv2d(tf.ones((1, 8, 9, 4)), tf.ones((6, 4, 3, 3)))
        with pytest.raises(ValueError, match=r"; all arrays fit layout='NCHW': pass layout='NCHW'$"):
            ao.conv2d(tf.ones((1, 4, 8, 9)), tf.ones((6, 4, 3, 3)))

    def test_framework_of_the_first_array_decides(self, tf: Any) -> None:
        """Not that of a gradient, which may only be of the same framework."""
        x, weight = np.ones((1, 4, 8, 9), np.float32), np.ones((6, 4, 3, 3), np.float32)
        with pytest.raises(
            TypeError, match=r"^conv2d_backward: input is an array of NumPy, expected TensorFlow as for"
        ):
            ao.conv2d_backward(tf.ones((1, 6, 6, 7)), x, weight)
        assert resolved_layout("conv2d_backward", None, x) == "NCHW"


class TestKeras:
    @pytest.fixture
    def image_data_format(self, keras: Any) -> Iterator[Any]:
        before = keras.config.image_data_format()
        yield keras.config.set_image_data_format
        keras.config.set_image_data_format(before)

    @pytest.mark.parametrize(("words", "layout"), [("channels_last", "NHWC"), ("channels_first", "NCHW")])
    def test_symbolic(self, keras: Any, image_data_format: Any, words: str, layout: str) -> None:
        image_data_format(words)
        tensor = keras.Input((8, 9, 4))
        assert resolved_layout("conv2d", None, tensor) == layout
        assert resolved_layout("conv2d", "NCHW", tensor) == "NCHW"
        assert resolved_layout("conv2d", "channels_last", tensor) == "NHWC"

    @pytest.mark.parametrize("words", ["channels_last", "channels_first"])
    def test_variable_is_as_its_value(self, keras: Any, image_data_format: Any, words: str) -> None:
        image_data_format(words)
        backend = keras.config.backend()
        want = "NHWC" if backend == "tensorflow" else "NCHW"
        assert resolved_layout("conv2d", None, keras.Variable([1.0])) == want


class TestOthers:
    @every_call
    @pytest.mark.parametrize("framework", ["torch", "jax"])
    def test_default_is_nchw(
        self, request: pytest.FixtureRequest, framework: str, call: DifferentiableCall, recorder: Recorder
    ) -> None:
        module = request.getfixturevalue(framework)
        convert = module.from_numpy if framework == "torch" else module.numpy.asarray
        arrays = converted(call.call, convert)
        want = getattr(ao, call.op.name)(**arrays, layout="NCHW")
        assert_same(getattr(ao, call.op.name)(**arrays), want)
        assert recorder.layouts() == [(call.op.name, "NCHW")] * 2

    def test_tracers_of_jax(self, jax: Any) -> None:
        x, weight = jax.numpy.ones((1, 8, 9, 4)), jax.numpy.ones((3, 3, 4, 6))
        compiled = jax.jit(ao.conv2d, static_argnames="layout")
        assert compiled(x, weight, layout="channels_last").shape == (1, 6, 7, 6)
        with pytest.raises(ValueError, match=HINT):
            compiled(x, weight)
        assert resolved_layout("conv2d", None, x) == "NCHW"

    def test_fake_tensors_of_torch(self, torch: Any) -> None:
        x, weight = torch.ones(1, 8, 9, 4, device="meta"), torch.ones(3, 3, 4, 6, device="meta")
        assert ao.conv2d(x, weight, layout="channels_last").shape == (1, 6, 7, 6)
        with pytest.raises(ValueError, match=HINT):
            ao.conv2d(x, weight)

    def test_error_about_channels_last_tensors(self, torch: Any) -> None:
        """It has the shapes of the caller, although the call would be one in NHWC."""
        x = torch.ones(1, 4, 8, 9).to(memory_format=torch.channels_last)
        weight = torch.ones(3, 3, 4, 6)
        message = (
            r"^conv2d: weight is \(3, 3, 4, 6\), expected 4 input channels for an input of 4 channels in 1 group; "
            r"weight fits layout='NHWC': transpose it by \(3, 2, 0, 1\), or pass all arrays"
        )
        for image in (x, x.requires_grad_(), x.detach().to("meta")):
            with pytest.raises(ValueError, match=message) as caught:
                ao.conv2d(image, weight.to(image.device))
            assert caught.value.__context__ is None
