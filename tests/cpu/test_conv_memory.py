"""Extra memory of the convolutions: at most 64 MiB of workspace and twice the weights, whatever the groups."""

import pytest

from memory_probe import ROOM, WORKSPACE, extra_memory

pytest.importorskip("resource", reason="this system does not tell peak memory")

CALLS = {
    "forward": "[ao.conv2d(x, weight, **keywords)]",
    "backward": "ao.conv2d_backward(grad, x, weight, **keywords)",
}


@pytest.mark.slow
@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize(
    ("arrays", "weights"),
    [
        # Unfolded, the inputs would be 450 MiB, and the products of the depthwise recipe 1.6 GiB.
        ("x, weight = array(1, 128, 320, 320), array(128, 4, 3, 3); keywords = dict(groups=32, padding=1)", 0),
        (
            "x, weight = array(2, 200, 200, 128), array(5, 5, 128, 128)\n"
            "keywords = dict(padding='same', layout='NHWC')",
            5 * 5 * 128 * 128 * 4,
        ),
        ("x, weight = array(4, 1024, 7, 7), array(1024, 1024, 3, 3); keywords = dict(padding=1)", 1024 * 1024 * 9 * 4),
    ],
    ids=["narrow groups", "dense 5x5", "large weight"],
)
def test_extra_memory(call: str, arrays: str, weights: int) -> None:
    setup = f"{arrays}\ngrad = array(*x.shape)"
    assert extra_memory(setup, CALLS[call]) <= WORKSPACE + 2 * weights + ROOM
