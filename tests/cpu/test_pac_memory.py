"""Extra memory of the fused operators, as peak resident memory of a child process. See DESIGN: no buffer of kh kw C."""

import pytest

pytest.importorskip("resource", reason="this system does not tell peak memory")

from memory_probe import ROOM, WORKSPACE, extra_memory

ARRAYS = """
guide, weight = array(1, 8, 320, 320), array(32, 32, 5, 5, dtype=np.{dtype})
x, grad = array(1, 32, 320, 320, dtype=np.{dtype}), array(1, 32, 320, 320, dtype=np.{dtype})
"""
FORWARD = "[ao.pac_conv2d(x, guide, weight, padding=2, normalize_kernel=True)]"
BACKWARD = "ao.pac_conv2d_backward(grad, x, guide, weight, padding=2, normalize_kernel=True)"
# The same with layout, groups and a large filter, whose unfolded input would be 1.3 GB.
LARGE_FILTER = """
x, guide, weight = array(1, 320, 320, 4), array(1, 320, 320, 3), array(29, 29, 1, 1)
grad = array(1, 320, 320, 4)
"""
LARGE_KEYWORDS = 'padding="same", shared_filters=True, layout="NHWC"'


@pytest.mark.slow
@pytest.mark.parametrize("call", [FORWARD, BACKWARD], ids=["forward", "backward"])
@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_fused_convolution(call: str, dtype: str) -> None:
    # Unfolded, the input would be 312 MiB. Half precision is summed in a float32 copy of its results.
    copies = 2 * 320 * 320 * 32 * 4 if dtype == "float16" and call is BACKWARD else 0
    assert extra_memory(ARRAYS.format(dtype=dtype), call) <= WORKSPACE + ROOM + copies


@pytest.mark.slow
@pytest.mark.parametrize(
    "call",
    [
        f"[ao.pac_conv2d(x, guide, weight, {LARGE_KEYWORDS})]",
        f"ao.pac_conv2d_backward(grad, x, guide, weight, {LARGE_KEYWORDS})",
    ],
    ids=["forward", "backward"],
)
def test_large_filter(call: str) -> None:
    assert extra_memory(LARGE_FILTER, call) <= WORKSPACE + ROOM


@pytest.mark.slow
def test_upsampling_by_eight_with_a_filter_of_33() -> None:
    """The usual recipe unfolds the guide at full resolution: over 24 GiB."""
    setup = """
x, guide, weight = array(1, 1, 62, 92), array(1, 5, 496, 736), np.abs(array(1, 1, 33, 33))
keywords = dict(stride=8, padding=13, output_padding=1, shared_filters=True, normalize_kernel=True)
"""
    call = (
        "[y := ao.pac_conv_transpose2d(x, guide, weight, **keywords), "
        "*ao.pac_conv_transpose2d_backward(y, x, guide, weight, **keywords)]"
    )
    assert extra_memory(setup, call) <= WORKSPACE + ROOM
