"""What all CUDA kernels need: sources, compilation, launches, structures, device memory, and sums in a fixed order."""
