"""Programs of TensorFlow and models of Keras that were saved, loaded in other processes and by later versions."""

import inspect
import json
import math
import sys
from collections.abc import Sequence
from importlib import import_module, util
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import saved_model
from arrayops._call.saved_call import SavedCall, array_names, result_names
from arrayops._core.op import BackwardParameters, Op
from arrayops._frameworks import saved_programs
from arrayops._ops import OPS
from backend_recorder import Recorder
from differentiable_calls import CALLS, DifferentiableCall
from new_process import in_new_process
from tolerances import assert_close

every_call = pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)

IN_ANOTHER_PROCESS = """
import sys
from pathlib import Path
import numpy as np
import saved_model

class Finder:
    def __init__(self):
        self.names = []

    def find_spec(self, name, path=None, target=None):
        self.names.append(name)

order, folder = sys.argv[1], Path(sys.argv[2])
behind, before = Finder(), Finder()
sys.meta_path.insert(0, behind)
others = list(sys.meta_path)
if order == "arrayops first":
    import arrayops
    assert sys.meta_path[1:] == others
    sys.meta_path.insert(0, before)
    others.insert(0, before)
import tensorflow as tf
assert ("arrayops" in sys.modules) == (order == "arrayops first")
# Packages that TensorFlow imports have finders of their own.
assert [finder for finder in sys.meta_path if finder in others] == others
assert not any(type(finder).__module__.startswith("arrayops") for finder in sys.meta_path)
if order == "arrayops first":
    for finder in behind, before:
        assert finder.names.count("tensorflow.python.ops.script_ops") == 1
        assert finder.names[-1] != "tensorflow.python.ops.script_ops"

arguments = saved_model.arguments()
program, served = (tf.saved_model.load(folder / name) for name in ("program", "exported"))
if order == "tensorflow first":
    for function in program, lambda image, guide, labels: served.serve([image, guide]):
        try:
            function(*(arguments[name].astype("float32" if function is not program and name != "labels" else None)
                       for name in ("image", "guide", "labels")))
        except tf.errors.OpError as error:
            assert "to run this program, import arrayops first" in str(error), error
        else:
            raise AssertionError
    finders = list(sys.meta_path)
    import arrayops
    assert sys.meta_path == finders
found = saved_model.computed(tf, program, arguments)
found |= saved_model.computed_by_network(tf, served.serve, served.trainable_variables, arguments)

import keras
saved_model.layer_class(keras)
network = keras.models.load_model(folder / "network.keras")
loaded = saved_model.computed_by_network(tf, network, network.trainable_variables, arguments)
found |= {f"keras_{name}": array for name, array in loaded.items()}
np.savez(folder / f"{order}.npz", **found)
"""


