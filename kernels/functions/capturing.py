"""`max(words, key=lambda word: line.count(word))`: functions that use a variable of the function around them.

numba gives functions on only if what they use is constant. What calls such a one for each item at once gets lists
instead, which are made where the variable is: pairs of item and key for key=, the very results for map and filter.
"""

from __future__ import annotations

import ast
from typing import NamedTuple

_CHANGING = frozenset({"append", "clear", "extend", "insert", "pop", "remove", "reverse", "sort"})
_EARLY = frozenset({"all", "any"})
"""What may stop before the last item."""
_CONSUMERS = _EARLY | {"frozenset", "list", "max", "min", "set", "sorted", "sum", "tuple"}
_EFFECTS = frozenset({"count", "reject"})
"""Methods of `emit`, which must be called as often as Python does, and in that order."""
_PAIR = "pair_of_a_key"


class _Called(NamedTuple):
    """What a function that captures does with an item: the item's name or names, the expression, what that reads."""

    targets: list[str]
    body: ast.expr
    free: set[str]


class _Scope(NamedTuple):
    """A function: the names it gives values to, and those of them that are functions of one expression, made in it."""

    names: set[str]
    functions: dict[str, ast.Lambda]
    aliases: set[str]
    """Variables that are assigned to each other."""


class Captures(ast.NodeTransformer):
    """Lists for functions that capture, where a builtin, a join, a loop or list.sort calls them for each item at once.

    own: the names that the function gives itself, of which none is a builtin.
    """

    def __init__(self, own: set[str]) -> None:
        self._own = own
        self._scopes: list[_Scope] = []
        self._parameters: list[set[str]] = []

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.AST:
        """A function, whose variables those made inside may use."""
        return self._inside(node, node.args)

    def visit_Lambda(self, node: ast.Lambda) -> ast.AST:
        """A lambda, likewise."""
        return self._inside(node, node.args)

    def _inside(self, node: ast.FunctionDef | ast.Lambda, arguments: ast.arguments) -> ast.AST:
        parameters = _parameters(arguments)
        self._scopes.append(_Scope(parameters | _stored(node), _functions_in(node), _aliases_in(node)))
        self._parameters.append(parameters)
        self.generic_visit(node)
        self._scopes.pop()
        self._parameters.pop()
        return node

    def visit_For(self, node: ast.For) -> ast.AST:
        """A loop over map or filter, unless it changes what their function uses."""
        self.generic_visit(node)
        changed = set().union(*(_stored(one) | _changed(one) for one in node.body))
        node.iter = self._as_list(node.iter, changed, may_stop=True)
        return node

    def visit_comprehension(self, node: ast.comprehension) -> ast.AST:
        """A loop over one within a comprehension."""
        self.generic_visit(node)
        node.iter = self._as_list(node.iter, may_stop=True)
        return node

    def visit_Assign(self, node: ast.Assign) -> ast.AST:
        """One that is taken apart: a, b = map(lambda part: part + end, parts)."""
        self.generic_visit(node)
        if len(node.targets) == 1 and isinstance(node.targets[0], ast.Tuple):
            node.value = self._as_list(node.value, may_stop=True)
        return node

    def visit_Expr(self, node: ast.Expr) -> ast.AST:
        """words.sort(key=...) as words[:] = the words, sorted."""
        call = node.value
        if isinstance(call, ast.Call) and isinstance(call.func, ast.Attribute) and call.func.attr == "sort":
            owner = call.func.value
            if isinstance(owner, ast.Name) and not call.args:
                self.generic_visit(call)
                key = next((one.value for one in call.keywords if one.arg == "key"), None)
                called = self._called(key, 1)
                is_seen = called is not None and self._may_be(owner.id, called.free)  # Python's is empty meanwhile
                made = None if is_seen else self._by_pairs("sorted", [owner], call.keywords)
                if made is not None:
                    place = ast.Subscript(ast.Name(owner.id, ast.Load()), ast.Slice(), ast.Store())
                    return ast.copy_location(ast.Assign([place], made), node)
                return node
        self.generic_visit(node)
        return node

    def visit_Call(self, node: ast.Call) -> ast.AST:
        """A builtin, or a join, that goes through a map or calls a key."""
        self.generic_visit(node)
        function = node.func
        name = function.id if isinstance(function, ast.Name) and function.id not in self._own else ""
        if name in _CONSUMERS or (isinstance(function, ast.Attribute) and function.attr == "join"):
            node.args = [self._as_list(one, may_stop=name in _EARLY) for one in node.args]
        if name in ("max", "min", "sorted"):
            made = self._by_pairs(name, node.args, node.keywords)
            return node if made is None else ast.copy_location(made, node)
        return node

    def _may_be(self, name: str, others: set[str]) -> bool:
        """Whether a variable is one of others, or was assigned from or to another variable."""
        return name in others or any(name in scope.aliases for scope in self._scopes)

    def _by_pairs(self, name: str, given: list[ast.expr], keywords: list[ast.keyword]) -> ast.expr | None:
        """The call with key= made before; None where there is no key that captures, or it is written otherwise."""
        options = {one.arg: one.value for one in keywords}
        called = self._called(options.pop("key", None), 1)
        if called is None or not given or any(isinstance(one, ast.Starred) for one in given):
            return None
        if options.keys() - ({"reverse"} if name == "sorted" else {"default"}):
            return None
        items = given[0] if len(given) == 1 else ast.Tuple(list(given), ast.Load())
        pair = ast.Tuple([ast.Name(called.targets[0], ast.Load()), called.body], ast.Load())
        pairs = _list_of(pair, called.targets, items)
        if name != "sorted":  # `extremes` knows this option
            others = [one for one in keywords if one.arg == "default"]
            return ast.Call(_name(name), [pairs], [*others, ast.keyword("_of_pairs", ast.Constant(0))])
        given_key = ast.keyword("key", ast.Lambda(_one_argument(_PAIR), _item_of(_PAIR, 1)))
        others = [one for one in keywords if one.arg == "reverse"]
        return _list_of(_item_of(_PAIR, 0), [_PAIR], ast.Call(_name(name), [pairs], [given_key, *others]))

    def _as_list(self, node: ast.expr, changed: set[str] = frozenset(), *, may_stop: bool) -> ast.expr:  # type: ignore[assignment]
        """The list that a map or filter of a function that captures gives; anything else as it is.

        changed: names that get other values before the last item is asked for.
        """
        if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Name) or node.keywords:
            return node
        name, count = node.func.id, len(node.args) - 1
        if name not in ("filter", "map") or name in self._own or any(isinstance(one, ast.Starred) for one in node.args):
            return node
        called = self._called(node.args[0], count) if count == 1 or (name == "map" and count > 1) else None
        used = {one.id for items in node.args[1:] for one in ast.walk(items) if isinstance(one, ast.Name)}
        if called is None or (called.free | used) & changed or (may_stop and self._may_emit(called.body)):
            return node
        items = node.args[1] if count == 1 else ast.Call(_name("zip"), node.args[1:], [])
        if count > 1 and "zip" in self._own:
            return node
        if name == "filter":
            made = _list_of(_name(called.targets[0]), called.targets, items, called.body)
        else:
            made = _list_of(called.body, called.targets, items)
        return ast.copy_location(made, node)

    def _called(self, function: ast.expr | None, count: int) -> _Called | None:
        """What a function, or one made inside by its name, does with `count` arguments, if it captures."""
        names = set().union(*(scope.names for scope in self._scopes))
        if isinstance(function, ast.Name) and self._scopes:
            function = self._scopes[-1].functions.get(function.id)
        if not isinstance(function, ast.Lambda) or not _is_plain(function.args):
            return None
        kept = {one.arg for one in function.args.args[len(function.args.args) - len(function.args.defaults) :]}
        targets, free = [one.arg for one in function.args.args if one.arg not in kept], _free(function) | kept
        return _Called(targets, function.body, free) if len(targets) == count and free & names else None

    def _may_emit(self, node: ast.expr) -> bool:
        """True if it calls a parameter, or a method of one that `emit` has, or a function made inside."""
        parameters = set().union(*self._parameters, *(scope.functions for scope in self._scopes))
        for call in ast.walk(node):
            if not isinstance(call, ast.Call):
                continue
            owner = (
                call.func.value if isinstance(call.func, ast.Attribute) and call.func.attr in _EFFECTS else call.func
            )
            if isinstance(owner, ast.Name) and owner.id in parameters:
                return True
        return False


