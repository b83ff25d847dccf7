"""The CPU backend: kernels from ``raw_kernels/cpu`` compiled at run time, and NumPy where there is no compiler."""
