"""PyTorch tensors, and all that must not pass for one."""

import warnings
from typing import Any

import numpy as np
import pytest

import arrayops as ao
from arrayops import _frameworks
from tolerances import BFLOAT16, assert_close
from toy_op import FLOATS, Backend, address, bfloat16


@pytest.mark.parametrize("dtype", FLOATS)
def test_result_and_no_copy(torch: Any, toy: Backend, dtype: str) -> None:
    tensor = torch.arange(6).reshape(2, 3).to(getattr(torch, dtype))
    result = toy.scaled(tensor)
    assert type(result) is torch.Tensor
    assert (result.dtype, result.device, result.shape) == (tensor.dtype, tensor.device, tensor.shape)
    assert torch.equal(result, tensor * 2)
    assert address(toy.arrays[0]) == tensor.data_ptr()
    assert result.data_ptr() == address(toy.result)


def test_backend_cannot_write_to_inputs(torch: Any, toy: Backend) -> None:
    for dtype in (torch.float32, torch.bfloat16):
        toy.scaled(torch.ones(3, dtype=dtype))
        assert not toy.arrays[0].flags.writeable


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("name", ["transposed", "stepped", "expanded", "channels_last"])
def test_strides(torch: Any, toy: Backend, name: str, dtype: str) -> None:
    whole = torch.arange(24).reshape(4, 6).to(getattr(torch, dtype))
    tensor = {
        "transposed": whole.T,
        "stepped": whole[::2, 1::3],
        "expanded": whole[0].expand(3, 6),
        "channels_last": whole.reshape(1, 2, 3, 4).to(memory_format=torch.channels_last),
    }[name]
    before = tensor.clone()
    result = toy.scaled(tensor)
    assert address(toy.arrays[0]) == tensor.data_ptr()
    assert result.is_contiguous()
    assert torch.equal(result, before * 2)
    assert torch.equal(tensor, before)


@pytest.mark.parametrize("shape", [(), (0,), (3, 0, 2)])
@pytest.mark.parametrize("dtype", FLOATS)
def test_scalars_and_zero_size(torch: Any, toy: Backend, shape: tuple[int, ...], dtype: str) -> None:
    result = toy.scaled(torch.ones(shape, dtype=getattr(torch, dtype)))
    assert tuple(result.shape) == shape
    assert result.dtype == getattr(torch, dtype)


@pytest.mark.parametrize("dtype", ["bool", "uint8", "uint16", "uint32", "uint64", "int8", "int16", "int32", "int64"])
def test_other_dtypes(torch: Any, toy: Backend, dtype: str) -> None:
    tensor = torch.ones(3).to(getattr(torch, dtype))
    assert toy.scaled(tensor).dtype == tensor.dtype
    assert _frameworks.find(tensor).describe(tensor) == ((3,), dtype)


def test_pac_conv2d_equals_numpy(torch: Any, pac: Any) -> None:
    tensors = [torch.from_numpy(array) for array in pac.arrays]
    np.testing.assert_array_equal(ao.pac_conv2d(*tensors, padding=1), pac.output)
    gradients = ao.pac_conv2d_backward(torch.from_numpy(pac.gradient), *tensors, padding=1)
    for gradient, expected in zip(gradients, pac.gradients, strict=False):
        np.testing.assert_array_equal(gradient, expected)


def test_results_of_every_float_dtype(torch: Any, pac: Any) -> None:
    """The operator's own results, which come with their own strides and offsets, survive the way back."""
    for name in FLOATS:
        tensors = [torch.from_numpy(array).to(getattr(torch, name)) for array in pac.arrays]
        result = ao.pac_conv2d(*tensors, padding=1)
        assert result.dtype == tensors[0].dtype
        # The rounded values in double precision.
        expected = ao.pac_conv2d(*(tensor.double().numpy() for tensor in tensors), padding=1)
        dtype = BFLOAT16 if name == "bfloat16" else np.dtype(name)
        assert_close(result.double(), expected, dtype)


