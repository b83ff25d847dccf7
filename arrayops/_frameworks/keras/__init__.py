"""Keras on every backend: variables, which hold arrays, and symbolic tensors, which have a shape and a dtype alone."""

from arrayops._frameworks.keras.adapter import frameworks as frameworks
