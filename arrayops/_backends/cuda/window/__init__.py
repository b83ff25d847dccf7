"""Shared by convolutions and pixel-adaptive operators: plans, contractions over taps, and gradients of weights."""
