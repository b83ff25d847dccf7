"""What has to compile for every GPU, and what each kernel may need there. Authors of kernels add rows.

One row for each (file, macros) that the backend asks for, or a choice that covers every pair of options. Budgets are
for the worst architecture of the row. bfloat16 and TF32 on tensor cores need architectures (80, 90, 100).
"""

from emulator.nvrtc import Budget, Unit

UNITS: tuple[Unit, ...] = (
    *(Unit("copy.cu", (("ITEM_BYTES", size),), {"copy_strided": Budget(40)}) for size in (1, 2, 4, 8)),
    Unit("copy.cu", (("ITEM_BYTES", 4), ("WIDE", "")), {"copy_strided": Budget(64)}),
)
