"""The compiled convolutions and PAC operators under AddressSanitizer and UBSan, and under ThreadSanitizer."""

import os
import sys
import textwrap
from pathlib import Path

import pytest

import compiled_calls
import compiled_pac_calls
from emulator import sanitizer

TESTS = Path(__file__).resolve().parents[2]

FLAGS = {
    "address,undefined": "-O0 -g -fsanitize=address,undefined -fno-sanitize-recover=undefined",
    "thread": "-O0 -g -fsanitize=thread",
}

# For addresses, every array and workspace is memory of its own that ends with its last element.
RUNS = {
    "address,undefined": "exact_workspace.tasks_run(exact_workspace.exact)",
    "thread": "ao.num_threads(3)",
}
TABLES = {"compiled_calls": list(compiled_calls.CALLS), "compiled_pac_calls": list(compiled_pac_calls.CALLS)}
CODE = """
    import sys
    import numpy as np
    import arrayops as ao
    import {table} as table
    import exact_workspace
    from arrayops._backends.cpu.engine import scheduler
    from tolerances import BFLOAT16

    scheduler.THREAD_NANOSECONDS = 1
    with {run}:
        for number, name in enumerate(sys.argv[1:]):
            # Neighbours are alike.
            case = table.call(name, (np.dtype(np.float32), BFLOAT16)[number % 2])
            found = case.call(ao)
            case.backward(ao, case.grad((found[0] if isinstance(found, tuple) else found).shape))
            print(name)
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="sanitizers are run on Linux only")
@pytest.mark.parametrize("kind", FLAGS)
@pytest.mark.parametrize("table", TABLES)
def test_table_of_calls(table: str, kind: str) -> None:
    if reason := sanitizer.why_not(kind):
        pytest.skip(reason)
    variables = {
        "ARRAYOPS_CPU": "compiled",
        "ARRAYOPS_CPU_FLAGS": FLAGS[kind],
        "PYTHONPATH": os.pathsep.join(map(str, (TESTS / "support", TESTS, TESTS.parent))),
    }
    code = textwrap.dedent(CODE).format(run=RUNS[kind], table=table)
    outcome = sanitizer.run(kind, [sys.executable, "-c", code, *TABLES[table]], variables=variables, timeout=300)
    assert outcome.reports == ""
    assert outcome.status == 0, outcome.output[-4000:]
    assert outcome.output.splitlines() == TABLES[table]
