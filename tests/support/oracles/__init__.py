"""Slow, obvious implementations that the library is tested against; they import nothing of the library."""