def _list_of(item: ast.expr, targets: list[str], items: ast.expr, condition: ast.expr | None = None) -> ast.ListComp:
    names: list[ast.expr] = [ast.Name(one, ast.Store()) for one in targets]
    target = names[0] if len(names) == 1 else ast.Tuple(names, ast.Store())
    return ast.ListComp(item, [ast.comprehension(target, items, [condition] if condition else [], 0)])


def _name(name: str) -> ast.Name:
    return ast.Name(name, ast.Load())


def _item_of(name: str, place: int) -> ast.Subscript:
    return ast.Subscript(_name(name), ast.Constant(place), ast.Load())


def _one_argument(name: str) -> ast.arguments:
    return ast.arguments(posonlyargs=[], args=[ast.arg(name)], kwonlyargs=[], kw_defaults=[], defaults=[])


def _is_plain(arguments: ast.arguments) -> bool:
    """Whether there is nothing but arguments by place, and such as keep a variable of their name: lambda word, n=n."""
    if arguments.posonlyargs or arguments.kwonlyargs or arguments.vararg or arguments.kwarg:
        return False
    last = arguments.args[len(arguments.args) - len(arguments.defaults) :]
    pairs = zip(last, arguments.defaults, strict=True)
    return all(isinstance(default, ast.Name) and default.id == one.arg for one, default in pairs)


