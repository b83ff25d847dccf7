"""The bits of compiled convolutions depend on shapes and values alone."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest

import arrayops as ao
from large_convolutions import SHAPES, Shape, results
from new_process import in_new_process

LARGE = {
    **SHAPES,
    "many rows": Shape(2, 4, 4, 4, (120, 60)),
    "many rows, depthwise": Shape(2, 48, 1, 1, (100, 60)),
    "many rows, dense": Shape(3, 1, 40, 40, (60, 60)),
}


def digest(shape: Shape, layout: str, offset: int = 0) -> str:
    """A hash of all results, of arrays that begin so many bytes behind a cache line."""
    arrays = {}
    for name, array in shape.arrays().items():
        buffer = np.empty(array.nbytes + 128, np.uint8)
        start = -buffer.ctypes.data % 64 + offset
        arrays[name] = buffer[start : start + array.nbytes].view(array.dtype).reshape(array.shape)
        arrays[name][...] = array
    return hashlib.sha256(b"".join(found.tobytes() for found in results(shape, arrays, layout).values())).hexdigest()


@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
@pytest.mark.parametrize("name", LARGE)
def test_for_threads_and_runs(name: str, layout: str) -> None:
    found = set()
    for threads in (1, 2, 3, 7, 2):
        with ao.num_threads(threads):
            found.add(digest(LARGE[name], layout))
    assert len(found) == 1


@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
@pytest.mark.parametrize(
    "name", ["dense", "1x1", "groups of 4", "groups of 8", "groups of 32", "depthwise", "depthwise 7x7"]
)
def test_for_byte_offsets(name: str, layout: str) -> None:
    assert len({digest(SHAPES[name], layout, offset) for offset in (0, 4, 8, 20, 32, 60)}) == 1


def test_for_processes() -> None:
    code = """
        import sys
        sys.path.insert(0, sys.argv[1])
        from test_conv_bits import LARGE, digest
        for name in ("dense", "many rows", "groups of 8", "depthwise"):
            for layout in ("NCHW", "NHWC"):
                print(digest(LARGE[name], layout))
    """
    folder = str(Path(__file__).parent)
    found = in_new_process(code, folder, ARRAYOPS_CPU="compiled").split()
    names = ("dense", "many rows", "groups of 8", "depthwise")
    assert found == [digest(LARGE[name], layout) for name in names for layout in ("NCHW", "NHWC")]
