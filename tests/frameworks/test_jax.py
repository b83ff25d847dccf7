"""JAX arrays on two CPU devices, and JAX's tracers."""

from typing import Any

import numpy as np
import pytest

import arrayops as ao
from arrayops import _frameworks
from arrayops._backends.numpy.memory import empty
from toy_op import FLOATS, Backend, address, unaligned


@pytest.fixture
def x64(jax: Any) -> Any:
    return jax.enable_x64


def make(jax: Any, values: Any, dtype: str) -> Any:
    with jax.enable_x64(dtype == "float64"):
        return jax.numpy.asarray(values, dtype=dtype)


@pytest.mark.parametrize("dtype", FLOATS)
def test_result_and_no_copy(jax: Any, toy: Backend, dtype: str) -> None:
    """With float64 this also shows that an array made under x64 keeps its width while x64 is off."""
    array = make(jax, np.arange(96).reshape(4, 24), dtype)
    result = toy.scaled(array)
    assert isinstance(result, jax.Array)
    assert (result.dtype, result.shape, result.device) == (array.dtype, array.shape, array.device)
    np.testing.assert_array_equal(np.asarray(result, np.float64), np.asarray(array, np.float64) * 2)
    assert address(toy.arrays[0]) == array.unsafe_buffer_pointer()
    assert not toy.arrays[0].flags.writeable
    assert result.unsafe_buffer_pointer() == address(toy.result)


def test_result_outlives_the_backend_array(jax: Any, toy: Backend) -> None:
    result = toy.scaled(jax.numpy.ones(1 << 16))
    toy.result = None
    other = [np.full(1 << 16, 9.0, np.float32) for _ in range(8)]
    np.testing.assert_array_equal(result, np.full(1 << 16, 2.0, np.float32))
    assert len(other) == 8


@pytest.mark.parametrize("dtype", FLOATS)
def test_transposed(jax: Any, toy: Backend, dtype: str) -> None:
    array = make(jax, np.arange(12).reshape(3, 4), dtype).T[::-1]
    before = np.array(array)
    result = toy.scaled(array)
    np.testing.assert_array_equal(np.asarray(result, np.float64), before.astype(np.float64) * 2)
    np.testing.assert_array_equal(array, before)


@pytest.mark.parametrize("shape", [(), (0,), (3, 0, 2)])
@pytest.mark.parametrize("dtype", FLOATS)
def test_scalars_and_zero_size(jax: Any, toy: Backend, shape: tuple[int, ...], dtype: str) -> None:
    result = toy.scaled(make(jax, np.ones(shape), dtype))
    assert (result.shape, result.dtype) == (shape, dtype)


@pytest.mark.parametrize("dtype", ["bool", "uint8", "uint16", "uint32", "int8", "int16", "int32"])
def test_other_dtypes(jax: Any, toy: Backend, dtype: str) -> None:
    array = jax.numpy.ones(3, dtype)
    assert toy.scaled(array).dtype == dtype
    assert _frameworks.find(array).describe(array) == ((3,), dtype)


def test_pac_conv2d_equals_numpy(jax: Any, pac: Any) -> None:
    arrays = [jax.numpy.asarray(array) for array in pac.arrays]
    np.testing.assert_array_equal(ao.pac_conv2d(*arrays, padding=1), pac.output)
    gradients = ao.pac_conv2d_backward(jax.numpy.asarray(pac.gradient), *arrays, padding=1)
    for gradient, expected in zip(gradients, pac.gradients, strict=False):
        np.testing.assert_array_equal(gradient, expected)


def test_unaligned_memory_is_copied(jax: Any) -> None:
    result = unaligned(np.arange(100, dtype=np.float32))
    array = _frameworks.find(jax.numpy.ones(1)).from_backend(result, jax.numpy.ones(1))
    assert array.unsafe_buffer_pointer() != address(result)
    np.testing.assert_array_equal(array, result)


