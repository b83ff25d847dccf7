"""Runs CUDA kernels on the CPU, with the grids, blocks, warps and barriers of a GPU. README.md says how to use it."""

from emulator.arguments import EmulatorError
from emulator.kernels import Kernel, RawModule
from emulator.schedule import ORDERS, schedule

__all__ = ["ORDERS", "EmulatorError", "Kernel", "RawModule", "schedule"]
