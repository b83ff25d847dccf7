"""The first minutes on a machine with a GPU: what is right there, and how fast it is. `first_run.py` is the command."""
