"""Networks train alike on the three backends of Keras, and models of earlier versions load."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import keras_networks
from new_process import in_new_process

MODELS = sorted((Path(__file__).parent / "saved_models").glob("*.keras"))


LOSSES = """
import json
from keras_networks import NETWORKS, losses
print(json.dumps({name: losses(make()) for name, make in NETWORKS.items()}))
"""


def losses_on(backend: str) -> dict[str, list[float]]:
    """Losses of all networks in a process of its own."""
    printed = in_new_process(LOSSES, timeout=600, KERAS_BACKEND=backend)
    found: dict[str, list[float]] = json.loads(printed.splitlines()[-1])
    return found


def test_equal_losses(keras: Any, numpy: Any) -> None:
    """Of `fit` in another process on each of the other backends, and here."""
    networks = {name: make() for name, make in keras_networks.NETWORKS.items()}
    found = {keras.backend.backend(): {name: keras_networks.losses(each) for name, each in networks.items()}}
    for backend in ("tensorflow", "jax", "torch"):
        if backend not in found:
            pytest.importorskip(backend, reason=f"{backend} is not installed")
            found[backend] = losses_on(backend)
    first, *others = found.values()
    for name, values in first.items():
        assert len(values) == 5
        assert values == sorted(set(values), reverse=True), name
        for other in others:
            np.testing.assert_allclose(other[name], values, rtol=2e-5, err_msg=f"{name}: {found}")


@pytest.mark.parametrize("path", MODELS, ids=lambda path: path.stem)
def test_models_of_earlier_versions(keras: Any, layers: Any, numpy: Any, path: Path) -> None:
    network = keras_networks.NETWORKS[path.stem.partition("-")[0]]()
    found = numpy(keras.saving.load_model(path)(network.inputs))
    with np.load(path.with_suffix(".npz")) as stored:
        np.testing.assert_allclose(found, stored["output"], rtol=2e-5, atol=2e-6)


def test_there_are_models_of_earlier_versions() -> None:
    assert {path.stem for path in MODELS} >= {f"{name}-first_format" for name in keras_networks.NETWORKS}
