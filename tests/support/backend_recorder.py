"""What reaches the backends: the calls that an operation of a framework ends in."""

from __future__ import annotations

from typing import Any, NamedTuple

import pytest

from arrayops import _backends
from arrayops._core.op import BackwardParameters


class BackendCall(NamedTuple):
    """One call of a backend function."""

    name: str
    arrays: tuple[Any, ...]
    parameters: Any
    results: tuple[Any, ...]

    @property
    def layout(self) -> str:
        """The layout of the images."""
        return getattr(self.parameters, "forward", self.parameters).layout


class Recorder:
    """Calls of backend functions, in order. What its methods return is of the calls since the last of them."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._calls: list[BackendCall] = []
        find = _backends.find

        def recording(kind: str, family: str, name: str) -> Any:
            function = find(kind, family, name)

            def record(arrays: tuple[Any, ...], parameters: Any) -> Any:
                results = function(arrays, parameters)
                self._calls.append(BackendCall(name, arrays, parameters, results))
                return results

            return record

        monkeypatch.setattr(_backends, "find", recording)

    def calls(self) -> list[BackendCall]:
        """The calls themselves."""
        calls, self._calls = self._calls, []
        return calls

    def names(self) -> list[str]:
        """The names of the functions."""
        return [call.name for call in self.calls()]

    def layouts(self) -> list[tuple[str, str]]:
        """The names of the functions and the layouts of the images."""
        return [(call.name, call.layout) for call in self.calls()]

    def needs(self) -> list[set[str]]:
        """The gradients that each backward call was asked for."""
        return [set(call.parameters.needs) for call in self.calls() if isinstance(call.parameters, BackwardParameters)]
