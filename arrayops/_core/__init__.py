"""Shared by all operators: operator records, argument checks, shape arithmetic and process-wide settings."""
