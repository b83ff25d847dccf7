"""Pixel-adaptive convolution on the CPU beside torch, JAX and OpenCV, and large shared filters in milliseconds.

Run from a checkout with torch installed: ``PYTHONPATH=. python tests/benchmarks/pac_cpu.py``. JAX and
opencv-contrib-python-headless are optional. torch.compile takes up to a minute for a case. With 256-bit vectors on the
other sides too, those of torch.compile excepted, and ratios a fifth higher allowed: with ``ARRAYOPS_CPU_ARCH=x86-64-v3
ONEDNN_MAX_CPU_ISA=AVX2 MKL_ENABLE_INSTRUCTIONS=AVX2 ATEN_CPU_CAPABILITY=avx2 XLA_FLAGS=--xla_cpu_max_isa=AVX2`` before
it.
"""

import os
import sys
from collections.abc import Iterator
from importlib import import_module
from importlib.util import find_spec
from typing import Any

import numpy as np
import torch

import arrayops as ao
import harness
from pac_rivals import BOTH, FORWARD, JAX, WEIGHT, Call, jax_call, plain_call, torch_calls

# N, C, O, G, H, W, k
SHAPES = (
    (1, 32, 32, 8, 256, 256, 5),
    (1, 64, 64, 16, 128, 128, 5),
    (1, 21, 21, 5, 256, 256, 5),
    (2, 16, 16, 8, 128, 128, 3),
    (4, 64, 64, 3, 56, 56, 3),
    (1, 3, 3, 3, 256, 256, 7),
)
FACTOR = 1.2 if "ARRAYOPS_CPU_ARCH" in os.environ else 1.0
PAC_LIMIT, OPENCV_LIMIT = 1.0, 0.5
PLAIN_LIMITS = {FORWARD: 1.2, BOTH: 1.3}
WEIGHT_LIMIT, FEW_OUTPUTS_LIMIT = 1.3, 1.5
"""Of the weight's gradient over our own forward; the second where outputs do not fill vectors."""

HEIGHT, WIDTH = 496, 736
WINDOWS, COLOR_SIGMA = (5, 9, 15), np.float32(0.2)
LARGE, FORWARD_MS, BACKWARD_MS = 33, 200.0, 400.0


def cases() -> Iterator[harness.Case]:
    """The operator at every shape in both layouts, then the bilateral filter, then large shared filters."""
    torch.set_num_threads(harness.THREADS)
    ao.set_num_threads(harness.THREADS)
    if JAX is None:
        print("Without JAX, which is not installed: pip install jax")
    for shape in SHAPES:
        for layout in ("NCHW", "NHWC"):
            for what in (FORWARD, BOTH, WEIGHT):
                yield pac_case(shape, layout, what)
    if find_spec("cv2") and hasattr(cv2 := import_module("cv2"), "ximgproc"):
        cv2.setNumThreads(harness.THREADS)
        for size in WINDOWS:
            yield bilateral_case(cv2, size)
    else:
        print("Without OpenCV's bilateral filter: pip install opencv-contrib-python-headless")
    for transposed in (True, False):
        yield from large_cases(transposed)


