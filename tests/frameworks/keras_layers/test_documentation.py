"""The examples in the docstrings of the layers, on the backend of the tests."""

import doctest
from importlib import import_module
from typing import Any

import pytest

MODULES = "convolution", "merging", "pac", "superpixels"


@pytest.mark.parametrize("name", MODULES)
def test_examples(keras: Any, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setattr(keras.config, "image_data_format", lambda: "channels_last")
    module = import_module(f"arrayops.layers.keras.{name}")
    failed, tried = doctest.testmod(module, optionflags=doctest.NORMALIZE_WHITESPACE)
    assert tried > 0
    assert failed == 0


def test_every_layer_has_one(layers: Any) -> None:
    for name in layers.__all__:
        assert ">>> from arrayops.layers.keras import " + name in getattr(layers, name).__doc__
