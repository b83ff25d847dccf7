"""How float32 products are formed on GPUs."""

from arrayops._core import checks

MODES = ("highest", "tf32")

_mode = "highest"


def set_float32_precision(mode: str) -> None:
    """Choose how float32 arrays are multiplied on GPUs.

    Parameters
    ----------
    mode : {"highest", "tf32"}
        "highest", the default, keeps all 24 bits of float32. "tf32" rounds factors to 11 bits, with a relative error
        near 1e-3, and lets GPUs from compute capability 8.0 on form products on their tensor cores. It concerns
        float32 arrays alone, sums stay float32, and CPUs and older GPUs go on as under "highest".

    Raises
    ------
    ValueError
        For another mode.

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
    """How float32 arrays are multiplied on GPUs: "highest" or "tf32".

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
