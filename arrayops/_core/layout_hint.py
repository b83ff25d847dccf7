"""The end of an error message for arrays that do not fit in the layout of a call but would in the other."""

from typing import Any

from arrayops._core.op import BackwardParameters, Metas, Op

OTHER = {"NCHW": "NHWC", "NHWC": "NCHW"}


def layout_hint(op: Op, metas: Metas, parameters: Any) -> str:
    """What ``layout`` has to do with the failure of ``op.shape_rule(metas, parameters)``; empty if nothing.

    Either all arrays fit in the other layout, or all but one fit in this one.
    """
    forward = parameters.forward if isinstance(parameters, BackwardParameters) else parameters
    layout = getattr(forward, "layout", None)
    if layout is None:
        return ""
    other = OTHER[layout]
    changed = forward._replace(layout=other)
    if _fit(op, metas, changed if forward is parameters else parameters._replace(forward=changed)):
        return f"; all arrays fit layout={other!r}: pass layout={other!r}"
    for i, (spec, meta) in enumerate(zip(op.specs(len(metas)), metas, strict=True)):
        if meta is None or spec.axes is None or len(meta.shape) != len(spec.axes.nchw):
            continue
        order = spec.axes.to_nchw if layout == "NCHW" else spec.axes.to_nhwc
        transposed = meta._replace(shape=tuple(meta.shape[axis] for axis in order))
        if _fit(op, (*metas[:i], transposed, *metas[i + 1 :]), parameters):
            return (
                f"; {spec.name} fits layout={other!r}: transpose it by {order}, or pass all arrays in that order with "
                f"layout={other!r}"
            )
    return ""


def _fit(op: Op, metas: Metas, parameters: Any) -> bool:
    try:
        op.shape_rule(metas, parameters)
    except Exception:
        # Not only ValueError: with symbolic sizes, torch raises errors of its own, and the caller has one to report.
        return False
    return True
