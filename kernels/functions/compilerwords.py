"""numba's own words about what it does not compile, in words about the user's code."""

from __future__ import annotations

import re

from kernelmill.kernels.functions.operands import (
    RAISES_TOO,
    arguments_of,
    loop_words,
    method_words,
    operand,
    operation_words,
)
from kernelmill.kernels.text.growing import GROWS
from kernelmill.kernels.text.patterns import TOO_MUCH

NOT = "not supported in compiled functions"
SILENT = f"what is done here is {NOT}"
VALUES_COME_ONE_BY_ONE = "values come one by one: values = list(values) has them all"

_OF_THE_COMPILER = (
    r".*(<function |@overload|\bType of #|mismatch: |key already in|NRT |args=\[|kws=|\bat 0x|Function\("
    r"|Literal\[|unicode_type|OptionalType|LLVM|\bIR\b|\{i\d|index at \[|\$\d|nopython|[Nn]umba|\blowering\b"
    r"|Invalid use of |No implementation of |Signature mismatch)"
)
"""Words of the compiler's insides, which say nothing to a user."""


_OPERATORS = {
    "add": "+", "sub": "-", "mul": "*", "truediv": "/", "floordiv": "//", "mod": "%", "pow": "**", "and_": "&",
    "or_": "|", "xor": "^", "lshift": "<<", "rshift": ">>", "lt": "<", "le": "<=", "gt": ">", "ge": ">=", "eq": "==",
    "ne": "!=", "contains": "in", "is_": "is", "getitem": "[...]", "static_getitem": "[...]", "setitem": "[...] =",
    "delitem": "del", "iadd": "+=", "isub": "-=", "imul": "*=", "neg": "-", "percent": "%",
    "pos": "+", "invert": "~", "not_": "not", "matmul": "@",
}  # fmt: skip
_NO_FUNCTION = (
    r"No implementation of function Function\(<(?:built-in function|class|function) '?(?:user_|unicode_)?(\w+)\b.*>\)"
)
_COUNTS = "emit.{} takes a whole number after the name"
_WORDS = (
    (r"Invalid use of BoundFunction\([\w.]*emit\.(count) .* parameters \(Literal\[str\]", _COUNTS),
    (r"Invalid use of BoundFunction\([\w.]*emit\.(\w+)", "emit.{} takes a name that is written in the call"),
    (
        r"Invalid use of (Literal|\w+ is no|int64|float64|OptionalType|Text|unicode)",
        "a value is called that is no function",
    ),
    (r"(Cannot __getitem__ on a literal list)", "a list of values of several types is not supported"),
    (r"(Cannot cast Pieces)", "what split gives is put where a list stands: list(...) makes a list of it"),
    (r"(Encountered unsupported exception)", "raising such an exception is not supported"),
    (r".*(load_from_data_pointer)", "an iterator that leaves its function is not supported: let it give a list back"),
    (
        r"Cannot capture .* variable '(\w+)'",
        "{} is a variable of the function around a lambda or function that is handed on: write a loop or [... for ...]",
    ),
    (r"(Illegal IR, del found)", "del of a variable is not supported"),
    (r"(Cannot resolve setattr|No definition for lowering [^=]*\.\w+ = )", "an attribute cannot be given a value"),
    (r"Unknown attribute '(\w+)' of type Pieces", "what split gives has no {} here: list(...) makes a list of it"),
    (r"Unknown attribute '(\w+)' of type Module\((\w+)\)", "{} of that module is not supported"),
    (r"Unknown attribute '(\w+)' of type", "the attribute {} is not supported"),
    (
        r"Cannot unify .* for '(?:\w*__locals__|\$|\w*vphi)()",
        "what is made inside is{} now of one type, now of another",
    ),
    (r"Cannot unify .* for '([A-Za-z_]\w*?)(?:\.\d+)?'", "{} is now of one type, now of another"),
    (r"(Cannot unify) ", "one expression is now of one type, now of another"),
    (
        r"Cannot infer the type of variable '([A-Za-z_]\w*?)(?:\.\d+)?'.* list\(undefined",
        "what the list {} holds cannot be told",
    ),
    (r"(Cannot infer the type of variable .* list\(undefined)", "what a list holds cannot be told"),
    (r"(Type of variable|Cannot infer|Cannot type|Undecided)", "the type of a value cannot be told"),
    (r"[Uu]ntyped global name '(\w+)'", "{} is not supported"),
)
"""What numba says, and the same in words; what it names by {}."""


