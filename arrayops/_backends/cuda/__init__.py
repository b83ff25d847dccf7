"""The CUDA backend: CuPy arrays, and kernels from ``raw_kernels`` compiled at run time.

A family that has no module here yet is refused by ``arrayops._backends.find`` with a message that says so. Dispatch
calls a function within ``Framework.launching``: CuPy's current device and stream are then the caller's.
"""
