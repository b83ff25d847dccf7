"""What convolutions and pixel-adaptive operators share: plans, the contraction over taps, and gradients of weights."""
