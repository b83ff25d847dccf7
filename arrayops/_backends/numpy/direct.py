"""Plain convolutions with stride 1, on rows of samples that follow one another in memory.

Outputs have as many columns as the image, so that each tap reads the image shifted by a constant number of places, but
for the ends of rows, where it should read zeros. So the images are copied once for each column of taps, as they are,
and what has come from another row is set to zero:

    image              0 1 2 3          columns of tap 0    . 0 1 2        tap 1   0 1 2 3        tap 2   1 2 3 .
                       4 5 6 7          (. was 3, was 7)    . 4 5 6                4 5 6 7                5 6 7 .

Rows of taps read the same columns, shifted by whole rows, and their products are added up where the result lies. No
place is junk, and images are neither padded nor are results cut out, which takes as long as the products for narrow
groups. Images with channels last are brought into this order a strip at a time.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from arrayops._backends.numpy.blocks import Compute, Work
from arrayops._backends.numpy.direct_columns import Axes, Columns, Plan, plan, serves
from arrayops._backends.numpy.layouts import grouped_images
from arrayops._backends.numpy.memory import Array, compute_dtype, empty, load, store, widened
from arrayops._backends.numpy.products import multiply
from arrayops._backends.numpy.program import Program
from arrayops._backends.numpy.scratch import Scratch
from arrayops._backends.numpy.stacks import balanced_share, narrowest

__all__ = ["correlate", "serves"]

LONG, NARROW = 400, 7
"""Places of a strip from which, and columns of taps up to which, einsum is quicker at a filter for every channel."""

ORDERED = 1 << 16
"""Values of a weight that are put in order at a time."""

IN_CACHE = 1 << 16
"""Bytes of weights of a group that stay in a core's nearest caches."""

SIDE_BY_SIDE, MOST_SIDE_BY_SIDE = 16, 64
"""Outputs of a group from which, a cache line, and up to which they are made side by side where they are to lie so."""


class _Task(NamedTuple):
    """What blocks of the same groups and strip have in common.

    ``program`` sets places of the columns to zero and makes products of each row of taps, whose sum ``finish`` stores.
    """

    columns: Columns
    program: Program
    finish: Callable[[Array], Any]


class _Tasks:
    """The task at hand, made anew for other groups or another strip; columns are kept for all groups of a strip."""

    def __init__(self, strips: Plan, weight: Array, inputs: int, side_by_side: bool, scratch: Scratch) -> None:
        self._strips, self._weight, self._inputs = strips, weight, inputs
        self._side_by_side, self._scratch = side_by_side, scratch
        self._held: tuple[slice, int] | None = None
        self._shape: tuple[int, int] | None = None

    def of(self, some: slice, number: int) -> _Task:
        """The task of some groups and of a strip."""
        if self._held != (some, number):
            shape = some.stop - some.start, number
            if self._shape != shape:
                strip, dtype = self._strips.strips[number], self._weight.dtype
                self._columns = Columns(self._strips, strip, shape[0], self._inputs, dtype, self._scratch)
                self._shape = shape
            self._task, self._held = self._make(self._columns, self._weight[some]), (some, number)
        return self._task

    def _make(self, columns: Columns, weight: Array) -> _Task:
        """The task of the groups that ``weight`` (groups, rows, columns x channels, outputs) is for."""
        groups, rows, depth, outputs = weight.shape
        places = columns.matrices.shape[-1]
        program = Program(self._scratch)
        for wrong in columns.wrong:
            program(wrong.fill, 0)
        if outputs == columns.samples.shape[2] == 1 and places >= LONG and depth <= NARROW:
            # BLAS has nothing to gain here, and this needs no products of each row.
            return _Task(columns, program, partial(_sum_of_products, columns.matrices, weight[..., 0]))
        products = _outputs(
            self._scratch, "products", (groups, rows, outputs, places, 1), weight.dtype, self._side_by_side
        )[..., 0]
        multiply(weight, columns.matrices, products, program)
        return _Task(columns, program, partial(_sum_of_rows, products))


