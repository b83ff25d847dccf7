"""The adapters of frameworks serve every operator by its record: their code names none."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import arrayops
from arrayops._ops import OPS

FOLDER = Path(arrayops.__file__).parent / "_frameworks"
FILES = sorted(FOLDER.rglob("*.py"))
OPERATORS = {*OPS, *(op.backward.name for op in OPS.values() if op.differentiable)}


def words(tree: ast.AST) -> Iterator[str]:
    """Identifiers, and the words of all strings but docstrings, in the code of a module."""
    documentation = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    for node in ast.walk(tree):
        if id(node) in documentation and isinstance(node, ast.Constant):
            continue
        # Whatever names something in a syntax tree is a string in a field of a node.
        for _, value in ast.iter_fields(node):
            for each in value if isinstance(value, list) else [value]:
                if isinstance(each, str):
                    yield from re.findall(r"\w+", each)


def test_words_of_code_are_found() -> None:
    code = '''
"""Documentation."""
from package.module import thing as other
def function(argument, *rest, **options: annotation) -> None:
    """Documentation."""  # comment
    global variable
    call(keyword=f"part {name} of")[attribute.of_it]
    match subject:
        case {"key": capture}:
            pass
'''
    found = set(words(ast.parse(code)))
    assert found == {
        *("package", "module", "thing", "other", "function", "argument", "rest", "options", "annotation", "variable"),
        *("call", "keyword", "part", "name", "of", "attribute", "of_it", "subject", "key", "capture"),
    }


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.relative_to(FOLDER).as_posix())
def test_no_operator_is_named(path: Path) -> None:
    assert OPERATORS.isdisjoint(words(ast.parse(path.read_text("utf-8"))))
