"""Which results of a PAC call read which elements of its arrays, by the windows' geometry alone (DESIGN sections 3, 4).

Elements are marked, and marks go through the formulas: a sum is marked where a term is. Results that *must* be reached
read a marked element with a sample under a tap that counts. Those that *may* be reached also read it beside a zero:
padding, the zeros that a transposed convolution stuffs in, samples that are masked out, and windows beyond the output.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from case import Case
from oracles import pac

Marks = dict[str, Any]

# Axes of a layout's array in the order of NCHW, OIHW and IOHW.
TO_NCHW = {"weight": (3, 2, 0, 1), "kernel": (0, 5, 3, 4, 1, 2)}
IMAGES = ("input", "guide", "mask", "image")
CLEAR = 1e-3
"""Differences of the guide that are 0 in no precision."""


class Reads:
    """The windows of a call; arrays inside have the axes of NCHW, and taps those of (N, C, kh, kw, Ho, Wo)."""

    def __init__(self, case: Case, output_shape: tuple[int, ...]) -> None:
        options = case.options
        self.case = case
        self.nhwc = options.get("layout") == "NHWC"
        self.output = "kernel" if case.operator == "pac_kernel2d" else "image"
        self.shapes = {name: array.shape for name, array in case.arrays.items() if array is not None}
        self.shapes["grad"] = output_shape
        self.channel_wise = options.get("channel_wise", False)
        self.normalize = options.get("normalize", False) or options.get("normalize_kernel", False)
        self.asymmetric = options.get("asymmetric", False)
        self.transposed = options.get("transposed", False) or case.operator == "pac_conv_transpose2d"
        self.mask = None if options.get("mask") is None else self.ordered("mask", options["mask"]) != 0
        smooth = case.arrays.get("smooth_kernel")
        self.smooth = (1, 1) if smooth is None else smooth.shape
        self._place()
        self._connect()

    def _place(self) -> None:
        options, weight = self.case.options, self._given("weight")
        size = pac.pair(options["kernel_size"]) if weight is None else weight.shape[2:]
        image = self._given("guide" if self.case.operator == "pac_kernel2d" else "input")
        assert image is not None
        made = self.transposed and self.case.operator == "pac_kernel2d"
        rows, columns = pac.axes(
            self.transposed,
            size,
            options.get("stride", 1),
            options.get("padding", 0),
            options.get("dilation", 1),
            options.get("output_padding", 0),
            input_size=None if made else image.shape[2:],
            output_size=image.shape[2:] if made else None,
        )
        self.axes = rows, columns
        self.input_size = rows.inputs, columns.inputs
        self.guide_size = (rows.outputs, columns.outputs) if self.transposed else self.input_size
        # Positions under each tap of each output, -1 where there are none.
        self.samples = [
            np.array(
                [
                    [-1 if at is None else at for at in map(axis.sample, [o] * axis.taps, range(axis.taps))]
                    for o in range(axis.outputs)
                ]
            )
            for axis in self.axes
        ]
        self.guides = [
            self._inside(
                np.array([[axis.guide_position(o, i) for i in range(axis.taps)] for o in range(axis.outputs)]), a
            )
            for a, axis in enumerate(self.axes)
        ]
        batch = image.shape[0]
        valid = np.ones((batch, 1, *self.input_size), bool)
        # Any, as for all marks: mypy takes what a comparison gives for one of NumPy's numbers.
        self.kept: Any = self.under(valid if self.mask is None else self.mask, self.samples)
        self.restricted = self.mask is not None or self.normalize
        self.counted: Any = self.kept if self.restricted else np.ones_like(self.kept)

    def _connect(self) -> None:
        """Which outputs sum over which inputs, and where a weight stands between them."""
        weight, options = self._given("weight"), self.case.options
        image = self._given("input")
        if image is None:
            return
        channels = image.shape[1]
        if weight is None:
            self.connected = np.eye(channels, dtype=bool)
            return
        settings = channels, options.get("groups", 1), options.get("shared_filters", False), self.transposed
        numbers = 1 + np.arange(weight.size, dtype=np.float64).reshape(weight.shape)
        self.numbers = pac.dense_weight(numbers, *settings).astype(np.int64)
        self.connected = (self.numbers != 0).any((2, 3))

    # --- arrays in the layout and in order ---

    def ordered(self, name: str, array: np.ndarray) -> np.ndarray:
        """From the layout."""
        if not self.nhwc or array.ndim < 4:
            return array
        return array.transpose(TO_NCHW.get(name, (0, 3, 1, 2)))

    def _in_layout(self, name: str, array: np.ndarray) -> np.ndarray:
        if not self.nhwc or array.ndim < 4:
            return array
        return array.transpose(tuple(np.argsort(TO_NCHW.get(name, (0, 3, 1, 2)))))

    def _given(self, name: str) -> np.ndarray | None:
        array = self.case.arrays.get(name)
        return None if array is None else self.ordered(name, array)

    def _inside(self, positions: np.ndarray, axis: int) -> np.ndarray:
        return np.where((positions >= 0) & (positions < self.guide_size[axis]), positions, -1)

    @staticmethod
    def under(image: np.ndarray, positions: list[np.ndarray]) -> np.ndarray:
        """What an image (N, C, H, W) holds under the taps; 0 and False where there is nothing."""
        padded = np.pad(image, ((0, 0), (0, 0), (0, 1), (0, 1)))
        return padded[:, :, positions[0].T[:, None, :, None], positions[1].T[None, :, None, :]]

    @staticmethod
    def back(taps: Any, positions: list[np.ndarray], size: tuple[int, int]) -> np.ndarray:
        """Marks of the image's elements that lie under a marked tap."""
        marks = np.zeros((*taps.shape[:2], size[0] + 1, size[1] + 1), bool)
        for i in range(taps.shape[2]):
            for j in range(taps.shape[3]):
                marks[:, :, positions[0][:, i, None], positions[1][None, :, j]] |= taps[:, :, i, j]
        return marks[:, :, :-1, :-1]

    def _centres(self, u: int, v: int) -> list[np.ndarray]:
        """Positions under element (u, v) of the smoothing kernel at the centres, (outputs, 1)."""
        moves = u - self.smooth[0] // 2, v - self.smooth[1] // 2
        found = []
        for a, (axis, move) in enumerate(zip(self.axes, moves, strict=True)):
            at = np.array([[axis.guide_position(o, axis.taps // 2) + move] for o in range(axis.outputs)])
            found.append(self._inside(at, a))
        return found

    # --- marks ---

    def results(self, name: str, index: tuple[int, ...]) -> tuple[Marks, Marks]:
        """Results that must and that may be reached from one element of an array, in the layout."""
        mark = np.zeros(self.shapes[name], bool)
        mark[index] = True
        return self.spread({name: mark}, strict=True), self.spread({name: mark}, strict=False)

    def spread(self, marked: Marks, *, strict: bool) -> Marks:
        """Marks of the output and of the gradients from those of arrays in the layout."""
        inside: dict[str, Any] = {}
        for name in ("input", "guide", "weight", "kernel", "grad"):
            if name in self.shapes:
                mark = marked.get(name, np.zeros(self.shapes[name], bool))
                inside[name] = self.ordered(self.output if name == "grad" else name, mark)
        distances: Any = inside.get("kernel")
        kernel = distances
        if kernel is None:
            distances, kernel = self._kernel(inside["guide"], strict)
        if "input" not in inside:
            found, grad_kernel = {"output": kernel}, inside["grad"]
        else:
            found, grad_kernel = self._sums(inside, kernel, strict)
        if "kernel" in self.shapes:
            found["kernel"] = grad_kernel
        else:
            found |= self._options(distances, grad_kernel, strict)
        return {
            name: self._in_layout(self.output if name == "output" else name, mark)
            for name, mark in found.items()
            if name == "output" or name in self.shapes
        }

    def _kernel(self, guide: np.ndarray, strict: bool) -> tuple[Any, Any]:
        """Marks of the distances that count, and of the kernel."""
        centre = np.zeros((*guide.shape[:2], 1, 1, *self.kept.shape[4:]), bool)
        for u in range(self.smooth[0]):
            for v in range(self.smooth[1]):
                centre |= self.under(guide, self._centres(u, v))
        distances: Any = self.under(guide, self.guides) | centre
        if not self.channel_wise:
            distances = distances.any(1, keepdims=True)
        distances = distances & self.counted
        if not self.normalize:
            return distances, distances
        windows = distances.any((2, 3), keepdims=True)
        return distances, windows & (self.counted if strict else np.ones_like(self.counted))

    def _sums(self, marked: dict[str, Any], kernel: np.ndarray, strict: bool) -> tuple[Marks, np.ndarray]:
        """Marks of the output and of the gradients of the sums over taps, and those of the kernel's gradient."""
        connected, grad = self.connected, marked["grad"]
        beside: Any = self.kept if strict else np.ones_like(self.kept)
        samples: Any = marked["input"] if self.mask is None else marked["input"] & self.mask
        samples = self.under(samples, self.samples) & self.kept
        outputs, channels = connected.shape
        weight: Any = np.zeros((outputs, channels, *self.kept.shape[2:4]), bool)
        if "weight" in marked:
            marks = np.concatenate([[False], marked["weight"].ravel()])
            weight = marks[self.numbers]
        output = np.broadcast_to((kernel & beside).any((2, 3)), grad.shape).copy()
        output |= _product("oc,ncyx->noyx", connected, samples.any((2, 3)))
        output |= _product("oij,nijyx->noyx", weight.any(1), beside[:, 0])
        found = {"output": output, "bias": grad.any((0, 2, 3))}

        to_samples: Any = _product("oc,noyx->ncyx", connected, grad)[:, :, None, None] | kernel
        to_samples = to_samples | weight.any(0)[None, :, :, :, None, None]
        found["input"] = self.back(to_samples & self.kept, self.samples, self.input_size)
        if not strict:
            found["input"] |= self._beyond_windows(weight.any(0))

        if "weight" in marked:
            reached = samples.any((0, 4, 5))
            if self.transposed and not strict:
                # Beside the output there are gradients of zero.
                reached = np.broadcast_to(reached.any((1, 2), keepdims=True), reached.shape)
            taps = (kernel & beside).any((0, 1, 4, 5)) | reached[None]
            if strict:
                taps = taps | _product("noyx,nijyx->oij", grad, beside[:, 0])[:, None]
            else:
                taps = taps | found["bias"][:, None, None, None]
            marks = np.zeros(marked["weight"].size + 1, bool)
            np.logical_or.at(marks, self.numbers, taps)
            found["weight"] = marks[1:].reshape(marked["weight"].shape)

        if self._kernel_channels() > 1:
            return found, (grad[:, :, None, None] & beside) | samples
        to_kernel = grad.any(1, keepdims=True)[:, :, None, None] | weight.any((0, 1))[:, :, None, None]
        return found, (to_kernel & beside) | samples.any(1, keepdims=True)

    def _beyond_windows(self, weight: np.ndarray) -> Any:
        """Samples on which a marked tap (C, kh, kw) would lie if there were windows beyond the output."""
        marks = np.zeros((self.kept.shape[0], len(weight), *self.input_size), bool)
        for channel, i, j in zip(*np.nonzero(weight), strict=True):
            steps = [
                np.arange(size) + axis.front - tap * axis.dilation
                for axis, size, tap in zip(self.axes, self.input_size, (i, j), strict=True)
            ]
            strides = [1 if self.transposed else axis.stride for axis in self.axes]
            marks[:, channel] |= (steps[0][:, None] % strides[0] == 0) & (steps[1] % strides[1] == 0)
        return marks if self.mask is None else marks & self.mask

    def _kernel_channels(self) -> int:
        given = self._given("kernel")
        if given is not None:
            return int(given.shape[1])
        guide = self._given("guide")
        assert guide is not None
        return int(guide.shape[1]) if self.channel_wise else 1

    def _options(self, distances: Any, grad_kernel: Any, strict: bool) -> Marks:
        """Marks of the gradients of the guide and of what shapes the adaptive kernel."""
        guide, found = self._given("guide"), {}
        assert guide is not None
        grad_kernel = grad_kernel & self.counted
        scaled = grad_kernel | distances
        if self.normalize:
            scaled = scaled.any((2, 3), keepdims=True) & self.counted
        elif strict and self.case.operator != "pac_kernel2d":
            # The gradient of the kernel is 0 beside a sample of zero.
            scaled = scaled & self.kept
        for name, marks in (("inv_alpha", scaled if self.normalize else grad_kernel), ("inv_lambda", scaled)):
            if name in self.shapes:
                shape = self.shapes[name]
                each = marks.any((0, 2, 3, 4, 5))
                found[name] = each.reshape(shape) if each.size == np.prod(shape) else each.any().reshape(shape)
        terms: Any = np.broadcast_to(scaled, (*guide.shape[:2], *scaled.shape[2:]))
        if strict:
            terms = terms & self._differ(guide)
        centres = terms.any((2, 3), keepdims=True)
        found["guide"] = self.back(terms, self.guides, self.guide_size)
        smooth = np.zeros(self.smooth, bool)
        for u in range(self.smooth[0]):
            for v in range(self.smooth[1]):
                positions = self._centres(u, v)
                found["guide"] |= self.back(centres, positions, self.guide_size)
                inside: Any = (positions[0] >= 0) & (positions[1] >= 0).T
                smooth[u, v] = (centres & inside).any() if strict else centres.any()
        return {**found, "smooth_kernel": smooth}

    def _differ(self, guide: np.ndarray) -> np.ndarray:
        """Where a tap differs from its centre by something other than 0; for differences above 0 only, by more."""
        wide = guide.astype(np.float64)
        smooth = self.case.arrays.get("smooth_kernel")
        centre: Any = 0.0
        for u in range(self.smooth[0]):
            for v in range(self.smooth[1]):
                factor = 1.0 if smooth is None else float(smooth[u, v])
                centre = centre + factor * self.under(wide, self._centres(u, v))
        difference = self.under(wide, self.guides) - centre
        found: np.ndarray = ~((difference if self.asymmetric else np.abs(difference)) <= CLEAR)
        return found

    def unread(self, name: str) -> np.ndarray:
        """Elements of the input or the guide that no result reads."""
        if name == "input":
            marks = self.back(self.kept, self.samples, self.input_size)
            channels = self._given("input")
        else:
            marks = self.back(self.counted, self.guides, self.guide_size)
            windows = self.counted.any((2, 3), keepdims=True)
            for u in range(self.smooth[0]):
                for v in range(self.smooth[1]):
                    marks |= self.back(windows, self._centres(u, v), self.guide_size)
            channels = self._given("guide")
        assert channels is not None
        return self._in_layout(name, np.broadcast_to(~marks, channels.shape))


def _product(subscripts: str, *marks: Any) -> Any:
    """Where a sum of products of marks has a term."""
    return np.einsum(subscripts, *(mark.astype(np.float32) for mark in marks), optimize=True) > 0
