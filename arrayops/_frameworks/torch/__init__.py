"""PyTorch: conversion of tensors, automatic differentiation, tracing and batching, for every operator record."""

from arrayops._frameworks.torch.adapter import frameworks as frameworks
