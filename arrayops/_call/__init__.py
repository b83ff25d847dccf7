"""Operator calls: framework detection, checks, conversion of arrays and dispatch to a backend."""