class TestDevices:
    def test_result_stays_on_the_device(self, jax: Any, toy: Backend) -> None:
        for device in jax.devices():
            result = toy.scaled(jax.device_put(np.ones(64, np.float32), device))
            assert result.device == device
            assert result.committed
            assert result.unsafe_buffer_pointer() == address(toy.result)

    def test_uncommitted_stays_uncommitted(self, jax: Any, toy: Backend) -> None:
        for device in jax.devices():
            with jax.default_device(device):
                array = jax.numpy.ones(3)
            result = toy.scaled(array)
            assert result.device == device
            assert not result.committed

    def test_mixed_devices(self, jax: Any, toy: Backend) -> None:
        first, second = (jax.device_put(np.ones(3), device) for device in jax.devices())
        with pytest.raises(ValueError, match=r"^scaled: weight is on cpu:1, expected cpu:0 as for input$"):
            toy.scaled(first, second)

    def test_sharded(self, jax: Any, toy: Backend) -> None:
        mesh = jax.make_mesh((2,), ("i",))
        for axes in (("i",), ()):
            sharding = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec(*axes))
            with pytest.raises(TypeError) as error:
                toy.scaled(jax.device_put(np.ones(4), sharding))
            assert str(error.value) == (
                "scaled: input is sharded over 2 devices, expected an array on one device: gather it with "
                "jax.device_put"
            )

    def test_sharded_over_one_device(self, jax: Any, toy: Backend) -> None:
        mesh = jax.make_mesh((1,), ("i",))
        sharding = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec("i"))
        np.testing.assert_array_equal(toy.scaled(jax.device_put(np.ones(4), sharding)), np.full(4, 2.0))


class TestWideIntegers:
    """Without x64 JAX has no 64-bit integers: results of that width become 32 bits, or an error if they do not fit."""

    def test_kept_under_x64(self, jax: Any, toy: Backend, x64: Any) -> None:
        with x64(True):
            result = toy.scaled(jax.numpy.array([2**40]))
            assert result.dtype == np.int64
            assert int(result[0]) == 2**41

    def test_narrowed(self, jax: Any, toy: Backend, x64: Any) -> None:
        with x64(True):
            arrays = [jax.numpy.array(values, dtype) for values, dtype in (([3, -4], "int64"), ([3, 4], "uint64"))]
            arrays.append(jax.numpy.ones((0, 2), "int64"))
        for array in arrays:
            result = toy.scaled(array)
            assert result.dtype == str(array.dtype).replace("64", "32")
            np.testing.assert_array_equal(result, np.asarray(array) * 2)

    @pytest.mark.parametrize(("value", "dtype"), [(2**30, "int64"), (-(2**31), "int64"), (2**31, "uint64")])
    def test_never_cut_off(self, jax: Any, toy: Backend, x64: Any, value: int, dtype: str) -> None:
        with x64(True):
            array = jax.numpy.array([value, 0], dtype)
        with pytest.raises(OverflowError) as error:
            toy.scaled(array)
        assert str(error.value) == (
            f"a result is {dtype} with values out of range of {dtype.replace('64', '32')}, which JAX would truncate: "
            "set jax_enable_x64"
        )


class OnGPU:
    """A result as CuPy's: no `numpy.ndarray`, and taken by DLPack."""

    def __init__(self, array: Any) -> None:
        self.memory, self.dtype, self.size = aligned(array), array.dtype, array.size

    def __dlpack__(self, **_: Any) -> Any:
        return self.memory.__dlpack__()

    def __dlpack_device__(self) -> Any:
        return self.memory.__dlpack_device__()


def aligned(array: Any) -> Any:
    copy = empty(array.shape, array.dtype)
    copy[...] = array
    return copy


class TestWideResultsOfGPUs:
    """What jax.dlpack makes narrow by itself: as on the CPU."""

    def test_floats_stay_wide(self, jax: Any) -> None:
        like = jax.numpy.ones(1)
        result = _frameworks.find(like).from_backend(OnGPU(np.array([1 / 3, 2])), like)
        assert result.dtype == np.float64
        np.testing.assert_array_equal(result, [1 / 3, 2])

    @pytest.mark.parametrize("values", [[3, 2**31 - 1], [], 5])
    def test_integers_become_narrow(self, jax: Any, values: Any) -> None:
        like = jax.numpy.ones(1)
        for dtype in ("int64", "uint64"):
            result = _frameworks.find(like).from_backend(OnGPU(np.array(values, dtype)), like)
            assert result.dtype == dtype.replace("64", "32")
            np.testing.assert_array_equal(result, values)

    @pytest.mark.parametrize(("value", "dtype"), [(2**40, "int64"), (-(2**31) - 1, "int64"), (2**32, "uint64")])
    def test_never_cut_off(self, jax: Any, value: int, dtype: str) -> None:
        like = jax.numpy.ones(1)
        with pytest.raises(OverflowError, match="jax_enable_x64"):
            _frameworks.find(like).from_backend(OnGPU(np.array([0, value], dtype)), like)

    def test_all_is_kept_under_x64(self, jax: Any, x64: Any) -> None:
        like = jax.numpy.ones(1)
        with x64(True):
            result = _frameworks.find(like).from_backend(OnGPU(np.array([2**40])), like)
            assert (result.dtype, int(result[0])) == (np.int64, 2**40)


