"""Properties of GPUs that select and size kernels."""

from functools import cache
from typing import NamedTuple

import cupy

THREADS = 256
"""Threads of a block, for kernels that need no other number. Those that depend on it get it as a macro."""

BLOCKS_PER_MULTIPROCESSOR = 32
"""Blocks on each multiprocessor for grid-stride loops: enough to hide the latency of memory."""


class GpuProperties(NamedTuple):
    """Properties of one GPU."""

    compute_capability: int
    """Ten times the major version plus the minor: 75, 80, 90, 100. bfloat16 and TF32 tensor cores need 80."""
    multiprocessors: int
    shared_bytes: int
    """Maximum shared memory of one block; above 48 KiB a kernel has to opt in (`module.kernel`)."""

    def blocks(self, count: int, threads: int, per_multiprocessor: int) -> int:
        """Blocks of a grid-stride loop over ``count`` entries, at most ``per_multiprocessor`` for each SM."""
        return min(-(-count // threads), per_multiprocessor * self.multiprocessors)


@cache
def properties(number: int) -> GpuProperties:
    """Properties of GPU ``number``."""
    runtime = cupy.cuda.runtime
    return GpuProperties(
        compute_capability=int(cupy.cuda.Device(number).compute_capability),
        multiprocessors=runtime.deviceGetAttribute(runtime.cudaDevAttrMultiProcessorCount, number),
        shared_bytes=runtime.deviceGetAttribute(runtime.cudaDevAttrMaxSharedMemoryPerBlockOptin, number),
    )


def current() -> GpuProperties:
    """Properties of the GPU that is current for the calling thread."""
    return properties(cupy.cuda.runtime.getDevice())
