"""The argument ``layout``: accepted names, default, and error messages for arrays in the other layout."""

from __future__ import annotations

import re
from typing import Any, NamedTuple

import numpy as np
import pytest

import arrayops as ao
from arrayops._call.layout import resolved_layout
from arrayops._core.op import IMAGE, ArraySpec, BackwardParameters, Op
from arrayops._ops import OPS
from backend_recorder import Recorder
from differentiable_calls import DifferentiableCall
from layouts import CALLS_IN_NCHW, nhwc, nhwc_call

NAMES = {
    "NCHW": ("NCHW", "nchw", "Nchw", "channels_first", "CHANNELS_FIRST", np.str_("channels_first")),
    "NHWC": ("NHWC", "nhwc", "nHwC", "channels_last", "Channels_Last", np.str_("NHWC")),
}
EXPECTED = "expected 'NCHW', 'NHWC', 'channels_first', 'channels_last' or None"
every_call = pytest.mark.parametrize("call", CALLS_IN_NCHW.values(), ids=CALLS_IN_NCHW)


def f32(*shape: int) -> np.ndarray:
    return np.ones(shape, np.float32)


def labels(*shape: int) -> np.ndarray:
    return np.zeros(shape, np.int64)


def exactly(message: str) -> str:
    return f"^{re.escape(message)}$"


def grad_output(call: DifferentiableCall, layout: str = "NCHW") -> Any:
    """Gradients as the backward function of the call takes them."""
    given = iter(call.cotangents())
    axes = dict(zip(call.op.outputs, call.op.result_axes, strict=False))
    if "reductions" not in call.call:
        gradient = next(given)
        return gradient if layout == "NCHW" else nhwc(gradient, axes["output"])
    return tuple(
        None if name == "count" else next(given) if layout == "NCHW" else nhwc(next(given), axes[name])
        for name in call.call["reductions"]
    )


@pytest.fixture
def recorder(monkeypatch: pytest.MonkeyPatch) -> Recorder:
    return Recorder(monkeypatch)


class TestNames:
    @pytest.mark.parametrize(("layout", "name"), [(layout, name) for layout in NAMES for name in NAMES[layout]])
    def test_names(self, layout: str, name: str) -> None:
        resolved: Any = resolved_layout("conv2d", name, f32(1))
        assert (type(resolved), resolved) == (str, layout)

    @pytest.mark.parametrize("array", [f32(1), None, [1.0], "text"], ids=["NumPy", "None", "list", "str"])
    def test_default(self, array: Any) -> None:
        assert resolved_layout("conv2d", None, array) == "NCHW"

    @every_call
    def test_backends_get_the_resolved_layout(self, call: DifferentiableCall, recorder: Recorder) -> None:
        op = call.op
        forward, backward = getattr(ao, op.name), getattr(ao, op.backward.name)
        for arguments, names in ((call.call, (None, *NAMES["NCHW"])), (nhwc_call(op, call.call), NAMES["NHWC"])):
            layout = "NCHW" if None in names else "NHWC"
            grad = grad_output(call, layout)
            recorder.calls()
            for name in names:
                forward(**arguments, layout=name)
                backward(grad, **arguments, layout=name)
            calls = recorder.calls()
            assert len(calls) == 2 * len(names)
            assert {each.layout for each in calls} == {layout}
            assert len({each.parameters for each in calls}) == 2

    @every_call
    def test_default_of_numpy_arrays(self, call: DifferentiableCall) -> None:
        for got, want in zip(
            call.all_results(np.asarray)(*call.arrays),
            DifferentiableCall.of(call.op, {**call.call, "layout": "NCHW"}, ()).all_results(np.asarray)(*call.arrays),
            strict=True,
        ):
            assert got.tobytes() == want.tobytes()

    @every_call
    @pytest.mark.parametrize("layout", ["NCWH", "", "channels", b"NCHW", 1, ("NCHW",), f32(2, 2)], ids=repr)
    def test_other_values_are_errors(self, call: DifferentiableCall, layout: Any, recorder: Recorder) -> None:
        grad = grad_output(call)
        recorder.calls()
        for name, positional in ((call.op.name, ()), (call.op.backward.name, (grad,))):
            with pytest.raises(ValueError, match=exactly(f"{name}: layout is {layout!r}, {EXPECTED}")):
                getattr(ao, name)(*positional, **call.call, layout=layout)
        assert recorder.calls() == []

    def test_error_is_raised_before_labels_are_read(self, recorder: Recorder) -> None:
        with pytest.raises(ValueError, match=r"^segment_mean: layout is 'NCWH', expected"):
            ao.segment_mean(f32(1, 2, 3, 4), labels(1, 3, 4), layout="NCWH")  # type: ignore[call-overload]
        assert recorder.calls() == []

    def test_maps_are_checked_before_the_layout(self) -> None:
        with pytest.raises(ValueError, match=r"^merge_feature_maps: maps is empty, expected at least one array$"):
            ao.merge_feature_maps([], layout="NCWH")  # type: ignore[arg-type]