def pac_case(shape: tuple[int, ...], layout: str, what: str) -> harness.Case:
    """One shape in one layout; torch gets channels_last tensors for NHWC."""
    batch, channels, outputs, guides, height, width, size = shape
    random = np.random.default_rng(0)
    image = height, width
    input, guide, grad = (
        random.standard_normal((batch, count, *image), np.float32) for count in (channels, guides, outputs)
    )
    weight = random.standard_normal((outputs, channels, size, size), np.float32)
    planes = [input, guide / 4, weight, grad]
    order = torch.contiguous_format if layout == "NCHW" else torch.channels_last
    tensors = [torch.from_numpy(a).to(memory_format=order) for a in planes]
    arrays = [in_layout(a, layout, a is weight) for a in planes]
    own = own_calls(arrays, {"padding": size // 2, "layout": layout})
    compared = torch_calls(what, tensors, layout)
    if JAX is not None:
        compared["jax"] = jax_call(what, layout, arrays)
    rivals = {"arrayops": own[what], **compared, "conv2d": plain_call(what, tensors)}
    limits = dict.fromkeys(compared, PAC_LIMIT * FACTOR)
    if what == WEIGHT:
        rivals["forward"] = own[FORWARD]
        few = outputs < 16 or outputs % 16
        limits = {"forward": (FEW_OUTPUTS_LIMIT if few else WEIGHT_LIMIT) * FACTOR}
    else:
        limits["conv2d"] = PLAIN_LIMITS[what] * FACTOR

    def agree() -> None:
        # compile runs the same functions as taps, and takes long to start.
        expected = results(own[what](), "arrayops", layout, what)
        for name in compared.keys() - {"compile"}:
            for got, want in zip(results(compared[name](), name, layout, what), expected, strict=True):
                assert_close(got, want, 2e-6 if what == FORWARD else 1e-5)

    times = 3 if what == BOTH else 1
    moved = times * float(2 * input.nbytes + guide.nbytes + weight.nbytes)
    operations = times * 2.0 * batch * height * width * weight.size
    return harness.Case(f"{what} {layout} {shape}", rivals, agree, operations, moved, limits)


def in_layout(array: Any, layout: str, filters: bool) -> Any:
    """An array that is NCHW, or OIHW, in the layout."""
    if layout == "NCHW":
        return array
    return np.ascontiguousarray(array.transpose((2, 3, 1, 0) if filters else (0, 2, 3, 1)))


def results(found: Any, name: str, layout: str, what: str) -> list[Any]:
    """The output, or the gradients of those of input, guide and weight that were asked for, in the layout."""
    arrays = [a for a in found if a is not None] if isinstance(found, tuple) else [found]
    if name in ("arrayops", "jax"):
        return arrays[:3]
    return [in_layout(a.numpy(), layout, what == WEIGHT or n == 2) for n, a in enumerate(arrays)]


def assert_close(got: Any, want: Any, tolerance: float) -> None:
    """Relative error in norm."""
    error = np.linalg.norm(got - want) / np.linalg.norm(want)
    assert error <= tolerance, f"relative error {error:.1e}"


def own_calls(arrays: list[np.ndarray], keywords: dict[str, Any]) -> dict[str, Call]:
    """This library's."""
    *operands, grad = arrays

    def both() -> Any:
        ao.pac_conv2d(*operands, **keywords)
        return ao.pac_conv2d_backward(grad, *operands, **keywords)

    return {
        FORWARD: lambda: ao.pac_conv2d(*operands, **keywords),
        BOTH: both,
        WEIGHT: lambda: ao.pac_conv2d_backward(grad, *operands, **keywords, needs=("weight",)),
    }


def shared_reference(samples: Any, valid: Any, guide: Any, filters: Any, normalize: bool, rows: Any) -> Any:
    """Rows of a PAC of one image with a shared filter, tap by tap in float64; samples that are not valid are 0."""
    size, width = filters.shape[0], guide.shape[2]
    around = ((0, 0), (size // 2, size // 2), (size // 2, size // 2))
    samples, valid, guides = (np.pad(np.float64(a), around) for a in (samples, valid[None], guide))
    total, weights = np.zeros((len(samples), len(rows), width)), np.zeros((len(rows), width))
    for top in range(size):
        for left in range(size):
            window = np.s_[:, rows + top, left : left + width]
            kernel = np.exp(-0.5 * np.square(guides[window] - guide[:, rows]).sum(0))
            weights += kernel * valid[window][0]
            total += filters[top, left] * kernel * samples[window]
    return total / weights if normalize else total


def photo(random: np.random.Generator) -> Any:
    """Cells of one colour each, and noise: 3 channels."""
    cells = np.kron(random.random((3, HEIGHT // 8, WIDTH // 8)), np.ones((8, 8)))
    return (cells + 0.05 * random.standard_normal(cells.shape)).astype(np.float32)


def bilateral_case(cv2: Any, size: int) -> harness.Case:
    """The spatial Gaussian as a shared filter, without what is beyond OpenCV's circle."""
    random = np.random.default_rng(0)
    image, colors = photo(random), photo(random)
    offsets = np.arange(size) - size // 2
    radii, space_sigma = offsets[:, None] ** 2 + offsets**2, size / 4
    filters = np.where(radii <= (size // 2) ** 2, np.exp(-radii / (2 * space_sigma**2)), 0).astype(np.float32)
    guide = colors / COLOR_SIGMA
    source, joint = (np.ascontiguousarray(a.transpose(1, 2, 0)) for a in (image, colors))

    def ours(image: Any = image, guide: Any = guide) -> Any:
        keywords: dict[str, Any] = {"shared_filters": True, "normalize_kernel": True, "padding": "SAME"}
        return ao.pac_conv2d(image[None], guide[None], filters[None, None], **keywords)[0]

    def opencv(joint: Any = joint) -> Any:
        return cv2.ximgproc.jointBilateralFilter(joint, source, size, float(COLOR_SIGMA), space_sigma)

    def agree() -> None:
        everywhere, rows = np.ones((HEIGHT, WIDTH)), np.arange(HEIGHT)
        assert_close(ours(), shared_reference(image, everywhere, guide, filters, True, rows), 2e-6)
        # OpenCV normalises by the products with the spatial filter, as a channel of ones does. It adds up absolute
        # differences of colours, which for one channel is the same, and mirrors the image at its border.
        gray = np.array([1, 0, 0], np.float32)
        found = ours(np.concatenate([image, np.ones_like(image[:1])]), guide * gray[:, None, None])
        inside = np.s_[:, size // 2 : -(size // 2), size // 2 : -(size // 2)]
        expected = opencv(joint * gray).transpose(2, 0, 1)
        assert_close((found[:3] / found[3])[inside], expected[inside], 2e-6)

    operations = 2.0 * image.size * filters.size
    rivals: dict[str, Call] = {"arrayops": ours, "opencv": opencv}
    moved, limits = float(2 * image.nbytes + guide.nbytes), {"opencv": OPENCV_LIMIT * FACTOR}
    return harness.Case(f"bilateral {size}x{size}", rivals, agree, operations, moved, limits)


def large_cases(transposed: bool) -> Iterator[harness.Case]:
    """Forward and backward of a 33x33 shared filter, normalised in the transposed convolution, which has stride 8."""
    random = np.random.default_rng(0)
    shape = (1, 1, HEIGHT // 8, WIDTH // 8) if transposed else (1, 3, HEIGHT, WIDTH)
    input = random.standard_normal(shape, np.float32)
    guide = random.standard_normal((1, 5, HEIGHT, WIDTH), np.float32) / 4
    weight = random.random((1, 1, LARGE, LARGE), np.float32)
    grad = random.standard_normal((1, shape[1], HEIGHT, WIDTH), np.float32)
    keywords: dict[str, Any] = {"shared_filters": True, "padding": LARGE // 2}
    if transposed:
        keywords |= {"stride": 8, "padding": 13, "output_padding": 1, "normalize_kernel": True}
    name = f"pac_conv{'_transpose' if transposed else ''}2d"
    operator, backward = getattr(ao, name), getattr(ao, f"{name}_backward")

    def agree() -> None:
        samples, valid, filters = input[0], np.ones((HEIGHT, WIDTH)), weight[0, 0]
        if transposed:
            # Sample m reaches outputs from 8 m - 13 on, and so stands 16 behind that, where the taps' centre is.
            spread = np.zeros((2, HEIGHT, WIDTH))
            spread[:, 3::8, 3::8] = samples[0], np.ones(shape[2:])
            samples, valid, filters = spread[:1], spread[1], filters[::-1, ::-1]
        rows = np.array([0, HEIGHT // 2, HEIGHT - 1])
        expected = shared_reference(samples, valid, guide[0], filters, transposed, rows)
        assert_close(operator(input, guide, weight, **keywords)[0, :, rows].swapaxes(0, 1), expected, 2e-6)

    def adjoint() -> None:
        # The output is linear in the input and in the weight: products with their gradients are that with its own.
        found, output = backward(grad, input, guide, weight, **keywords), operator(input, guide, weight, **keywords)
        expected, scale = np.vdot(grad, output), np.linalg.norm(grad) * np.linalg.norm(output)
        for gradient, array in ((found.input, input), (found.weight, weight)):
            assert abs(np.vdot(gradient, array) - expected) <= 2e-6 * scale

    operations, moved = 2.0 * input.size * weight.size, float(input.nbytes + guide.nbytes + grad.nbytes)
    forward = {"arrayops": lambda: operator(input, guide, weight, **keywords)}
    gradients = {"arrayops": lambda: backward(grad, input, guide, weight, **keywords)}
    about = f"{name} {LARGE}x{LARGE} shared"
    yield harness.Case(f"forward {about}", forward, agree, operations, moved, limit_ms=FORWARD_MS)
    yield harness.Case(f"backward {about}", gradients, adjoint, 2 * operations, 2 * moved, limit_ms=BACKWARD_MS)


if __name__ == "__main__":
    sys.exit(harness.main("Pixel-adaptive convolution, float32, CPU", cases))