@pytest.fixture(scope="module")
def saved(tf: Any, keras: Any, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """A folder with programs, and what they compute in this process."""
    folder = tmp_path_factory.mktemp("saved")
    arguments, program, network = saved_model.arguments(), saved_model.program(tf), saved_model.network(keras)
    found = saved_model.computed_by_network(tf, network, network.trainable_variables, arguments)
    found |= {f"keras_{name}": array for name, array in found.items()}
    found |= saved_model.computed(tf, program, arguments)
    tf.saved_model.save(program, str(folder / "program"))
    network.export(str(folder / "exported"), verbose=False)
    network.save(folder / "network.keras")
    return folder, found


# Keras' own, when it reads variables.
@pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy keyword:DeprecationWarning")
@pytest.mark.parametrize("order", ["arrayops first", "tensorflow first"])
def test_in_another_process(saved: tuple[Path, dict[str, Any]], order: str) -> None:
    """Results, gradients and second derivatives are equal; before arrayops is imported, an error says what to do."""
    folder, wanted = saved
    assert in_new_process(IN_ANOTHER_PROCESS, order, str(folder)) == ""
    with np.load(folder / f"{order}.npz") as found:
        assert set(found) == set(wanted)
        for name, array in wanted.items():
            assert (array.dtype, array.shape, array.tobytes()) == (
                *(found[name].dtype, found[name].shape, found[name].tobytes()),
            ), name


FOLDERS = sorted(path.parent for path in Path(__file__).parent.glob("saved_models/*/saved_model.pb"))


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
def test_saved_by_an_earlier_version(tf: Any, folder: Path) -> None:
    program = tf.saved_model.load(str(folder))
    with np.load(folder / "arguments.npz") as arguments, np.load(folder / "computed.npz") as computed:
        found = saved_model.computed(tf, program, dict(arguments))
        assert set(found) >= set(computed)
        for name, wanted in computed.items():
            assert found[name].dtype == wanted.dtype
            # Processors round sums differently.
            assert_close(found[name], wanted, np.float64, what=name)


def test_programs_of_earlier_versions_are_there() -> None:
    assert "first_format" in [folder.name for folder in FOLDERS]


@pytest.fixture
def graph_call(tf: Any) -> Any:
    """The class of calls in graphs."""
    from arrayops._frameworks.tensorflow.callbacks import GraphCall

    return GraphCall


def saved_call(op: Op, parameters: Any, arrays: Sequence[str], results: Sequence[str] = ("output",)) -> SavedCall:
    return SavedCall(op, parameters, tuple(arrays), tuple(results))


def exact(value: Any) -> str:
    """Text that tells 1 from 1.0 and True, and has all digits."""
    if isinstance(value, BackwardParameters):
        return f"{exact(value.forward)} {sorted(value.needs)}"
    assert type(value).__module__.startswith("arrayops.")
    return repr(value)


class TestNames:
    """All of a call but its arrays is stored in the name of its operation."""

    @every_call
    def test_are_decoded(self, graph_call: Any, recorder: Recorder, call: DifferentiableCall) -> None:
        call.gradients(call.cotangents())
        backend_calls = recorder.calls()
        assert [each.name for each in backend_calls] == [call.op.name, call.op.backward.name]
        for op, backend_call in zip((call.op, call.op.backward), backend_calls, strict=True):
            count = len(backend_call.arrays)
            arrays = [spec.name for spec in op.specs(count)]
            names = [
                tuple(name for name, value in zip(*pair, strict=False) if value is not None)
                for pair in ((arrays, backend_call.arrays), (result_names(op, count), backend_call.results))
            ]
            made = graph_call(SavedCall(op, backend_call.parameters, *names), call.names[:1])
            for kind in ("host", "device"):
                name = made.encoded(kind)
                assert name.startswith(saved_programs.PREFIX + kind)
                found = graph_call.decoded(name)
                assert found == made
                assert exact(found.call.parameters) == exact(made.call.parameters)
            assert array_names(op, names[0]) == tuple(arrays)
            given = [value for value in backend_call.arrays if value is not None]
            assert list(map(id, found.call.all_arrays(given))) == list(map(id, backend_call.arrays))

    @pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, -0.0, 0.1, 3, 3.0, 2**70, 5e-324, None, True])
    def test_have_numbers_exactly(self, graph_call: Any, value: Any) -> None:
        op = OPS["segment_max"]
        parameters = op.parameters(("max",), 5, None, value, value, "NHWC", True)
        for each, given in ((op, parameters), (op.backward, BackwardParameters(parameters, op.all_needs))):
            made = graph_call(saved_call(each, given, ("features", "labels"), ()))
            assert exact(graph_call.decoded(made.encoded("host")).call.parameters) == exact(given)

    def test_have_tuples(self, graph_call: Any) -> None:
        op = OPS["conv2d"]
        parameters = op.parameters((1, 2), ((0, 1), (2, 3)), (0, 0), (1, 1), "NCHW", False, 1)
        made = graph_call(saved_call(op, parameters, ("input", "weight")))
        found = graph_call.decoded(made.encoded("host"))
        assert exact(found.call.parameters) == exact(parameters)
        assert hash(found) == hash(made)


STORED = {
    "operator": "segment_max",
    "arrays": ["features", "labels"],
    "results": ["output"],
    "parameters": {
        "reductions": ["max"],
        "num_segments": 5,
        "ignore_label": None,
        "empty": 0,
        "check": None,
        "layout": "NHWC",
        "save": False,
    },
}
"""As version 0.1 stores a call; names with other content are of other versions."""