class Misfit(NamedTuple):
    """A call with arrays in the other layout, and what its message says."""

    name: str
    call: dict[str, Any]
    message: str


def all_fit(layout: str) -> str:
    return f"; all arrays fit layout='{layout}': pass layout='{layout}'"


def one_fits(name: str, layout: str, order: str) -> str:
    return (
        f"; {name} fits layout='{layout}': transpose it by {order}, or pass all arrays in that order with "
        f"layout='{layout}'"
    )


X, G, WEIGHT = f32(1, 4, 8, 9), f32(1, 3, 8, 9), f32(6, 4, 3, 3)
X_NHWC, G_NHWC, WEIGHT_NHWC = f32(1, 8, 9, 4), f32(1, 8, 9, 3), f32(3, 3, 4, 6)
KERNEL, KERNEL_NHWC = f32(1, 1, 3, 3, 8, 9), f32(1, 8, 9, 3, 3, 1)
MASK_NHWC = np.ones((1, 8, 9, 1), bool)
LABELS = labels(1, 8, 9)

CHANNELS_OF_NHWC = "weight is (3, 3, 4, 6), expected 8 input channels for an input of 8 channels in 1 group"
TORCH_WEIGHT = "weight is (6, 4, 3, 3), expected 4 input channels for an input of 4 channels in 1 group"
TO_HWIO, TO_NCHW, TO_NHWC = "(2, 3, 1, 0)", "(0, 3, 1, 2)", "(0, 2, 3, 1)"
PIXELS = "labels is (1, 8, 9), expected (1, 9, 4) as the pixels of the features"

