"""Operator records: for each family its parameter tuples, shape rules and ``Op`` records, on metadata only."""

from arrayops._core.op import Op
from arrayops._ops import conv, merge, pac, segment

OPS: dict[str, Op] = {op.name: op for family in (pac, conv, segment, merge) for op in family.OPS}
"""Every forward operator by name."""