class TestTransformations:
    """Of an operator without a gradient; see test_jax_gradients.py and test_jax_tracing.py for the operators."""

    def test_all_but_gradients(self, jax: Any, toy: Backend) -> None:
        array = jax.numpy.arange(6.0).reshape(2, 3)
        for transformation in (
            jax.jit,
            jax.vmap,
            lambda f: jax.jit(jax.vmap(jax.vmap(f))),
            lambda f: jax.vmap(f, 1, 1),
            jax.checkpoint,
            lambda f: lambda x: jax.lax.map(f, x),
            lambda f: lambda x: jax.vjp(f, x)[0],
        ):
            result = transformation(toy.scaled)(array)
            assert (result.dtype, result.shape) == (array.dtype, array.shape)
            np.testing.assert_array_equal(result, array * 2)

    @pytest.mark.parametrize("dtype", FLOATS)
    def test_memory_of_traced_calls(self, jax: Any, toy: Backend, dtype: str) -> None:
        """The backend reads XLA's own buffers, in which JAX's arrays are."""
        with jax.enable_x64(dtype == "float64"):
            array = make(jax, np.arange(96).reshape(4, 24), dtype)
            result = jax.jit(toy.scaled)(array)
            np.testing.assert_array_equal(np.asarray(result, np.float64), np.asarray(array, np.float64) * 2)
        assert address(toy.arrays[0]) == array.unsafe_buffer_pointer()

    def test_results_are_not_the_memory_of_the_backend(self, jax: Any, toy: Backend) -> None:
        result = jax.jit(toy.scaled)(jax.numpy.ones(64))
        result.block_until_ready()
        assert result.unsafe_buffer_pointer() != address(toy.result)

    def test_concrete_array_under_jit_is_a_constant(self, jax: Any, toy: Backend) -> None:
        constant = jax.numpy.ones(3)
        result = jax.jit(lambda x: x + toy.scaled(constant))(jax.numpy.ones(3))
        np.testing.assert_array_equal(result, np.full(3, 3.0))


def test_without_private_names(jax: Any, toy: Backend, monkeypatch: pytest.MonkeyPatch) -> None:
    """A version of JAX in which they are gone takes results over by its public functions."""
    from arrayops._frameworks.jax import private

    monkeypatch.setattr(private, "_batched_device_put", None)
    for device in jax.devices():
        result = toy.scaled(jax.device_put(np.ones(64, np.float32), device))
        assert (result.device, result.committed) == (device, True)
        assert result.unsafe_buffer_pointer() == address(toy.result)
    constant = jax.numpy.ones(3)
    assert not toy.scaled(constant).committed
    result = jax.jit(lambda x: x + toy.scaled(constant))(jax.numpy.ones(3))
    np.testing.assert_array_equal(result, np.full(3, 3.0))


def test_deleted(jax: Any, toy: Backend) -> None:
    array = jax.numpy.ones(3)
    array.delete()
    with pytest.raises(TypeError) as error:
        toy.scaled(array)
    assert str(error.value) == (
        "scaled: input is a deleted or donated JAX array, expected one that has not been deleted"
    )


def test_abstract_values_are_no_arrays(jax: Any, toy: Backend) -> None:
    with pytest.raises(TypeError, match=r"^scaled: input is jax.ShapeDtypeStruct, expected an array of NumPy"):
        toy.scaled(jax.ShapeDtypeStruct((3,), np.float32))
