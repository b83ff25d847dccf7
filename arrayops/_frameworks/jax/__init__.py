"""JAX: conversion of arrays, automatic differentiation, tracing and batching, for every operator record."""

from arrayops._frameworks.jax.adapter import frameworks as frameworks
