"""Precision of float32 multiplications on GPUs."""

from arrayops._core import checks

MODES = ("highest", "tf32")

_mode = "highest"


def set_float32_precision(mode: str) -> None:
    """Set the precision of float32 multiplications on GPUs.

    Parameters
    ----------
    mode : {"highest", "tf32"}
        "highest", the default, keeps all 24 bits of float32. "tf32" rounds factors to 11 bits, with a relative error
        of about 1e-3, so that GPUs of compute capability 8.0 or higher can multiply on tensor cores. It affects float32
        arrays only; sums stay float32. CPUs and older GPUs always use "highest".

    Raises
    ------
    ValueError
        If ``mode`` has any other value.

    Examples
    --------
    >>> import arrayops as ao
    >>> ao.set_float32_precision("tf32")
    >>> ao.get_float32_precision()
    'tf32'
    >>> ao.set_float32_precision("highest")
    """
    global _mode
    _mode = checks.choice("set_float32_precision", "mode", mode, MODES)


def get_float32_precision() -> str:
    """Return the precision of float32 multiplications on GPUs: "highest" or "tf32".

    Returns
    -------
    str

    Examples
    --------
    >>> import arrayops as ao
    >>> ao.get_float32_precision()
    'highest'
    """
    return _mode