def stored(**changes: Any) -> str:
    return f"{saved_programs.PREFIX}host {json.dumps({**STORED, **changes})}"


def without(content: dict[str, Any], name: str) -> dict[str, Any]:
    return {key: value for key, value in content.items() if key != name}


class TestOtherVersions:
    def test_what_an_older_one_lacks_has_its_default(self, graph_call: Any) -> None:
        op, parameters = OPS["segment_max"], without(STORED["parameters"], "save")
        wanted = op.parameters(("max",), 5, None, 0, None, "NHWC", save=False)
        call = saved_call(op, wanted, ("features", "labels"))
        assert graph_call.decoded(stored()) == graph_call.decoded(stored(parameters=parameters)) == graph_call(call)
        backward = {"operator": "segment_max_backward", "needs": ["features"], "results": ["features"]}
        found = graph_call.decoded(stored(**backward, parameters=parameters, arrays=["grad_output", *call.arrays])).call
        assert (found.op, found.parameters) == (op.backward, BackwardParameters(wanted, op.all_needs))
        assert found.all_arrays([1, 2, 3]) == [1, 2, 3]

    @pytest.mark.parametrize(
        ("changes", "known_by", "unknown"),
        [
            ({"operator": "segment_median"}, "segment_median", "this operator"),
            ({"operator": "segment_median_backward"}, "segment_median_backward", "this operator"),
            ({"parameters": {**STORED["parameters"], "weighted": 1, "ties": 2}}, "segment_max", "weighted, ties"),
            ({"arrays": ["features", "labels", "weights"]}, "segment_max", "weights"),
            ({"results": ["output", "second_output"]}, "segment_max", "second_output"),
            (
                {"operator": "segment_max_backward", "arrays": ["grad_second", "features", "labels"], "needs": []},
                "segment_max_backward",
                "grad_second",
            ),
            (
                {"operator": "segment_max_backward", "results": ["weights"], "needs": []},
                *("segment_max_backward", "weights"),
            ),
        ],
    )
    def test_what_a_newer_one_has_is_refused(
        self, tf: Any, graph_call: Any, changes: dict[str, Any], known_by: str, unknown: str
    ) -> None:
        message = (
            f"{known_by}: the program has {unknown}, which this version of arrayops does not know, expected a program "
            "of this version or an older one: install the version of arrayops that saved it"
        )
        with pytest.raises(ValueError, match="which this version of arrayops does not know") as error:
            graph_call.decoded(stored(**changes))
        assert str(error.value) == message
        with pytest.raises(tf.errors.InvalidArgumentError) as in_graph:
            tf.raw_ops.PyFuncStateless(input=[tf.ones(1)], token=stored(**changes), Tout=[tf.float32])
        assert message in str(in_graph.value)

    def test_more_maps(self, graph_call: Any) -> None:
        """Of any number, by their own names."""
        parameters = dict.fromkeys(OPS["merge_feature_maps"].parameters._fields)
        maps = {"operator": "merge_feature_maps", "parameters": parameters}
        found = graph_call.decoded(stored(**maps, arrays=[f"maps[{i}]" for i in range(12)])).call
        assert found.all_arrays(range(12)) == list(range(12))
        with pytest.raises(ValueError, match=r"^merge_feature_maps: the program has sizes\[0\], which this version"):
            graph_call.decoded(stored(**maps, arrays=["maps[0]", "sizes[0]"]))


