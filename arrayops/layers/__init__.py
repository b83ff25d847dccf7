"""Layers for deep learning frameworks; one module a framework, which imports it."""
