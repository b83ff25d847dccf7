"""Checks and benchmarks on a machine with a GPU, within a few minutes. The command is `first_run.py`."""
