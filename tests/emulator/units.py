"""What has to compile for every GPU beside the kernels of a family, and what each kernel may need there.

One row for each (file, macros) that the backend asks for, or a choice that covers every pair of options. Budgets are
for the worst architecture of the row. bfloat16 and TF32 on tensor cores need architectures (80, 90, 100).
"""

from emulator.nvrtc import Budget, Unit

UNITS: tuple[Unit, ...] = (
    *(Unit("copy.cu", (("ITEM_BYTES", size),), {"copy_strided": Budget(40)}) for size in (1, 2, 4, 8)),
    Unit("copy.cu", (("ITEM_BYTES", 4), ("INDEX_64BIT", "")), {"copy_strided": Budget(64)}),
    *(
        Unit("sums.cu", ((scalar, ""), ("THREADS", 256)), {"sum_parts": Budget(64), "sum_pixels": Budget(64)})
        for scalar in ("SCALAR_FLOAT16", "SCALAR_FLOAT32", "SCALAR_FLOAT64")
    ),
)
