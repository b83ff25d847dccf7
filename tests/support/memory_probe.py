"""Peak resident memory that a call adds to its arrays and results, in a child process."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
MEBIBYTE = 1 << 20

# What the operators may take beside arrays: workspace of 64 MiB; and some room for what the interpreter allocates.
WORKSPACE = 64 * MEBIBYTE
ROOM = 8 * MEBIBYTE

PROGRAM = """
import resource, sys
import numpy as np
import arrayops as ao

def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)

def array(*shape, dtype=np.float32):
    # Row by row: a temporary would raise the peak before the call.
    made = np.empty(shape, dtype)
    made[...] = np.linspace(-1, 1, shape[-1])
    return made

# Everything is imported and started up by a small call.
small = array(1, 2, 8, 8)
ao.pac_conv2d_backward(small, small, small, array(2, 2, 3, 3), padding=1)
ao.conv2d_backward(small, small, array(2, 2, 3, 3), padding=1)
ao.set_num_threads(2)
{setup}
before = peak()
results = {call}
results = [result for result in results if result is not None]
print(peak() - before - sum(result.nbytes for result in results))
"""


def extra_memory(setup: str, call: str) -> int:
    """Peak memory that ``call`` adds to arrays and results, in bytes."""
    program = PROGRAM.format(setup=setup, call=call)
    environment = {"PYTHONPATH": str(ROOT), "PATH": ""}
    done = subprocess.run(
        [sys.executable, "-c", program], env=environment, capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stderr
    return int(done.stdout)
