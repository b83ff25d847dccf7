"""Keras on the backend of KERAS_BACKEND, and the layers."""

from pathlib import Path
from typing import Any

import pytest

# Keras' own, when it reads variables.
READING = "ignore:__array__ implementation doesn't accept a copy keyword:DeprecationWarning"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.path.parent == Path(__file__).parent:
            item.add_marker(pytest.mark.filterwarnings(READING))


@pytest.fixture(scope="session")
def layers(keras: Any) -> Any:
    from arrayops.layers import keras as found

    return found


@pytest.fixture(autouse=True)
def same_random_numbers(keras: Any) -> None:
    keras.utils.set_random_seed(0)


@pytest.fixture(scope="session")
def numpy(keras: Any) -> Any:
    """A function from tensors of the backend, in any nesting, to NumPy arrays."""

    def converted(value: Any) -> Any:
        if isinstance(value, (list, tuple)):
            return [converted(each) for each in value]
        return keras.ops.convert_to_numpy(value)

    return converted
