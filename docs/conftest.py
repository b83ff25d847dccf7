"""The examples of docs/frameworks.md need frameworks, which not every environment has."""

import importlib.util

import pytest

FRAMEWORKS = ("array_api_strict", "jax", "tensorflow", "torch")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    missing = [name for name in FRAMEWORKS if importlib.util.find_spec(name) is None]
    for item in items:
        if item.path.name == "frameworks.md":
            item.add_marker("slow")
            if missing:
                item.add_marker(pytest.mark.skip(reason=f"{', '.join(missing)}: not installed"))