MISFITS = (
    Misfit("conv2d", {"input": X_NHWC, "weight": WEIGHT_NHWC}, CHANNELS_OF_NHWC + all_fit("NHWC")),
    Misfit(
        "conv2d",
        {"input": X, "weight": WEIGHT, "layout": "channels_last"},
        "weight is (6, 4, 3, 3), expected 9 input channels for an input of 9 channels in 1 group" + all_fit("NCHW"),
    ),
    Misfit(
        "conv2d",
        {"input": X_NHWC, "weight": WEIGHT, "layout": "NHWC"},
        TORCH_WEIGHT + one_fits("weight", "NCHW", TO_HWIO),
    ),
    Misfit(
        "conv2d",
        {"input": X, "weight": WEIGHT_NHWC},
        "weight is (3, 3, 4, 6), expected 4 input channels for an input of 4 channels in 1 group"
        + one_fits("weight", "NHWC", "(3, 2, 0, 1)"),
    ),
    Misfit(
        "conv2d",
        {"input": X_NHWC, "weight": WEIGHT},
        "weight is (6, 4, 3, 3), expected 8 input channels for an input of 8 channels in 1 group"
        + one_fits("input", "NHWC", TO_NCHW),
    ),
    Misfit(
        "conv2d",
        {"input": X_NHWC, "weight": f32(6, 2, 3, 3), "groups": 2, "layout": "NHWC"},
        "weight is (6, 2, 3, 3), expected 2 input channels for an input of 4 channels in 2 groups"
        + one_fits("weight", "NCHW", TO_HWIO),
    ),
    Misfit(
        "conv_transpose2d",
        {"input": X_NHWC, "weight": f32(4, 6, 3, 3), "layout": "NHWC"},
        "weight is (4, 6, 3, 3), expected 4 input channels for an input of 4 channels in 1 group"
        + one_fits("weight", "NCHW", TO_HWIO),
    ),
    Misfit(
        "pac_kernel2d",
        {"guide": G_NHWC, "kernel_size": 3, "mask": MASK_NHWC},
        "mask is (1, 8, 9, 1), expected (1, 1, 9, 3) as the input, with one channel" + all_fit("NHWC"),
    ),
    Misfit(
        "pac_kernel2d",
        {"guide": G, "kernel_size": 3, "mask": MASK_NHWC},
        "mask is (1, 8, 9, 1), expected (1, 1, 8, 9) as the input, with one channel"
        + one_fits("mask", "NHWC", TO_NCHW),
    ),
    Misfit(
        "pac_conv2d",
        {"input": X_NHWC, "guide": G_NHWC, "weight": WEIGHT, "padding": 1, "layout": "NHWC"},
        TORCH_WEIGHT + one_fits("weight", "NCHW", TO_HWIO),
    ),
    Misfit(
        "pac_conv2d",
        {"input": X, "guide": None, "weight": WEIGHT, "kernel": KERNEL_NHWC, "padding": 1},
        "kernel is (1, 8, 9, 3, 3, 1), expected (1, 1, 3, 3, 8, 9)" + one_fits("kernel", "NHWC", "(0, 5, 3, 4, 1, 2)"),
    ),
    Misfit(
        "pac_conv2d",
        {"input": X_NHWC, "guide": None, "weight": WEIGHT_NHWC, "kernel": KERNEL, "padding": 1, "layout": "NHWC"},
        "kernel is (1, 1, 3, 3, 8, 9), expected (1, 8, 9, 3, 3, 1)" + one_fits("kernel", "NCHW", "(0, 4, 5, 2, 3, 1)"),
    ),
    Misfit(
        "pac_conv_transpose2d",
        {"input": X_NHWC, "guide": G_NHWC, "weight": f32(4, 6, 3, 3), "padding": 1, "layout": "NHWC"},
        "weight is (4, 6, 3, 3), expected 4 input channels for an input of 4 channels in 1 group"
        + one_fits("weight", "NCHW", TO_HWIO),
    ),
    Misfit(
        "pac_pool2d",
        {"input": X, "guide": G_NHWC, "kernel_size": 3},
        "guide is (1, 8, 9, 3), expected height and width (8, 9) of the input" + one_fits("guide", "NHWC", TO_NCHW),
    ),
    Misfit(
        "pac_pool2d",
        {"input": X, "guide": G, "kernel_size": 5, "layout": "NHWC"},
        "filter height is 5 (size 5, dilation 1), expected at most 4, the size of the padded input" + all_fit("NCHW"),
    ),
    *(
        Misfit(
            f"segment_{name}",
            {"features": X_NHWC, "labels": LABELS, "num_segments": 3},
            PIXELS + all_fit("NHWC"),
        )
        for name in ("mean", "sum", "max", "min", "var")
    ),
    Misfit(
        "segment_reduce",
        {"features": X, "labels": LABELS, "reductions": ("max", "count"), "layout": "nhwc"},
        "labels is (1, 8, 9), expected (1, 4, 8) as the pixels of the features" + all_fit("NCHW"),
    ),
    Misfit(
        "merge_feature_maps",
        {"maps": [X, X_NHWC, X], "how": "add"},
        "maps[1] is (1, 8, 9, 4), expected 4 channels as maps[0] with how 'add'" + one_fits("maps[1]", "NHWC", TO_NCHW),
    ),
    Misfit(
        "merge_feature_maps",
        {"maps": [X, f32(1, 4, 5, 6)], "how": "mean", "layout": "NHWC"},
        "maps[1] is (1, 4, 5, 6), expected 9 channels as maps[0] with how 'mean'" + all_fit("NCHW"),
    ),
    Misfit(
        "resize2d",
        {"input": f32(1, 0, 8, 9), "size": 3, "layout": "NHWC"},
        "input is (1, 0, 8, 9), expected a height of at least 1" + all_fit("NCHW"),
    ),
    # Gradients
    Misfit(
        "conv2d_backward",
        {"grad_output": f32(1, 6, 7, 6), "input": X_NHWC, "weight": WEIGHT_NHWC},
        CHANNELS_OF_NHWC + all_fit("NHWC"),
    ),
    Misfit(
        "conv2d_backward",
        {"grad_output": f32(1, 6, 7, 6), "input": X_NHWC, "weight": WEIGHT, "layout": "NHWC"},
        TORCH_WEIGHT + one_fits("weight", "NCHW", TO_HWIO),
    ),
    Misfit(
        "conv2d_backward",
        {"grad_output": f32(1, 6, 6, 7), "input": X_NHWC, "weight": WEIGHT_NHWC, "layout": "NHWC"},
        "grad_output is (1, 6, 6, 7), expected (1, 6, 7, 6) as the output" + one_fits("grad_output", "NCHW", TO_NHWC),
    ),
    Misfit(
        "segment_max_backward",
        {"grad_output": f32(1, 3, 4), "features": X_NHWC, "labels": LABELS, "num_segments": 3},
        PIXELS + all_fit("NHWC"),
    ),
    Misfit(
        "segment_max_backward",
        {
            "grad_output": f32(1, 4, 3),
            "features": X,
            "labels": LABELS,
            "num_segments": 3,
            "saved": labels(1, 3, 4),
        },
        "saved_max_positions is (1, 3, 4), expected (1, 4, 3) as the max_positions"
        + one_fits("saved_max_positions", "NHWC", "(0, 2, 1)"),
    ),
    Misfit(
        "segment_reduce_backward",
        {
            "grad_output": (None, f32(1, 4, 3)),
            "features": X_NHWC,
            "labels": LABELS,
            "reductions": ("count", "mean"),
            "num_segments": 3,
            "layout": "NHWC",
        },
        "grad_mean is (1, 4, 3), expected (1, 3, 4) as the mean" + one_fits("grad_mean", "NCHW", "(0, 2, 1)"),
    ),
    Misfit(
        "segment_unpool_backward",
        {"grad_output": X, "pooled": f32(1, 3, 4), "labels": LABELS, "layout": "NHWC"},
        "grad_output is (1, 4, 8, 9), expected (1, 8, 9, 4) as the output" + one_fits("grad_output", "NCHW", TO_NHWC),
    ),
    Misfit(
        "merge_feature_maps_backward",
        {"grad_output": X, "maps": [X, X_NHWC], "how": "add"},
        "maps[1] is (1, 8, 9, 4), expected 4 channels as maps[0] with how 'add'" + one_fits("maps[1]", "NHWC", TO_NCHW),
    ),
)


