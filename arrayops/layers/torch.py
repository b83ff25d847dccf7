"""PyTorch: importing this module registers the operators of arrayops with torch.

Needed before ``torch.export.load`` and ``torch.jit.load``, which look operators up by name; otherwise the first call
with a tensor does it.
"""

from arrayops._frameworks.torch import library as _library  # noqa: F401