def _parameters(arguments: ast.arguments) -> set[str]:
    return {one.arg for one in (*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs)}


def _stored(node: ast.AST) -> set[str]:
    """The names that it gives a value, in whatever is inside it."""
    names = {one.id for one in ast.walk(node) if isinstance(one, ast.Name) and not isinstance(one.ctx, ast.Load)}
    return names | {one.name for one in ast.walk(node) if isinstance(one, ast.FunctionDef)}


def _changed(node: ast.AST) -> set[str]:
    """The names of lists and the like that it changes."""
    names = set()
    for one in ast.walk(node):
        is_method = isinstance(one, ast.Attribute) and one.attr in _CHANGING
        is_place = isinstance(one, ast.Subscript) and not isinstance(one.ctx, ast.Load)
        if (is_method or is_place) and isinstance(one.value, ast.Name):  # type: ignore[attr-defined]
            names.add(one.value.id)  # type: ignore[attr-defined]
    return names


def _free(function: ast.Lambda) -> set[str]:
    """The names that a function reads and does not give itself."""
    read = {one.id for one in ast.walk(function) if isinstance(one, ast.Name) and isinstance(one.ctx, ast.Load)}
    return read - _parameters(function.args) - _stored(function)


def _aliases_in(function: ast.AST) -> set[str]:
    """The variables that are assigned to each other: a = b."""
    found = set()
    for one in ast.walk(function):
        if isinstance(one, ast.Assign) and (isinstance(one.value, ast.Name) or len(one.targets) > 1):
            found |= {name.id for name in (*one.targets, one.value) if isinstance(name, ast.Name)}
    return found


def _functions_in(function: ast.FunctionDef | ast.Lambda) -> dict[str, ast.Lambda]:
    """By name, as lambdas, the functions of one expression that are made in a function and keep their name."""
    found: dict[str, ast.Lambda] = {}
    given: list[str] = []
    for one in ast.walk(function):
        if isinstance(one, ast.FunctionDef) and one is not function:
            given.append(one.name)
            last = one.body[-1]
            if len(one.body) == 1 and isinstance(last, ast.Return) and last.value and not one.decorator_list:
                found[one.name] = ast.Lambda(one.args, last.value)
        elif isinstance(one, ast.Name) and not isinstance(one.ctx, ast.Load):
            given.append(one.id)
        elif isinstance(one, ast.Assign) and isinstance(one.value, ast.Lambda):
            found |= {to.id: one.value for to in one.targets if isinstance(to, ast.Name)}
    return {name: one for name, one in found.items() if given.count(name) == 1}
