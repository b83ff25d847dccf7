"""The error of a kernel that cannot be compiled or loaded here."""


class EngineUnavailable(RuntimeError):
    """Compiled kernels cannot serve; the message says why. Raised before any work, so that NumPy can serve instead."""


class CompilerHangs(EngineUnavailable):
    """A compiler was stopped at its time limit."""
