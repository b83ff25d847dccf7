"""The layers for torch."""

from typing import Any

import pytest


@pytest.fixture(scope="session")
def layers(torch: Any) -> Any:
    from arrayops.layers import torch as found

    return found


@pytest.fixture(autouse=True)
def same_random_numbers(torch: Any) -> None:
    torch.manual_seed(0)