_SIDE_WORDS = (
    (rf"({re.escape(TOO_MUCH)})", "{}"),
    (rf"({re.escape(GROWS)})", "{}"),
    (r">>> (float|int)\(none\)", f"{{}}() of None {RAISES_TOO}"),
    (
        r">>> user_format\(.*, Literal\[str\]\((.*)\)\)\n",
        "the format specification {!r} is not supported for such values",
    ),
    (r"wrong tuple length for .*expected (\d+), got (\d+)", f"unpacking {{1}} values into {{0}} names {RAISES_TOO}"),
    (r"(>>> (?:len|getitem|static_getitem|contains|reversed|setitem)\(Values\()", VALUES_COME_ONE_BY_ONE),
    (r"getiter with parameters \(SideSet", "a loop over a set is not supported: its order is another in each process"),
    (r"setitem\((?:Side|readonly)", "what a function looks up cannot be changed"),
    (r"getitem\(Side\w+\(.*\), slice", "slices of a list that a function looks up are not supported"),
    (r"getitem\(SideTable\(.*\), Literal\[str\]\((.*)\)\)", "the table has no column {!r}"),
    (r"(?:contains|getitem)\(Side(?:Set|Dict)\((\w+)", "its keys are {}, and something else is looked up"),
    (
        r"contains\(SideList\((\w+)",
        "a list of {} is searched for its own kind only, and not at all for floats or beside None",
    ),
)
"""What numba says of side data (`sidetypes`), anywhere in its text, and the same in words."""


def plain_words(text: str) -> str:
    """numba's error in plain words if it is a common one, else its first line that says something."""
    for pattern, words in _SIDE_WORDS:
        told = re.search(pattern, text)
        if told:
            return words.format(*told.groups())
    lines = [line.strip() for line in text.splitlines()]
    skipped = (
        "- Resolution failure",
        "Failed in ",
        "During:",
        "Use of unsupported",
        "File ",
        "There are",
        "- Of which",
        ">>>",
        "Overload",
    )
    first = next((line for line in lines if line and not line.startswith(skipped)), lines[0] if lines else "")
    for pattern, words in _WORDS:
        found = re.match(pattern, first)
        if found:
            return words.format(found[1]) + _types_that_differ(first)
    said = _of_operation(first, text)
    return said or (SILENT if re.match(_OF_THE_COMPILER, first) else first)


def _types_that_differ(first: str) -> str:
    """The two types that one variable would have, after a colon; "" where numba's line is not about such."""
    found = re.match(r"Cannot unify (.*) and (.*) for ", first)
    titles = [one.title for one in map(operand, found.groups()) if one is not None] if found else []
    return f": {titles[0]} and {titles[1]}" if len(set(titles)) == 2 else ""


def _of_operation(first: str, text: str) -> str:
    """What is said of an operator, function, method or loop that the line `first` of numba's `text` names; or ""."""
    found = re.match(_NO_FUNCTION, first)
    if found:
        name = found[1]
        called = re.search(r">>> pow\((.*)\)$", text, re.MULTILINE)
        is_operator = name in _OPERATORS and not (called and len(arguments_of(called[1])) > 2)
        symbol = f"the operator {_OPERATORS[name]}" if is_operator else f"{name}()"
        return operation_words(name, symbol, text, is_builtin="<built-in function" in first)
    found = re.match(r"Invalid use of BoundFunction\((?:[\w.]*\.)?(\w+) for (.*)\) with parameters \((.*)\)$", first)
    if found:
        return method_words(*found.groups())
    found = re.match(r"Invalid use of getiter with parameters \((.*)\)$", first)
    return loop_words(found[1]) if found else ""
