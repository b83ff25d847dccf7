"""TensorFlow: conversion of tensors, automatic differentiation and graphs, for every operator record."""

from arrayops._frameworks.tensorflow.adapter import frameworks as frameworks
