"""Changes to the messages of errors, in place.

The exceptions are not built anew: frameworks raise subclasses of TypeError whose constructors take other arguments.
"""


def rename_operator(error: Exception, old: str, new: str) -> None:
    """Replace the operator ``old`` by ``new`` at the start of the message of ``error``."""
    if error.args and isinstance(error.args[0], str):
        error.args = (error.args[0].replace(f"{old}:", f"{new}:", 1), *error.args[1:])


def extend_message(error: Exception, addition: str) -> None:
    """Append ``addition`` to the message of ``error``."""
    if error.args and isinstance(error.args[0], str):
        error.args = (error.args[0] + addition, *error.args[1:])
