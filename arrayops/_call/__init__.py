"""A call of an operator: arrays in, framework, checks, backend, arrays out."""
