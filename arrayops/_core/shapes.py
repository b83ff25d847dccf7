"""Sizes of sliding windows: strides, dilations, paddings and the output sizes they give. Pure Python, no arrays."""

from numbers import Integral
from typing import Any, NamedTuple

Pair = tuple[int, int]
Padding = tuple[Pair, Pair] | str
"""((top, bottom), (left, right)), or "SAME"; "VALID" is padding 0."""

SPATIAL = ("height", "width")


class Axis(NamedTuple):
    """Geometry of a sliding window along one spatial axis.

    ``before`` and ``after`` count the zeros that pad the input. A transposed window pads the dilated input, with
    ``stride - 1`` zeros inserted between samples, and slides over it with stride 1. Negative ``before`` or ``after``
    crop the input.
    """

    size: int
    kernel: int
    stride: int
    dilation: int
    before: int
    after: int
    output: int
    transposed: bool = False

    @property
    def extent(self) -> int:
        """Size of the dilated kernel: samples from the first tap to the last."""
        return (self.kernel - 1) * self.dilation + 1

    def reversed(self) -> "Axis":
        """The window of the gradient with respect to the input."""
        return self._replace(
            size=self.output,
            output=self.size,
            before=self.extent - 1 - self.before,
            after=self.extent - 1 - self.after,
            transposed=not self.transposed,
        )


def is_integer(value: Any) -> bool:
    """Whether ``value`` is an integer, Python's, NumPy's or a tracer's, and not a bool."""
    return (isinstance(value, Integral) and not isinstance(value, bool)) or is_symbolic(value)


def is_symbolic(value: Any) -> bool:
    """Whether ``value`` is a `torch.SymInt`: a size in a traced program, known only when the program runs."""
    return type(value).__name__ == "SymInt"


def as_int(value: Any) -> int:
    """Convert an integer to int; a symbolic one stays, as converting it would fix the size in the traced program."""
    return value if is_symbolic(value) else int(value)


def pair(op: str, name: str, value: Any, minimum: int) -> Pair:
    """Normalise ``value``, an integer or a pair of them, to (rows, columns), each at least ``minimum``."""
    if type(value) is int and value >= minimum:
        return value, value
    values = (value, value) if is_integer(value) else value
    if not isinstance(values, (tuple, list)) or len(values) != 2 or not all(is_integer(v) for v in values):
        raise ValueError(f"{op}: {name} is {value!r}, expected an integer or a pair of them")
    if min(values) < minimum:
        raise ValueError(f"{op}: {name} is {value!r}, expected at least {minimum}")
    return as_int(values[0]), as_int(values[1])


def padding(op: str, value: Any) -> Padding:
    """Normalise a padding argument."""
    if type(value) is int and value >= 0:
        return (value, value), (value, value)
    if isinstance(value, str):
        if value.upper() == "SAME":
            return "SAME"
        if value.upper() == "VALID":
            return (0, 0), (0, 0)
        raise ValueError(f"{op}: padding is {value!r}, expected 'SAME', 'VALID' or numbers")
    sides = (value, value) if is_integer(value) else value
    if isinstance(sides, (tuple, list)) and len(sides) == 2:
        sides = [(side, side) if is_integer(side) else side for side in sides]
        if all(isinstance(side, (tuple, list)) and len(side) == 2 and all(map(is_integer, side)) for side in sides):
            if min(map(min, sides)) < 0:
                raise ValueError(f"{op}: padding is {value!r}, expected at least 0")
            (top, bottom), (left, right) = sides
            return (as_int(top), as_int(bottom)), (as_int(left), as_int(right))
    raise ValueError(
        f"{op}: padding is {value!r}, expected an integer, a pair (rows, columns), or ((top, bottom), (left, right))"
    )


def window(op: str, axis: int, size: int, kernel: int, stride: int, dilation: int, pad: Padding) -> Axis:
    """The window of a convolution along ``axis`` (0 rows, 1 columns) of an input of ``size``.

    Output sizes are torch's, ``(size + before + after - extent) // stride + 1``; "SAME" is TensorFlow's and ONNX's
    SAME_UPPER: ``ceil(size / stride)``, with the extra zero at the end if the padding is odd.
    """
    extent = (kernel - 1) * dilation + 1
    if isinstance(pad, str):
        output = -(-size // stride)
        total = max((output - 1) * stride + extent - size, 0)
        before, after = total // 2, total - total // 2
    else:
        before, after = pad[axis]
        output = (size + before + after - extent) // stride + 1
        if output < 1:
            raise ValueError(
                f"{op}: filter {SPATIAL[axis]} is {extent} (size {kernel}, dilation {dilation}), expected at most "
                f"{size + before + after}, the size of the padded input"
            )
    return Axis(size, kernel, stride, dilation, before, after, output)


def transposed_window(
    op: str, axis: int, size: int, kernel: int, stride: int, dilation: int, pad: Padding, output_padding: int
) -> Axis:
    """The window of a transposed convolution along ``axis`` of an input of ``size``.

    Output sizes are torch's, ``(size - 1) * stride + extent - before - after + output_padding``, or ``size * stride``
    with "SAME".
    """
    extent = (kernel - 1) * dilation + 1
    before, after, added = transposed_padding(op, axis, extent, stride, dilation, pad, output_padding)
    output = (size - 1) * stride + extent - before - after + added if size else 0
    if size and output < 1:
        raise ValueError(
            f"{op}: output {SPATIAL[axis]} is {output} (input {size}, filter {extent}, stride {stride}, padding "
            f"{before} and {after}), expected at least 1"
        )
    return Axis(size, kernel, stride, dilation, extent - 1 - before, extent - 1 - after + added, output, True)


def transposed_input_size(
    op: str, axis: int, output: int, kernel: int, stride: int, dilation: int, pad: Padding, output_padding: int
) -> int:
    """Size of the input for which `transposed_window` gives an output of size ``output``."""
    extent = (kernel - 1) * dilation + 1
    before, after, added = transposed_padding(op, axis, extent, stride, dilation, pad, output_padding)
    smallest = extent - before - after + added
    steps, remainder = divmod(output - smallest, stride)
    if output and (remainder or steps < 0):
        below, above = (smallest + max(steps + i, i) * stride for i in (0, 1))
        raise ValueError(
            f"{op}: guide {SPATIAL[axis]} is {output}, expected {below} or {above}, the nearest output sizes of a "
            f"transposed convolution with filter {extent}, stride {stride}, padding {before} and {after} and "
            f"output_padding {added}"
        )
    return steps + 1 if output else 0


def transposed_padding(
    op: str, axis: int, extent: int, stride: int, dilation: int, pad: Padding, output_padding: int
) -> tuple[int, int, int]:
    """Output samples that a transposed convolution crops at the start and at the end, and those it adds at the end."""
    if isinstance(pad, str):
        if output_padding:
            raise ValueError(f"{op}: output_padding is {output_padding}, expected 0 with padding 'SAME'")
        total = max(extent - stride, 0)
        return total // 2, total - total // 2, max(stride - extent, 0)
    if output_padding >= max(stride, dilation):
        raise ValueError(
            f"{op}: output_padding is {output_padding}, expected less than the larger of stride {stride} and "
            f"dilation {dilation}"
        )
    return pad[axis][0], pad[axis][1], output_padding
