"""What kernels of sliding windows share: where their taps read, how samples and weights are packed."""
