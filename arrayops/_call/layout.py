"""The layout of a call: the one that the caller names, or that of the framework of its arrays."""

from typing import Any

from arrayops import _frameworks
from arrayops._core import checks
from arrayops._core.opaque import traced_by_torch_as


def layout_in_torch_compile(op: str, layout: Any, array: Any) -> checks.ResolvedLayout:
    """`resolved_layout` of a call that Dynamo traces, whose arrays are PyTorch's."""
    return "NCHW" if layout is None else checks.layout(op, layout)


@traced_by_torch_as(layout_in_torch_compile)
def resolved_layout(op: str, layout: Any, array: Any) -> checks.ResolvedLayout:
    """The argument ``layout`` of the public function ``op`` as "NCHW" or "NHWC".

    Parameters
    ----------
    op : str
        The public function, for error messages.
    layout : str or None
        The argument; None means the default of the framework of ``array``.
    array : array
        The first array of the call. If it is None or of no known framework, dispatch raises the error later.
    """
    if layout is None:
        framework = _frameworks.find(array)
        layout = "NCHW" if framework is None else framework.default_layout(array)
    return checks.layout(op, layout)