SILENT = {
    "pixels without images": ("segment_mean", {"features": f32(8, 4), "labels": labels(9)}),
    "pooled without images": (
        "segment_unpool_backward",
        {"grad_output": f32(9, 4), "pooled": f32(3, 4), "labels": labels(8)},
    ),
    "labels alone": ("segment_count", {"labels": labels(8, 9)}),
    "axes": ("conv2d", {"input": f32(8, 9, 4), "weight": WEIGHT_NHWC}),
    "neither layout": ("conv2d", {"input": X_NHWC, "weight": f32(3, 3, 5, 6), "layout": "NHWC"}),
    "the same in both": ("conv2d", {"input": f32(2, 2, 2, 2), "weight": f32(3, 3, 3, 3)}),
    "an option": ("pac_pool2d", {"input": X, "guide": G, "kernel_size": 3, "kernel_type": "inv"}),
    "a dtype": ("conv2d", {"input": X_NHWC, "weight": WEIGHT_NHWC.astype(np.float64)}),
}


class TestHints:
    @pytest.mark.parametrize("misfit", MISFITS, ids=lambda misfit: misfit.name)
    def test_message(self, misfit: Misfit) -> None:
        with pytest.raises(ValueError, match=exactly(f"{misfit.name}: {misfit.message}")) as caught:
            getattr(ao, misfit.name)(**misfit.call)
        assert type(caught.value) is ValueError

    @pytest.mark.parametrize("misfit", MISFITS, ids=lambda misfit: misfit.name)
    def test_advice_helps(self, misfit: Misfit) -> None:
        """The call passes with the layout, or with the array transposed, as the message says."""
        call = dict(misfit.call)
        layout = re.search(r"all arrays fit layout='(\w+)'", misfit.message)
        if layout is not None:
            getattr(ao, misfit.name)(**{**call, "layout": layout[1]})
            return
        name, digits = re.search(r"; ([\w\[\]]+) fits .* by \(([\d, ]+)\)", misfit.message).groups()  # type: ignore[union-attr]
        order = tuple(map(int, digits.split(", ")))
        if name == "maps[1]":
            call["maps"] = [call["maps"][0], np.transpose(call["maps"][1], order), *call["maps"][2:]]
        elif name == "grad_mean":
            call["grad_output"] = (None, np.transpose(call["grad_output"][1], order))
        else:
            name = "saved" if name.startswith("saved_") else name
            call[name] = np.transpose(call[name], order)
        getattr(ao, misfit.name)(**call)

    @pytest.mark.parametrize("name", SILENT)
    def test_other_errors(self, name: str) -> None:
        operator, call = SILENT[name]
        with pytest.raises((TypeError, ValueError)) as caught:
            getattr(ao, operator)(**call)
        assert str(caught.value).startswith(f"{operator}: ")
        assert "layout" not in str(caught.value)

    def test_every_family_has_a_hint(self) -> None:
        families = {OPS[misfit.name.removesuffix("_backward")].family for misfit in MISFITS}
        assert families == {op.family for op in OPS.values()}

    def test_parameters_without_a_layout(self) -> None:
        class Nothing(NamedTuple):
            pass

        def fail(metas: Any, parameters: Any) -> Any:
            raise ValueError("toy: input is bad, expected good")

        op = Op("toy", "toy", (ArraySpec("input", axes=IMAGE),), Nothing, fail)
        with pytest.raises(ValueError, match=r"^toy: input is bad, expected good$"):
            op.infer((None,), Nothing())
        with pytest.raises(ValueError, match=r"^toy_backward: input is bad, expected good$"):
            op.backward.infer((None, None), BackwardParameters(Nothing(), frozenset({"input"})))

    @pytest.mark.parametrize("arguments", [(), (3,), ("toy: input is bad", 3)], ids=repr)
    def test_errors_of_any_form(self, arguments: tuple[Any, ...]) -> None:
        """Where the other layout raises an error of its own, the first error stays as it is."""

        class WithLayout(NamedTuple):
            layout: str = "NCHW"

        def fail(metas: Any, parameters: WithLayout) -> Any:
            raise ValueError(*arguments) if parameters.layout == "NCHW" else RuntimeError("symbolic")

        op = Op("toy", "toy", (ArraySpec("input", axes=IMAGE),), WithLayout, fail)
        with pytest.raises(ValueError, match=r"^(|3|.*toy: input is bad.*)$") as caught:
            op.infer((None,), WithLayout())
        assert caught.value.args == arguments

        def fail_in_nchw(metas: Any, parameters: WithLayout) -> Any:
            if parameters.layout == "NCHW":
                raise ValueError(*arguments)
            return ()

        op = Op("toy", "toy", (ArraySpec("input", axes=IMAGE),), WithLayout, fail_in_nchw)
        with pytest.raises(ValueError, match=r"^(|3|.*toy: input is bad.*)$") as caught:
            op.infer((None,), WithLayout())
        want = (arguments[0] + all_fit("NHWC"), 3) if len(arguments) == 2 else arguments
        assert caught.value.args == want
