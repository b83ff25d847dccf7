"""Calls in graphs that run at the same time, on several devices, and in loops and branches of graphs."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import arrayops as ao
import parallel_graph
from new_process import in_new_process
from operator_oracles import normal
from tolerances import assert_close

ON_ONE_THREAD = """
import sys
import numpy as np
import tensorflow as tf
import parallel_graph

tf.config.threading.set_inter_op_parallelism_threads(1)
tf.config.threading.set_intra_op_parallelism_threads(1)
np.savez(f"{sys.argv[1]}/cpu.npz", **parallel_graph.computed(tf))

from arrayops._frameworks.tensorflow import graph
graph.uses_gpu = lambda: True
np.savez(f"{sys.argv[1]}/gpu.npz", **parallel_graph.computed(tf))
"""


def bits(tensor: Any) -> tuple[Any, ...]:
    array = np.asarray(tensor)
    return array.dtype, array.shape, array.tobytes()


@pytest.fixture(params=[False, True], ids=["cpu", "as on a gpu"])
def with_gpu(request: pytest.FixtureRequest, tf: Any, monkeypatch: pytest.MonkeyPatch) -> bool:
    """Graphs as on machines without and with a GPU."""
    from arrayops._frameworks.tensorflow import graph

    monkeypatch.setattr(graph, "uses_gpu", lambda: request.param)
    return request.param


@pytest.fixture(scope="module")
def computed(tf: Any) -> dict[str, Any]:
    return parallel_graph.computed(tf)


class TestAtTheSameTime:
    def test_branches_of_a_graph(self, tf: Any, computed: dict[str, Any]) -> None:
        """Equal those one by one, and their gradients too."""
        given = [tf.constant(array) for array in parallel_graph.arrays()]
        for i in range(parallel_graph.BRANCHES):
            [result], [gradients] = parallel_graph.differentiated(tf, given, range(i, i + 1))
            assert bits(computed[f"result_{i}"]) == bits(result)
            for j, gradient in enumerate(gradients):
                assert bits(computed[f"gradient_{i}_{j}"]) == bits(gradient)

    def test_elements_of_a_dataset(self, tf: Any, computed: dict[str, Any]) -> None:
        image, *others, labels = parallel_graph.arrays()
        elements = [array for name, array in computed.items() if name.startswith("element")]
        assert len(elements) == 6
        for i, element in enumerate(elements):
            adapted = ao.pac_conv2d(image * np.float32(i), *others, padding="same", layout="NHWC")
            assert bits(element) == bits(ao.segment_mean(adapted, labels, 9, layout="NHWC"))

    def test_where_tensorflow_has_one_thread(self, computed: dict[str, Any], tmp_path: Path) -> None:
        """Which waits for no other call; also in graphs as on machines with a GPU."""
        assert in_new_process(ON_ONE_THREAD, str(tmp_path), timeout=120) == ""
        for kind in ("cpu", "gpu"):
            with np.load(tmp_path / f"{kind}.npz") as found:
                assert set(found) == set(computed)
                for name, array in computed.items():
                    assert bits(found[name]) == bits(array), name

    def test_one_function_on_threads(self, tf: Any, with_gpu: bool) -> None:
        given = [tf.constant(array) for array in parallel_graph.arrays()]
        wanted = [parallel_graph.differentiated(tf, (image, *given[1:]), range(1)) for image in (given[0], -given[0])]
        step = tf.function(lambda *given: parallel_graph.differentiated(tf, given, range(1)))
        with ThreadPoolExecutor(4) as pool:
            found = list(pool.map(lambda i: step((-1.0) ** i * given[0], *given[1:]), range(12)))
        for i, (results, gradients) in enumerate(found):
            results_wanted, gradients_wanted = wanted[i % 2]
            assert bits(results[0]) == bits(results_wanted[0])
            assert list(map(bits, gradients[0])) == list(map(bits, gradients_wanted[0]))


@pytest.fixture(scope="module")
def strategy(tf: Any) -> Any:
    """One for all tests: TensorFlow takes the sums of a second one for those of the first."""
    return tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])


@pytest.mark.parametrize("in_graph", [True, False])
def test_mirrored_strategy(tf: Any, strategy: Any, in_graph: bool) -> None:
    """Of two halves of a batch on two devices: the sum of their gradients is that of the batch."""
    images, guides = normal(0, 4, 7, 6, 2), normal(1, 4, 7, 6, 3)
    shape = 3, 3, 2, 5
    assert strategy.num_replicas_in_sync == 2
    with strategy.scope():
        weight, bias = tf.Variable(normal(2, *shape)), tf.Variable(normal(3, shape[-1]))

    def loss(images: Any, guides: Any, weight: Any, bias: Any) -> Any:
        output = ao.pac_conv2d(images, guides, weight, bias, padding=1, normalize_kernel=True, layout="NHWC")
        return tf.reduce_sum(output**2)

    def step(images: Any, guides: Any) -> Any:
        with tf.GradientTape() as tape:
            value = loss(images, guides, weight, bias)
        gradients = tape.gradient(value, [weight, bias])
        return tf.distribute.get_replica_context().all_reduce("sum", [value, *gradients])

    def half(array: np.ndarray[Any, Any], context: Any) -> Any:
        """That of one replica, on its device."""
        number = context.replica_id_in_sync_group
        with tf.device(strategy.extended.worker_devices[number]):
            return tf.identity(np.split(array, 2)[number])

    halves = [strategy.experimental_distribute_values_from_function(partial(half, array)) for array in (images, guides)]

    def run(*values: Any) -> Any:
        return strategy.run(step, args=values)

    found = (tf.function(run) if in_graph else run)(*halves)
    variables = [tf.constant(normal(2, *shape)), tf.constant(normal(3, shape[-1]))]
    with tf.GradientTape() as tape:
        tape.watch(variables)
        value = loss(tf.constant(images), tf.constant(guides), *variables)
    for replicas, wanted in zip(found, [value, *tape.gradient(value, variables)], strict=True):
        results = strategy.experimental_local_results(replicas)
        assert len(results) == 2
        for number, result in enumerate(results):
            assert result.dtype == tf.float64
            assert result.backing_device == strategy.extended.worker_devices[number]
            assert_close(result.numpy(), wanted.numpy(), np.float64)


def looped(tf: Any, images: Any, weight: Any) -> Any:
    """A loop whose state is the images, with a result of each round."""

    def body(i: Any, images: Any, rounds: Any) -> Any:
        images = tf.tanh(ao.pac_conv2d(images, images, weight, padding=1, layout="NHWC"))
        return i + 1, images, rounds.write(i, images)

    rounds = tf.TensorArray(images.dtype, 3, element_shape=images.shape)
    return tf.while_loop(lambda i, *_: i < 3, body, (0, images, rounds))[2].stack()


def mapped(tf: Any, images: Any, weight: Any) -> Any:
    return tf.map_fn(lambda image: ao.conv2d(image[None], weight, dilation=2, layout="NHWC")[0], images)


def chosen(tf: Any, images: Any, weight: Any) -> Any:
    """Which call, by the values; both get the same variable."""
    return tf.cond(
        images[0, 0, 0, 0] > 0,
        lambda: ao.pac_pool2d(images, images, 3, padding=1, layout="NHWC") * tf.reduce_sum(weight),
        lambda: ao.conv2d(images, weight, padding=1, layout="NHWC"),
    )


@pytest.mark.parametrize("function", [looped, mapped, chosen])
@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize("taped_outside", [False, True])
def test_control_flow(tf: Any, with_gpu: bool, function: Callable[..., Any], sign: int, taped_outside: bool) -> None:
    """Loops and branches of graphs, with a tape in the function or around it; without a graph, they are Python's."""
    images, weight = tf.constant(sign * normal(0, 3, 7, 6, 2)), tf.Variable(normal(1, 3, 3, 2, 2) / 4)

    def differentiated(function: Callable[..., Any]) -> Callable[..., Any]:
        def step(images: Any) -> Any:
            with tf.GradientTape() as tape:
                tape.watch(images)
                result = function(images)
                value = tf.reduce_sum(result**2)
            return result, *tape.gradient(value, [images, weight])

        return step

    def plain(images: Any) -> Any:
        return function(tf, images, weight)

    step = differentiated(tf.function(plain)) if taped_outside else tf.function(differentiated(plain))
    for got, wanted in zip(step(images), differentiated(plain)(images), strict=True):
        assert got.dtype == tf.float64
        assert np.any(wanted != 0)
        assert_close(got.numpy(), wanted.numpy(), np.float64)
