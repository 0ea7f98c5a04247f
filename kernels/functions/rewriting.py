"""`sum(len(word) for word in words)` for numba, which has no generator expressions: as `sum([len(word) ...])`.

Where a builtin takes all that such an expression gives, or stops early, a list gives the same: what a list would do
beyond that is raise, and a record that raises is called as plain Python. It takes the function's source, and only one
that compiles to the very code that the function has: a file edited since is not the function's.
"""

from __future__ import annotations

import ast
import linecache
import warnings
from collections.abc import Iterator
from types import CodeType, FunctionType

_CONSUMERS = frozenset({"all", "any", "frozenset", "list", "max", "min", "set", "sorted", "sum"})
_EFFECTS = frozenset({"count", "reject"})
"""Methods of `emit`, which must be called as often as Python does."""


def without_generator_expressions(function: FunctionType) -> FunctionType:
    """The function with lists for generator expressions that a builtin consumes; itself where there are none.

    Also itself where its source is not to be had, or is not the function's any more.
    """
    code = function.__code__
    if not any(one.co_name == "<genexpr>" for one in _codes_in(code)):
        return function
    linecache.checkcache(code.co_filename)  # the file may have been edited, and its module reloaded
    source = "".join(linecache.getlines(code.co_filename))
    try:
        tree = ast.parse(source)
        before = [one for one in _codes_in(_compiled(tree, code)) if _place(one) == _place(code)]
        lists = _Lists(_CONSUMERS - set(function.__globals__)).visit(tree)
        after = [one for one in _codes_in(_compiled(lists, code)) if _place(one) == _place(code)]
    except (SyntaxError, ValueError):  # what is there now is no Python
        return function
    cells = dict(zip(code.co_freevars, function.__closure__ or (), strict=True))
    if code not in before or len(before) != len(after):
        return function
    own = after[before.index(code)]  # of several lambdas in one line
    if not cells.keys() >= set(own.co_freevars):
        return function
    closure = tuple(cells[name] for name in own.co_freevars)
    made = FunctionType(own, function.__globals__, function.__name__, function.__defaults__, closure)
    made.__qualname__, made.__kwdefaults__ = function.__qualname__, function.__kwdefaults__
    made.__dict__.update(function.__dict__)  # whether it takes side data
    return made


def source_is_at_hand(code: CodeType) -> bool:
    """Whether the text of a function's file can be read: not for what `python -` or exec made."""
    return bool(linecache.getlines(code.co_filename))


def _compiled(tree: ast.AST, like: CodeType) -> CodeType:
    flags = like.co_flags & _FUTURES
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # they are about the user's file, and were said when that was compiled
        made: CodeType = compile(ast.fix_missing_locations(tree), like.co_filename, "exec", flags, dont_inherit=True)  # type: ignore[call-overload]
    return made


_FUTURES = 0x1FF0000
"""The flags of code that say which features of __future__ it was compiled with."""


def _place(code: CodeType) -> tuple[str, int]:
    return code.co_qualname, code.co_firstlineno


def _codes_in(code: CodeType) -> Iterator[CodeType]:
    """The code objects inside, at any depth."""
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield constant
            yield from _codes_in(constant)


class _Lists(ast.NodeTransformer):
    """Generator expressions that are the first argument of a consuming builtin, or of a join, become lists."""

    def __init__(self, consumers: frozenset[str]) -> None:
        self._consumers = consumers
        self._parameters: list[set[str]] = []

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.AST:
        """A function; its parameters may be `emit`."""
        return self._inside(node, node.args)

    def visit_Lambda(self, node: ast.Lambda) -> ast.AST:
        """A lambda, likewise."""
        return self._inside(node, node.args)

    def _inside(self, node: ast.AST, arguments: ast.arguments) -> ast.AST:
        self._parameters.append({one.arg for one in (*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs)})
        self.generic_visit(node)
        self._parameters.pop()
        return node

    def visit_Call(self, node: ast.Call) -> ast.AST:
        """A call, whose argument may be replaced."""
        self.generic_visit(node)
        function = node.func
        is_consumer = isinstance(function, ast.Name) and function.id in self._consumers
        is_join = isinstance(function, ast.Attribute) and function.attr == "join"
        first = node.args[0] if node.args else None
        if (is_consumer or is_join) and isinstance(first, ast.GeneratorExp) and not self._may_emit(first):
            node.args[0] = ast.copy_location(ast.ListComp(first.elt, first.generators), first)
        return node

    def _may_emit(self, node: ast.AST) -> bool:
        """True if it calls a parameter, or a method of one that `emit` has: `line.count("a")` may be either."""
        parameters = set().union(*self._parameters)
        for call in ast.walk(node):
            if isinstance(call, ast.Call):
                if isinstance(call.func, ast.Name) and call.func.id in parameters:
                    return True
                if isinstance(call.func, ast.Attribute) and call.func.attr in _EFFECTS:
                    owner = call.func.value
                    if isinstance(owner, ast.Name) and owner.id in parameters:
                        return True
        return False