class TestSilentErrors:
    def test_lazy_negation(self, torch: Any, toy: Backend) -> None:
        tensor = torch.complex(torch.ones(3), torch.full((3,), 2.0)).conj().imag
        assert tensor.is_neg()
        assert torch.equal(toy.scaled(tensor), torch.full((3,), -4.0))

    def test_lazy_conjugation(self, torch: Any) -> None:
        tensor = torch.complex(torch.ones(3), torch.full((3,), 2.0)).conj()
        assert tensor.is_conj()
        np.testing.assert_array_equal(_frameworks.find(tensor).to_backend(tensor), np.full(3, 1 - 2j, np.complex64))

    def test_device_that_no_backend_serves(self, torch: Any, toy: Backend, monkeypatch: pytest.MonkeyPatch) -> None:
        framework = _frameworks.find(torch.ones(1))

        class OnMetal:
            is_cpu = is_cuda = is_meta = False
            device = torch.device("mps", 0)

        with pytest.raises(TypeError, match=r"^is on mps:0, which arrayops does not support: move it to the CPU$"):
            framework.device(OnMetal())

    def test_subclasses(self, torch: Any, toy: Backend) -> None:
        class Plain(torch.Tensor):
            pass

        class Answering(torch.Tensor):
            @classmethod
            def __torch_function__(cls, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
                if function is torch.Tensor.numpy:
                    return np.zeros(3)
                return super().__torch_function__(function, types, args, kwargs or {})

        for kind in (Plain, Answering):
            result = toy.scaled(torch.ones(3).as_subclass(kind))
            # As for torch's own operators.
            assert type(result) is kind
            assert torch.equal(result, torch.full((3,), 2.0))

    def test_subclass_that_overrides_operations(self, torch: Any, toy: Backend) -> None:
        """It gets the operator to answer for; where it passes itself on, it is refused."""
        seen = []

        class Wrapper(torch.Tensor):
            @staticmethod
            def __new__(cls, inner: Any) -> Any:
                return torch.Tensor._make_wrapper_subclass(cls, inner.shape, dtype=inner.dtype)

            def __init__(self, inner: Any) -> None:
                self.inner = inner

            @classmethod
            def __torch_dispatch__(cls, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
                seen.append(function.name())
                plain = torch.utils._pytree.tree_map_only(cls, lambda each: each.inner, args)
                return function(*plain, **(kwargs or {}))

        tensor = Wrapper(torch.ones(3))
        assert torch.equal(toy.scaled(tensor), torch.full((3,), 2.0))
        assert "arrayops::scaled" in seen
        with pytest.raises(TypeError, match=r"Wrapper, a tensor subclass with a __torch_dispatch__, expected a plain"):
            _frameworks.find(tensor).describe(tensor)

    def test_layouts(self, torch: Any, toy: Backend) -> None:
        eye = torch.eye(4)
        quantized = "is a quantized tensor, expected a floating-point tensor: pass tensor.dequantize()"
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            parts = [torch.ones(2), torch.ones(3)]
            layouts = {
                "has layout torch.sparse_coo, expected torch.strided: pass tensor.to_dense()": eye.to_sparse(),
                "has layout torch.sparse_csr, expected torch.strided: pass tensor.to_dense()": eye.to_sparse_csr(),
                "has layout torch._mkldnn, expected torch.strided: pass tensor.to_dense()": eye.to_mkldnn(),
                quantized: torch.quantize_per_tensor(eye, 0.1, 0, torch.quint8),
            }
            nested = [torch.nested.nested_tensor(parts, layout=layout) for layout in (torch.strided, torch.jagged)]
        dense = "is a nested tensor, expected a dense tensor: pass its components one at a time"
        for message, tensor in (*layouts.items(), *((dense, tensor) for tensor in nested)):
            with pytest.raises(TypeError) as error:
                toy.scaled(tensor)
            assert str(error.value) == f"scaled: input {message}"

    def test_other_dispatch_modes_are_no_tracers(self, torch: Any, toy: Backend) -> None:
        from torch.utils.flop_counter import FlopCounterMode

        with FlopCounterMode(display=False):
            assert torch.equal(toy.scaled(torch.ones(3)), torch.full((3,), 2.0))

    def test_default_device_does_not_move_results(self, torch: Any, toy: Backend) -> None:
        tensor = torch.ones(3)
        with torch.device("meta"):
            assert toy.scaled(tensor).device.type == "cpu"


def test_negative_strides_never_abort(torch: Any) -> None:
    """torch.from_dlpack ends the process on a negative stride; results come back by a way that raises instead."""
    framework = _frameworks.find(torch.ones(1))
    for array in (np.ones(4, np.float32)[::-1], bfloat16([1.0, 2.0])[::-1]):
        with pytest.raises(ValueError, match="negative"):
            framework.from_backend(array, torch.ones(1))
