"""Calls of Python by graphs: all of a call but its arrays is in the name of its operation.

::

    <prefix> host {"operator": "conv2d", "arrays": ["input", "weight"], "parameters": {"stride": [1, 1], ...}, ...}

So graphs can be saved. A name is decoded when the graph runs, in this process or another. Nothing is registered, and
nothing grows with the number of traces.
"""

import json
from collections.abc import Callable
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np

from arrayops._call.run import run
from arrayops._call.saved_call import SavedCall
from arrayops._frameworks.saved_programs import PREFIX
from arrayops._frameworks.tensorflow.private import DeviceFunction

HOST, DEVICE, REFUSAL = "host", "device", "refuse"
"""Kinds of callbacks: of NumPy arrays, of eager tensors, and one that only raises an error."""


class GraphCall(NamedTuple):
    """A call in a graph; ``watched`` are the arguments that a GradientTape watched while the graph was built."""

    call: SavedCall
    watched: tuple[str, ...] = ()

    def encoded(self, kind: str) -> str:
        """The name of the callback."""
        watched = {"watched": self.watched} if self.watched else {}
        return f"{PREFIX}{kind} {json.dumps({**self.call.encoded(), **watched})}"

    @classmethod
    def decoded(cls, name: str) -> "GraphCall":
        """The call of a name.

        Raises
        ------
        ValueError
            If it was saved by a newer version of arrayops.
        """
        content = json.loads(name.removeprefix(PREFIX).partition(" ")[2])
        return cls(SavedCall.decoded(content), tuple(content.get("watched", ())))


def name_of_refusal(error: NotImplementedError) -> str:
    """The name of a callback that raises ``error`` unless its array is zero."""
    return f"{PREFIX}{REFUSAL} {json.dumps(str(error))}"


@lru_cache(maxsize=512)
def callback(name: str) -> Callable[..., Any]:
    """The function of a name."""
    kind, _, text = name.removeprefix(PREFIX).partition(" ")
    if kind == REFUSAL:
        return _refusal(json.loads(text))
    saved = GraphCall.decoded(name).call

    def call(*arrays: Any) -> list[Any]:
        return saved.present_results(run(saved.op, saved.all_arrays(arrays), saved.parameters))

    return call if kind == HOST else DeviceFunction(call)


def _refusal(message: str) -> Callable[[Any], Any]:
    def zero_or_error(array: Any) -> Any:
        if np.any(array != 0):
            raise NotImplementedError(message)
        return np.float32(0)

    return zero_or_error
