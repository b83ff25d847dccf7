"""The examples in the docstrings of the layers."""

import doctest
from importlib import import_module
from typing import Any

import pytest


@pytest.mark.parametrize("name", ["crf", "merging", "pac", "pacnet", "superpixels"])
def test_examples(layers: Any, name: str) -> None:
    failed, tried = doctest.testmod(import_module(f"arrayops.layers.torch.{name}"))
    assert tried > 0
    assert failed == 0


def test_every_layer_has_one(layers: Any) -> None:
    for name in layers.__all__:
        if name != "LoadedState":
            imports = [line for line in getattr(layers, name).__doc__.splitlines() if "layers.torch import" in line]
            assert any(name in line for line in imports)
