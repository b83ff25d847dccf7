"""Saves the program of tests/support/saved_model.py to a new folder beside this file, with what it computes."""

import sys
from pathlib import Path

import numpy as np
import tensorflow as tf

import saved_model

if __name__ == "__main__":
    folder = Path(__file__).parent / sys.argv[1]
    folder.mkdir()
    program, arguments = saved_model.program(tf), saved_model.arguments()
    tf.saved_model.save(program, str(folder), options=tf.saved_model.SaveOptions(save_debug_info=False))
    np.savez_compressed(folder / "arguments.npz", **arguments)
    np.savez_compressed(folder / "computed.npz", **saved_model.computed(tf, program, arguments))
