"""Makes C++ of a preprocessed kernel text: shared memory, kernels, and a table of them for Python.

The text has been through the preprocessor, so that macros are expanded and comments are gone; line markers are kept,
and every replacement keeps the number of lines, so that reports name the line of the kernel.
"""

import re
from typing import NamedTuple

from emulator.arguments import EmulatorError

ALIGNMENT = r"(?:alignas\s*\([^()]*\)|__attribute__\s*\(\(\s*(?:__)?aligned(?:__)?\s*\([^()]*\)\s*\)\))"
DYNAMIC_SHARED = re.compile(
    rf"\bextern\s+__shared__\s+(?P<type>(?:{ALIGNMENT}|[\w:<>,\s*])+?)\s*{ALIGNMENT}?\s*\b(?P<name>\w+)\s*\[\s*\]\s*;"
)
STATIC_SHARED = re.compile(r"\b(?:static\s+)?(?:(?P<volatile>volatile)\s+)?__shared__\s+(?P<declaration>[^;]+);")
DECLARATOR = re.compile(r"\b(?P<name>\w+)\s*(?P<bounds>(?:\[[^]]*\]\s*)*)$")
ALIGNED = re.compile(ALIGNMENT)
ALIGNMENT_VALUE = re.compile(r"\((?P<value>[^()]*)\)\s*(?:\)\))?$")
GLOBAL = re.compile(r"\b__global__\b")
KERNEL = re.compile(r"^[^;{}()]*?\bvoid\s+(?P<name>\w+)\s*\(", re.DOTALL)
BOUNDS = re.compile(r"\b__launch_bounds__\s*(?=\()")


class KernelText(NamedTuple):
    """A kernel's name, and the arguments of its ``__launch_bounds__``, or nothing."""

    name: str
    bounds: str


def _closing(text: str, start: int) -> int:
    """Position behind the parenthesis that closes the one at ``start``."""
    depth = 0
    for position in range(start, len(text)):
        depth += {"(": 1, ")": -1}.get(text[position], 0)
        if depth == 0:
            return position + 1
    raise EmulatorError(f"an unclosed parenthesis: {text[start : start + 60]}")


def _split(text: str) -> list[str]:
    """Parts between commas that stand outside of brackets."""
    parts, depth, begin = [], 0, 0
    for position, character in enumerate(text):
        depth += {"<": 1, "(": 1, "[": 1, "{": 1, ">": -1, ")": -1, "]": -1, "}": -1}.get(character, 0)
        if character == "," and depth == 0:
            parts.append(text[begin:position])
            begin = position + 1
    return [*parts, text[begin:]]


def _lines_of(text: str) -> str:
    """As many ends of lines as a text that is replaced."""
    return "\n" * text.count("\n")


def _alignment(text: str) -> str:
    """What an alignas or an aligned attribute asks for, or 0."""
    found = ALIGNED.search(text)
    return ALIGNMENT_VALUE.search(found[0])["value"] if found else "0"  # type: ignore[index]


def _dynamic(match: re.Match[str]) -> str:
    element = " ".join(ALIGNED.sub(" ", match["type"]).split())
    return f"{element}* {match['name']} = ::cuda_emulator::dynamic_shared<{element}>();" + _lines_of(match[0])


def _static(match: re.Match[str]) -> str:
    """References into the arena, by a type of the same form: ``float tile[2][3]`` names float, twice 3 of them."""
    text = match["declaration"]
    if "=" in ALIGNED.sub("", text):
        raise EmulatorError(f"a __shared__ variable cannot be initialised: {' '.join(match[0].split())}")
    alignment = _alignment(text)
    first, *others = _split(ALIGNED.sub(" ", text))
    found = DECLARATOR.search(first.rstrip())
    if found is None:
        raise EmulatorError(f"not understood: {' '.join(match[0].split())}")
    base = " ".join([match["volatile"] or "", *first[: found.start()].split()]).strip()
    result = []
    for declarator in (first[found.start() :], *others):
        found = DECLARATOR.fullmatch(declarator.strip())
        if found is None:
            raise EmulatorError(f"not understood: {' '.join(match[0].split())}")
        name, bounds = found["name"], " ".join(found["bounds"].split())
        result += [
            f"static ::cuda_emulator::SharedVariable {name}_place;",
            f"typedef {base} {name}_type{bounds};",
            f"{name}_type& {name} = ::cuda_emulator::shared<{name}_type>({name}_place, {alignment});",
        ]
    return " ".join(result) + _lines_of(match[0])


def _kernels(text: str) -> tuple[str, list[KernelText]]:
    """The text without launch bounds and ``__global__``, and the kernels it defines or declares."""
    kernels: dict[str, str] = {}
    pieces, position = [], 0
    for match in GLOBAL.finditer(text):
        pieces.append(text[position : match.start()])
        position = match.end()
        head, bounds = text[position:], ""
        found = BOUNDS.search(head, 0, 600)
        opening = head.find("{")
        if found is not None and (opening < 0 or found.start() < opening):
            end = _closing(head, found.end())
            bounds = head[found.end() + 1 : end - 1]
            before = head[: found.start()]
            pieces.append(before + _lines_of(head[found.start() : end]))
            position += end
            head = before + head[end:]
        name = KERNEL.match(head[:2000])
        if name is None:
            raise EmulatorError(f"a kernel without a name: {' '.join(head[:80].split())}")
        kernels[name["name"]] = bounds or kernels.get(name["name"], "")
    pieces.append(text[position:])
    return "".join(pieces), [KernelText(*item) for item in kernels.items()]


TABLE = """
# 1 "table of kernels"
extern "C" __attribute__((visibility("default"))) int emulator_describe(int kernel, char* text, size_t size) {{
  switch (kernel) {{
{describe}
  }}
  return {count};
}}

extern "C" __attribute__((visibility("default"))) int emulator_launch(
    int kernel, const cuda_emulator::Launch* launch, void** values, char* message, size_t size) {{
  switch (kernel) {{
{launch}
  }}
  return 1;
}}
"""


def rewrite(text: str) -> str:
    """C++ of a preprocessed text."""
    text = DYNAMIC_SHARED.sub(_dynamic, text)
    text = STATIC_SHARED.sub(_static, text)
    text, kernels = _kernels(text)
    if not kernels:
        raise EmulatorError("the text holds no __global__ function")
    describe = [
        f"    case {number}: cuda_emulator::describe_kernel("
        f'&::{kernel.name}, "{kernel.name}", cuda_emulator::thread_limit({kernel.bounds}), text, size); break;'
        for number, kernel in enumerate(kernels)
    ]
    launch = [
        f"    case {number}: return cuda_emulator::launch_kernel(&::{kernel.name}, *launch, values, message, size);"
        for number, kernel in enumerate(kernels)
    ]
    return text + TABLE.format(describe="\n".join(describe), launch="\n".join(launch), count=len(kernels))