def correlate(samples: Array, weight: Array, axes: Axes, bias: Array | None, result: Array) -> Work:
    """Work that writes a correlation to ``result`` (N, O, Ho, Wo).

    ``samples`` are images (N, C, H, W), ``weight`` is (groups, kh, kw, inputs, outputs).
    """
    dtype = compute_dtype(samples)
    batch = len(samples)
    groups, kernel_height, kernel_width, inputs, outputs = weight.shape
    least = narrowest(samples, groups, (inputs, outputs))
    strips = plan(axes, batch, groups, least, (inputs, outputs), dtype.itemsize)
    filters = empty(weight.shape, dtype)
    ordered = filters.reshape(groups, kernel_height, kernel_width * inputs, outputs)
    pieces = _pieces(groups, outputs, weight.size)
    added = None if bias is None else widened(bias, dtype).reshape(groups, outputs, 1)
    images, results = grouped_images(samples, groups), grouped_images(result, groups)
    # The product is all there is to do: of the samples where they lie, whatever lies beside them.
    # Rows of output_padding have no samples.
    same_rows = strips.rows.first == 0 and result.shape[2] <= samples.shape[2]
    plain = kernel_height == kernel_width == 1 and strips.margin == 0 and same_rows
    reads, writes = _in_place(samples, dtype, plain), _in_place(result, dtype, plain)
    side_by_side = not writes and SIDE_BY_SIDE <= outputs <= MOST_SIDE_BY_SIDE

    def begin(scratch: Scratch) -> Compute:
        tasks = _Tasks(strips, ordered, inputs, side_by_side, scratch)

        def compute(index: int) -> None:
            if index < len(pieces):
                piece = pieces[index]
                given = weight[piece]
                # What of a group does not stay in cache is read once as it lies, not in the order of writing.
                load(filters[piece], given if given[0].nbytes <= IN_CACHE else np.copy(given, order="K"))
                return
            some, number, image = strips.block(index - len(pieces), batch, groups)
            strip = strips.strips[number]
            source = images[image, some, :, strip.low : strip.high]
            target = results[image, some, :, strip.top : strip.bottom]
            given = source if reads else scratch("given", source.shape, dtype)
            made = target if writes else _outputs(scratch, "sums", target.shape, dtype, side_by_side)
            if not reads:
                load(given, source)
            run, sums = _by_place(given), _by_place(made)
            if plain:
                multiply(ordered[some, 0], run, sums, _call)
            else:
                task = tasks.of(some, number)
                np.copyto(task.columns.samples, run[:, None])
                task.program.run()
                task.finish(sums)
            if added is not None:
                np.add(sums, added[some], out=sums)
            if not writes:
                store(target, made)

        return compute

    blocks = strips.parts(groups) * batch * len(strips.strips)
    return Work(len(pieces) + blocks, begin, workspace=strips.workspace, first=len(pieces))


def _pieces(groups: int, outputs: int, size: int) -> list[tuple[Any, ...]]:
    """Pieces of a weight of about `ORDERED` values: some groups, or some outputs of one."""
    count = max(1, size // ORDERED)
    some = balanced_share(groups, max(1, groups // count))
    part = balanced_share(outputs, max(1, outputs // max(1, count // groups)))
    return [
        (slice(group, group + some), ..., slice(output, output + part))
        for group in range(0, groups, some)
        for output in range(0, outputs, max(1, part))
    ]


def _sum_of_products(matrices: Array, weight: Array, sums: Array) -> None:
    """Sum of ``matrices`` (groups, rows, columns, places) times weights, as (groups, 1, places)."""
    np.einsum("grcp,grc->gp", matrices, weight, out=sums[:, 0])


def _sum_of_rows(products: Array, sums: Array) -> None:
    """Sum of products (groups, rows, outputs, places) over the rows."""
    np.add.reduce(products, axis=1, out=sums)


def _in_place(images: Array, dtype: "np.dtype[Any]", plain: bool) -> bool:
    """Whether products can be made of images (N, C, H, W), or written to them, as they are.

    A place must be one step from the next, in memory too unless a single product is all that is made.
    """
    by_row, by_column = images.strides[2:]
    return images.dtype == dtype and by_row == images.shape[3] * by_column and (plain or by_column == images.itemsize)


def _outputs(scratch: Scratch, name: str, shape: tuple[int, ...], dtype: "np.dtype[Any]", side_by_side: bool) -> Array:
    """A buffer (..., outputs, rows, columns), in memory like that or with the outputs of a place side by side."""
    if not side_by_side:
        return scratch(name, shape, dtype)
    *first, outputs, rows, columns = shape
    return np.moveaxis(scratch(name, (*first, rows, columns, outputs), dtype), -1, -3)


def _by_place(images: Array) -> Array:
    """Images (groups, channels, rows, columns) as (groups, channels, places): a view."""
    groups, channels, height, width = images.shape
    return images.reshape(groups, channels, height * width)


def _call(function: Callable[..., Any], *arguments: Any, **keywords: Any) -> None:
    """Make a call at once, where a program would record it."""
    function(*arguments, **keywords)
