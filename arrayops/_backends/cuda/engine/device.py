"""What a GPU can do, as far as kernels are chosen by it."""

from functools import cache
from typing import NamedTuple

import cupy


class GpuProperties(NamedTuple):
    """GpuProperties of one GPU."""

    compute_capability: int
    """Ten times the major version plus the minor: 75, 80, 90, 100. bfloat16 and TF32 tensor cores need 80."""
    multiprocessors: int
    shared_bytes: int
    """The most shared memory that one block may ask for; above 48 KiB a kernel has to opt in (`module.kernel`)."""

    def blocks(self, count: int, threads: int, each: int) -> int:
        """Blocks of a launch whose threads step over ``count`` entries, at most ``each`` for a multiprocessor."""
        return min(-(-count // threads), each * self.multiprocessors)


@cache
def properties(number: int) -> GpuProperties:
    """GpuProperties of GPU ``number``."""
    runtime = cupy.cuda.runtime
    return GpuProperties(
        compute_capability=int(cupy.cuda.Device(number).compute_capability),
        multiprocessors=runtime.deviceGetAttribute(runtime.cudaDevAttrMultiProcessorCount, number),
        shared_bytes=runtime.deviceGetAttribute(runtime.cudaDevAttrMaxSharedMemoryPerBlockOptin, number),
    )


def current() -> GpuProperties:
    """GpuProperties of the GPU that is current for the calling thread."""
    return properties(cupy.cuda.runtime.getDevice())
