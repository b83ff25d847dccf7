"""What all compiled kernels need: a compiler, a cache of libraries, loading, and the choice between them and NumPy."""
