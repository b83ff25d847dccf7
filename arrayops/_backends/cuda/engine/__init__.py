"""Shared by all CUDA kernels: sources, compilation, launches, structures, device memory, and sums in a fixed order."""
