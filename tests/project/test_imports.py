"""What importing and calling arrayops loads, seen from fresh processes."""

from new_process import in_new_process

HEAVY = (
    "scipy",
    "cupy",
    "torch",
    "jax",
    "tensorflow",
    "keras",
    "ml_dtypes",
    "threadpoolctl",
    "concurrent.futures",
    "numpy.ma",
    "matplotlib",
)
CALL = """
image = numpy.ones((1, 2, 9, 9), numpy.float32)
output = arrayops.pac_conv2d(image, image, numpy.ones((2, 2, 3, 3), numpy.float32))
"""


def loaded(code: str, names: tuple[str, ...]) -> list[str]:
    """Which modules ``code`` loads beyond those that NumPy alone does."""
    return eval(
        in_new_process(
            f"import sys, numpy\nbefore = set(sys.modules)\n{code}\n"
            f"print([name for name in {names} if name in sys.modules and name not in before])"
        )
    )


def test_import_loads_nothing_heavy() -> None:
    assert loaded("import arrayops", HEAVY) == []


def test_numpy_call_imports_no_framework() -> None:
    names = ("cupy", "torch", "jax", "tensorflow", "keras", "ml_dtypes", "numpy.ma")
    assert loaded(f"import arrayops\n{CALL}", names) == []


def test_array_of_one_framework_imports_no_other() -> None:
    code = "import arrayops\ntry:\n    arrayops.pac_conv2d([1], [1], [1])\nexcept TypeError:\n    pass"
    assert loaded(code, ("cupy", "torch", "jax", "tensorflow", "keras", "ml_dtypes")) == []


def test_import_loads_these_modules_alone() -> None:
    # Which modules of the standard library NumPy loads itself differs between its versions.
    names = set(
        eval(
            in_new_process(
                "import copy, dataclasses, sys, numpy, numpy.typing\nbefore = set(sys.modules)\n"
                "import arrayops\nprint(sorted(set(sys.modules) - before))"
            )
        )
    )
    own = {name for name in names if name.partition(".")[0] == "arrayops"}
    # Whatever else takes a while to import is imported by the first call that needs it.
    assert names == own
    assert {name.split(".")[1] for name in own - {"arrayops"}} <= {
        *("_typing", "_core", "_call", "_ops", "_frameworks", "_backends"),
        *("conv", "merge", "pac", "segment"),
    }
    assert not {name for name in own if name.startswith(("arrayops._backends.", "arrayops._frameworks."))} - {
        "arrayops._frameworks.base",
        "arrayops._frameworks.saved_programs",
    }


def test_every_public_name_exists() -> None:
    assert in_new_process("import arrayops\nprint([n for n in arrayops.__all__ if not hasattr(arrayops, n)])") == "[]\n"
