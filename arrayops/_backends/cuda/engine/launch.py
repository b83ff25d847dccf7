"""Launches kernels and checks that arguments have types that CuPy passes unchanged."""

from typing import Any

import cupy
import numpy as np

from arrayops._backends.cuda.engine.errors import kernel_error, out_of_memory
from arrayops._backends.cuda.engine.module import Kernel

MAX_BLOCKS_X = 2**31 - 1
MAX_BLOCKS_YZ = 65535

# None is passed as a null pointer.
_TYPES: frozenset[type] = frozenset(
    {
        cupy.ndarray,
        type(None),
        np.void,
        np.bool_,
        *(np.dtype(name).type for name in ("int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64")),
        *(np.dtype(name).type for name in ("float16", "float32", "float64")),
    }
)


def launch(
    function: Kernel,
    grid: tuple[int, int, int],
    block: tuple[int, int, int],
    arguments: tuple[Any, ...],
    shared_bytes: int = 0,
) -> None:
    """Launch a kernel on CuPy's current stream, without waiting for it.

    Parameters
    ----------
    function : Kernel
        From `module.kernel`, for the current device.
    grid, block : tuple of 3 ints
        Blocks of the grid and threads of a block; a grid with a zero launches nothing.
    arguments : tuple
        CuPy arrays, NumPy scalars (structures from `struct` among them), or None for a null pointer. Arrays are passed
        as pointers to their first element, without shapes and strides.
    shared_bytes : int
        Dynamic shared memory of a block.

    Raises
    ------
    TypeError
        For an argument of another type. CuPy would pass a Python int as 64 bits and a Python float as a double,
        whatever the kernel declares, and the kernel would read wrong bits.
    ValueError
        For a grid beyond the limits of CUDA.
    KernelError
        If CUDA refuses the launch.
    """
    if not _TYPES.issuperset(map(type, arguments)):
        _check_types(function, arguments)
    x, y, z = grid
    if not (0 < x <= MAX_BLOCKS_X and 0 < y <= MAX_BLOCKS_YZ and 0 < z <= MAX_BLOCKS_YZ):
        if x == 0 or y == 0 or z == 0:
            return
        limits = MAX_BLOCKS_X, MAX_BLOCKS_YZ, MAX_BLOCKS_YZ
        raise ValueError(f"{function.identity}: the grid is {grid}, expected (0, 0, 0) to {limits}")
    try:
        function.call(grid, block, arguments, shared_mem=shared_bytes)
    except RuntimeError as error:
        if out_of_memory(error):
            raise
        failed = f"cannot be launched on grid {grid}, block {block}, with {shared_bytes} bytes of shared memory"
        raise kernel_error(function.identity, failed, error) from error


def struct(dtype: "np.dtype[Any]", **fields: Any) -> np.void:
    """A structure to pass by value.

    Parameters
    ----------
    dtype : numpy.dtype
        Made with ``align=True`` from the fields of the C++ structure in order, so that both have the same layout.
    **fields
        A value for each field.

    Returns
    -------
    numpy.void

    Raises
    ------
    TypeError
        For a dtype that is not aligned, or fields that are missing or unknown.
    """
    if fields.keys() != (dtype.fields or {}).keys() or not dtype.isalignedstruct:
        raise TypeError(
            f"launch.struct: got fields {tuple(fields)}, expected {dtype.names} of a structure created with align=True"
        )
    packed: Any = np.array(tuple([fields[name] for name in dtype.names or ()]), dtype)
    # A NumPy scalar: `launch` rejects host arrays, which CuPy would accept.
    value: np.void = packed[()]
    return value


def _check_types(function: Kernel, arguments: tuple[Any, ...]) -> None:
    """Raise for the first argument of an unknown type; subclasses of known types are accepted."""
    known = tuple(_TYPES)
    for number, argument in enumerate(arguments):
        if not isinstance(argument, known):
            kind = type(argument)
            raise TypeError(
                f"{function.identity}: argument {number} is {kind.__module__}.{kind.__qualname__} {argument!r:.60}, "
                "expected a CuPy array, a NumPy scalar such as numpy.int32, or None"
            )
