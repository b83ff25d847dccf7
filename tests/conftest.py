"""Fixtures that tests of several folders share."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest


@pytest.fixture(params=["emulated", pytest.param("gpu", marks=pytest.mark.gpu)])
def device(request: pytest.FixtureRequest) -> Iterator[Any]:
    """The public functions on a device (`cuda_device.Device`): an emulated one, and a real one if there is one."""
    pytest.importorskip("cupy", reason="CuPy is not installed")
    import cuda_device

    if request.param == "emulated":
        with cuda_device.emulated() as found:
            yield found
        return
    if reason := cuda_device.why_no_gpu():
        pytest.skip(reason)
    with cuda_device.real() as found:
        yield found