class WaitingFor:
    """A module of a test in the place of TensorFlow's."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
        self.extended: list[Any] = []
        self.path = folder / "awaited_by_arrayops.py"
        self.path.write_text("NAME = __name__\n", "utf-8")
        monkeypatch.setattr(saved_programs, "MODULE", self.path.stem)
        monkeypatch.setattr(saved_programs, "extend", self.extended.append)
        # Without that of arrayops itself, which is there if TensorFlow is not imported yet.
        finders = [finder for finder in sys.meta_path if not isinstance(finder, saved_programs._OnImport)]
        monkeypatch.setattr(sys, "meta_path", finders)
        monkeypatch.syspath_prepend(folder)
        monkeypatch.setattr(sys, "dont_write_bytecode", True)

    def imported(self) -> Any:
        return import_module(self.path.stem)


@pytest.fixture
def awaited(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    yield WaitingFor(monkeypatch, tmp_path)
    sys.modules.pop("awaited_by_arrayops", None)


class TestImport:
    """TensorFlow is extended when it is imported. `IN_ANOTHER_PROCESS` has this with TensorFlow itself."""

    def test_once(self, awaited: WaitingFor) -> None:
        finders = list(sys.meta_path)
        saved_programs.serve()
        assert sys.meta_path[1:] == finders
        module = awaited.imported()
        assert awaited.extended == [module]
        assert sys.meta_path == finders
        assert inspect.getsource(module) == "NAME = __name__\n"
        saved_programs.serve()
        assert awaited.extended == [module, module]
        assert sys.meta_path == finders

    def test_after_a_look_for_it(self, awaited: WaitingFor) -> None:
        """Which does not import it."""
        saved_programs.serve()
        assert util.find_spec(awaited.path.stem) is not None
        assert awaited.extended == []
        module = awaited.imported()
        assert awaited.extended == [module]

    def test_after_a_failure(self, awaited: WaitingFor) -> None:
        finders = list(sys.meta_path)
        awaited.path.write_text("raise ImportError('a library is missing')", "utf-8")
        saved_programs.serve()
        with pytest.raises(ImportError, match="a library is missing"):
            awaited.imported()
        awaited.path.write_text("NAME = 'a longer text, which is no other in a cache'", "utf-8")
        assert awaited.extended == []
        module = awaited.imported()
        assert awaited.extended == [module]
        assert sys.meta_path == finders

    def test_where_it_is_not_installed(self, awaited: WaitingFor) -> None:
        awaited.path.unlink()
        saved_programs.serve()
        with pytest.raises(ModuleNotFoundError, match="awaited_by_arrayops"):
            awaited.imported()

    def test_for_two_that_wait(self, awaited: WaitingFor) -> None:
        """As after arrayops was removed from sys.modules and imported again."""
        finders = list(sys.meta_path)
        saved_programs.serve()
        saved_programs.serve()
        module = awaited.imported()
        assert awaited.extended == [module, module]
        assert sys.meta_path == finders

    @pytest.mark.filterwarnings("ignore:.*falling back to find_module:ImportWarning")
    def test_beside_other_finders(self, awaited: WaitingFor, monkeypatch: pytest.MonkeyPatch) -> None:
        """One that asks all finders, as those of tools that watch imports do, and one of old."""

        class Old:
            def find_module(self, name: str, path: Any = None) -> None:
                return None

        class Asking:
            asked = False

            def find_spec(self, name: str, path: Any = None, target: Any = None) -> Any:
                if self.asked or name != awaited.path.stem:
                    return None
                self.asked = True
                return util.find_spec(name)

        for place in range(3):
            awaited.extended.clear()
            sys.modules.pop(awaited.path.stem, None)
            monkeypatch.setattr(sys, "meta_path", list(sys.meta_path))
            saved_programs.serve()
            asking = Asking()
            sys.meta_path.insert(place, asking)
            sys.meta_path.insert(1, Old())
            assert awaited.imported() in awaited.extended
            assert asking.asked
            assert asking in sys.meta_path
            assert not any(isinstance(finder, saved_programs._OnImport) for finder in sys.meta_path)

    def test_loader_of_many_modules(self, awaited: WaitingFor, tmp_path: Path) -> None:
        """As of programs that are packed into one file."""
        (tmp_path / "other_awaited.py").write_text("", "utf-8")

        class Loader:
            def create_module(self, spec: Any) -> None:
                return None

            def exec_module(self, module: Any) -> None:
                module.loaded = True

        class Finder:
            loader = Loader()

            def find_spec(self, name: str, path: Any = None, target: Any = None) -> Any:
                return util.spec_from_loader(name, self.loader) if "awaited" in name else None

        sys.meta_path.insert(0, Finder())
        saved_programs.serve()
        module = awaited.imported()
        assert module.loaded
        try:
            assert import_module("other_awaited").loaded
        finally:
            sys.modules.pop("other_awaited", None)
        assert awaited.extended == [module]
