"""`sum(len(word) for word in words)` for numba, which has no generator expressions: as `sum([len(word) ...])`.

Where a builtin takes all that such an expression gives, or stops early, a list gives the same: what a list would do
beyond that is raise, and a record that raises is called as plain Python. For the same reason `map(str.upper, words)`,
where it is gone through at once, becomes `[word.upper() for word in words]`, and key=str.lower a lambda: numba has no
methods of classes. It takes the function's source, and only one that compiles to the very code that the function has:
a file edited since is not the function's.
"""

from __future__ import annotations

import ast
import linecache
import warnings
from collections.abc import Iterator
from types import CodeType, FunctionType

from kernelmill.kernels.functions.capturing import Captures

_CONSUMERS = frozenset({"all", "any", "frozenset", "list", "max", "min", "set", "sorted", "sum"})
_GOING_THROUGH = _CONSUMERS | {"enumerate", "filter", "map", "tuple", "zip"}
"""Builtins for which a list is as good as the iterator that map and filter give."""

_CALLING = frozenset({"filter", "map", "max", "min", "sort", "sorted"})
"""What calls a function that it is given."""

_EFFECTS = frozenset({"count", "reject"})
"""Methods of `emit`, which must be called as often as Python does."""


def without_generator_expressions(function: FunctionType) -> FunctionType:
    """The function with lists for generator expressions that a builtin consumes; itself where there are none.

    Also itself where its source is not to be had, or is not the function's any more.
    """
    code = function.__code__
    codes = [code, *_codes_in(code)]
    is_rewritten = any(one.co_name == "<genexpr>" or _maps_by_method(one) for one in codes)
    if not is_rewritten and not any(map(_may_capture, codes[1:])):
        return function
    linecache.checkcache(code.co_filename)  # the file may have been edited, and its module reloaded
    source = "".join(linecache.getlines(code.co_filename))
    try:
        tree = ast.parse(source)
        before = [one for one in _codes_in(_compiled(tree, code)) if _place(one) == _place(code)]
        named = set(function.__globals__).union(*(one.co_varnames + one.co_cellvars + one.co_freevars for one in codes))
        lists = _Maps(named).visit(_Lists(_CONSUMERS - set(function.__globals__)).visit(tree))
        lists = Captures(named).visit(lists)
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


def _maps_by_method(code: CodeType) -> bool:
    """Whether code may give str, or a method of it, to what calls it for each item."""
    return "str" in code.co_names and not _CALLING.isdisjoint(code.co_names)


def _may_capture(code: CodeType) -> bool:
    """Whether code is a function that uses variables of the one around it, by name or as defaults; no comprehension."""
    has_defaults = code.co_argcount > 1  # perhaps: they are no part of it
    return (bool(code.co_freevars) or has_defaults) and code.co_name not in _COMPREHENSIONS


_COMPREHENSIONS = ("<listcomp>", "<setcomp>", "<dictcomp>", "<genexpr>")


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


class _Maps(ast.NodeTransformer):
    """`map` and `filter` by str or a method of it become lists, where they are gone through at once.

    own: the names that the function gives itself, of which none is a builtin.
    """

    def __init__(self, own: set[str]) -> None:
        self._builtins = {"filter", "map", "str"} - own
        self._going_through = _GOING_THROUGH - own

    def visit_For(self, node: ast.For) -> ast.AST:
        """A loop over one."""
        self.generic_visit(node)
        node.iter = self._as_list(node.iter)
        return node

    def visit_comprehension(self, node: ast.comprehension) -> ast.AST:
        """A loop over one within a comprehension."""
        self.generic_visit(node)
        node.iter = self._as_list(node.iter)
        return node

    def visit_Assign(self, node: ast.Assign) -> ast.AST:
        """One that is taken apart: a, b = map(str.strip, parts)."""
        self.generic_visit(node)
        if len(node.targets) == 1 and isinstance(node.targets[0], ast.Tuple):
            node.value = self._as_list(node.value)
        return node

    def visit_Call(self, node: ast.Call) -> ast.AST:
        """A builtin, or a join, that goes through one."""
        self.generic_visit(node)
        function = node.func
        is_builtin = isinstance(function, ast.Name) and function.id in self._going_through
        if is_builtin or (isinstance(function, ast.Attribute) and function.attr == "join"):
            node.args = [self._as_list(one) for one in node.args]
        if is_builtin or (isinstance(function, ast.Attribute) and function.attr == "sort"):
            for keyword in node.keywords:
                if keyword.arg == "key":
                    keyword.value = self._as_lambda(keyword.value)
        return node

    def _as_lambda(self, node: ast.expr) -> ast.expr:
        """lambda item: item.lower() for str.lower; anything else as it is."""
        item = ast.Name("item", ast.Load())
        made = self._of_item(node, item) if isinstance(node, ast.Attribute) and "str" in self._builtins else None
        if made is None:
            return node
        given = ast.arguments(posonlyargs=[], args=[ast.arg("item")], kwonlyargs=[], kw_defaults=[], defaults=[])
        return ast.copy_location(ast.Lambda(given, made), node)

    def _as_list(self, node: ast.expr) -> ast.expr:
        """A list comprehension for a map or filter of that kind; anything else as it is."""
        if (
            not isinstance(node, ast.Call)
            or not isinstance(node.func, ast.Name)
            or node.keywords
            or len(node.args) != 2
        ):
            return node
        item = ast.Name("item of a map", ast.Load())  # no name that a function could have
        made = self._of_item(node.args[0], item)
        if made is None or not {node.func.id, "str"} <= self._builtins or node.func.id == "str":
            return node
        kept = [made] if node.func.id == "filter" else []
        loop = ast.comprehension(ast.Name(item.id, ast.Store()), node.args[1], kept, 0)
        return ast.copy_location(ast.ListComp(item if kept else made, [loop]), node)

    def _of_item(self, function: ast.expr, item: ast.expr) -> ast.expr | None:
        """str(item) for str, item.upper() for str.upper; None for other functions."""
        if isinstance(function, ast.Name) and function.id == "str":
            return ast.Call(function, [item], [])
        if not isinstance(function, ast.Attribute) or not isinstance(function.value, ast.Name):
            return None
        if function.value.id != "str" or not callable(getattr(str, function.attr, None)):
            return None
        return ast.Call(ast.Attribute(item, function.attr, ast.Load()), [], [])
