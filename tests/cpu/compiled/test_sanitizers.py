"""The compiled convolutions under AddressSanitizer and UBSan, and under ThreadSanitizer."""

import os
import sys
import textwrap
from pathlib import Path

import pytest

import compiled_calls
from emulator import sanitizer

TESTS = Path(__file__).resolve().parents[2]

FLAGS = {
    "address,undefined": "-O1 -g -fsanitize=address,undefined -fno-sanitize-recover=undefined",
    "thread": "-O1 -g -fsanitize=thread",
}

# For addresses, every array and workspace is memory of its own that ends with its last element.
RUNS = {
    "address,undefined": "exact_workspace.tasks_run(exact_workspace.exact)",
    "thread": "ao.num_threads(3)",
}
CODE = """
    import numpy as np
    import arrayops as ao
    import compiled_calls
    import exact_workspace
    from arrayops._backends.cpu.engine import scheduler
    from tolerances import BFLOAT16

    scheduler.THREAD_NANOSECONDS = 1
    with {run}:
        for number, name in enumerate(compiled_calls.CALLS):
            # Neighbours are alike.
            case = compiled_calls.call(name, (np.dtype(np.float32), BFLOAT16)[number % 2])
            output = case.call(ao)
            case.backward(ao, case.grad(output.shape))
            print(name)
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="sanitizers are run on Linux only")
@pytest.mark.parametrize("kind", FLAGS)
def test_table_of_calls(kind: str) -> None:
    if reason := sanitizer.why_not(kind):
        pytest.skip(reason)
    variables = {
        "ARRAYOPS_CPU": "compiled",
        "ARRAYOPS_CPU_FLAGS": FLAGS[kind],
        "PYTHONPATH": os.pathsep.join(map(str, (TESTS / "support", TESTS, TESTS.parent))),
    }
    code = textwrap.dedent(CODE).format(run=RUNS[kind])
    outcome = sanitizer.run(kind, [sys.executable, "-c", code], variables=variables, timeout=300)
    assert outcome.reports == ""
    assert outcome.status == 0, outcome.output[-4000:]
    assert outcome.output.splitlines() == list(compiled_calls.CALLS)
