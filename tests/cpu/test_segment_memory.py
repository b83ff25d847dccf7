"""Extra memory of the segment operators: workspace, and totals of a few times the result, whatever the pixels."""

import pytest

from memory_probe import MEBIBYTE, ROOM, WORKSPACE, extra_memory

pytest.importorskip("resource", reason="this system does not tell peak memory")

SETUP = """
shape = (2, 512, 512, 64) if layout == 'NHWC' else (2, 64, 512, 512)
x = array(*shape)
labels = np.arange(2 * 512 * 512).reshape(2, 512, 512) // 700 % 400
names = ('mean', 'max', 'var')
grads = ao.segment_reduce(x, labels, names, 400, layout=layout)
"""
CALLS = {
    "reduce": "ao.segment_reduce(x, labels, names, 400, layout=layout)",
    "mean backward": "ao.segment_mean_backward(grads[0], x, labels, 400, layout=layout)",
    "reduce backward": "ao.segment_reduce_backward(grads, x, labels, names, 400, layout=layout)",
    "unpool": "[ao.segment_unpool(grads[0], labels, layout=layout)]",
}


@pytest.mark.slow
@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
@pytest.mark.parametrize("call", CALLS)
def test_extra_memory(call: str, layout: str) -> None:
    """Features are 128 MiB; labels expanded over channels would be 256 MiB."""
    assert extra_memory(f"layout = {layout!r}\n{SETUP}", CALLS[call]) <= WORKSPACE + ROOM
    assert WORKSPACE + ROOM < 128 * MEBIBYTE
