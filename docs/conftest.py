"""Some examples need frameworks, which not every environment has."""

import importlib.util

import pytest

FRAMEWORKS = {
    "faq.md": ("keras", "tensorflow"),
    "migrating_from_pacnet.md": ("torch",),
    "frameworks.md": ("array_api_strict", "jax", "keras", "tensorflow", "torch"),
}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if needed := FRAMEWORKS.get(item.path.name):
            item.add_marker("slow")
            if missing := [name for name in needed if importlib.util.find_spec(name) is None]:
                item.add_marker(pytest.mark.skip(reason=f"{', '.join(missing)}: not installed"))
