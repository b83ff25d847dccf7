"""Errors that are raised for one operator and reported for another."""


def rename_operator(error: Exception, old: str, new: str) -> None:
    """Replace the operator ``old`` by ``new`` at the start of the message of ``error``, in place.

    The exception is not built anew: frameworks raise subclasses of TypeError whose constructors take other arguments.
    """
    if error.args and isinstance(error.args[0], str):
        error.args = (error.args[0].replace(f"{old}:", f"{new}:", 1), *error.args[1:])
