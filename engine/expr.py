"""Expr: a column expression as users write it. It holds a frozen node; verbs check it against a schema.

`col("n") + 1 > 3` builds nodes and computes nothing. Comparing two Expr gives an Expr, not a truth value.
"""

from __future__ import annotations

import builtins
import difflib
import math
import sys
from collections.abc import Callable, Iterable
from typing import Any, NoReturn, overload

import pyarrow as pa

from kernelmill.engine.aggregations import Aggregations
from kernelmill.engine.errors import Code, error
from kernelmill.engine.literals import literal, members, scalar_of
from kernelmill.engine.namespaces import DateTimeNamespace, StringNamespace
from kernelmill.engine.nestednamespaces import ListNamespace, StructNamespace
from kernelmill.engine.node_text import node_text
from kernelmill.engine.nodes import Aggregate, Alias, Call, Cast, Column, Literal, MapValues, Node
from kernelmill.engine.options import column_name, whole_number
from kernelmill.engine.origin import located, users_line
from kernelmill.engine.schema import dtype_text, parse_dtype
from kernelmill.engine.userfunctions import user_function

Option = str | int | float | bool | None
# What other libraries call it -> what it is called here
_FOREIGN = {
    **{"isnull": "is_null", "isna": "is_null", "notnull": "is_not_null", "notna": "is_not_null", "isin": "is_in"},
    **{"astype": "cast", "fillna": "fill_null", "name": "alias", "between": "is_between", "average": "mean"},
    **{"avg": "mean", "apply": "map_batches", "isNull": "is_null", "isNotNull": "is_not_null", "ln": "log"},
    **{"nunique": "n_unique", "stddev": "std", "variance": "var", "arg_max": "max_by", "arg_min": "min_by"},
    **{"length": "len", "size": "len", "maximum": "max", "minimum": "min", "desc": "sort(..., descending=True)"},
}


class Expr(Aggregations):
    """Build a column from others: `km.col("n") * 2`. Immutable; types are checked by the verb that takes it."""

    __slots__ = ("node",)
    node: Node

    def __init__(self, node: Node) -> None:
        object.__setattr__(self, "node", node)

    @property
    def nodes(self) -> tuple[Node, ...]:
        """Its node, as a tuple: what a verb takes from one expression or several."""
        return (self.node,)

    # Operators -------------------------------------------------------------------------------------------------------

    def __add__(self, other: object) -> Expr:
        return self._with("add", other)

    def __radd__(self, other: object) -> Expr:
        return self._after("add", other)

    def __sub__(self, other: object) -> Expr:
        return self._with("sub", other)

    def __rsub__(self, other: object) -> Expr:
        return self._after("sub", other)

    def __mul__(self, other: object) -> Expr:
        return self._with("mul", other)

    def __rmul__(self, other: object) -> Expr:
        return self._after("mul", other)

    def __truediv__(self, other: object) -> Expr:
        return self._with("truediv", other)

    def __rtruediv__(self, other: object) -> Expr:
        return self._after("truediv", other)

    def __floordiv__(self, other: object) -> Expr:
        return self._with("floordiv", other)

    def __rfloordiv__(self, other: object) -> Expr:
        return self._after("floordiv", other)

    def __mod__(self, other: object) -> Expr:
        return self._with("mod", other)

    def __rmod__(self, other: object) -> Expr:
        return self._after("mod", other)

    def __pow__(self, other: object) -> Expr:
        return self._with("pow", other)

    def __rpow__(self, other: object) -> Expr:
        return self._after("pow", other)

    def __neg__(self) -> Expr:
        return self._call("neg")

    def __pos__(self) -> Expr:
        return self

    def __abs__(self) -> Expr:
        return self.abs()

    def __eq__(self, other: object) -> Expr:  # type: ignore[override]
        return self._with("eq", other)

    def __ne__(self, other: object) -> Expr:  # type: ignore[override]
        return self._with("ne", other)

    def __lt__(self, other: object) -> Expr:
        return self._with("lt", other)

    def __le__(self, other: object) -> Expr:
        return self._with("le", other)

    def __gt__(self, other: object) -> Expr:
        return self._with("gt", other)

    def __ge__(self, other: object) -> Expr:
        return self._with("ge", other)

    def __and__(self, other: object) -> Expr:
        return self._with("and", other)

    def __rand__(self, other: object) -> Expr:
        return self._after("and", other)

    def __or__(self, other: object) -> Expr:
        return self._with("or", other)

    def __ror__(self, other: object) -> Expr:
        return self._after("or", other)

    def __xor__(self, other: object) -> Expr:
        return self._with("xor", other)

    def __rxor__(self, other: object) -> Expr:
        return self._after("xor", other)

    def __invert__(self) -> Expr:
        return self._call("not")

    def __bool__(self) -> NoReturn:
        hint = "write & for and, | for or, ~ for not, with parentheses: (a > 1) & (b < 2); .is_in([...]) for in"
        raise error(
            Code.AMBIGUOUS_TRUTH,
            f"{node_text(self.node)} has a value for each row: it is neither true nor false",
            where=users_line(),
            hint=hint,
        )

    def __iter__(self) -> NoReturn:
        raise TypeError(f"{node_text(self.node)} cannot be iterated: it is an expression, not a column's values")

    def __contains__(self, item: object) -> NoReturn:
        self.__bool__()

    def __hash__(self) -> int:
        return hash(self.node)

    def __repr__(self) -> str:
        return node_text(self.node)

    def __setattr__(self, name: str, value: object) -> NoReturn:
        raise AttributeError(f"expressions do not change: {name} cannot be set")

    def __getattr__(self, name: str) -> NoReturn:
        if name.startswith("_"):  # copy, pickle and notebooks ask for many of these, and must hear a plain no
            raise AttributeError(name)
        raise unknown_member("an expression", name, dir(Expr), _FOREIGN)

    def __reduce__(self) -> tuple[type[Expr], tuple[Node]]:
        return Expr, (self.node,)

    # All types -------------------------------------------------------------------------------------------------------

    def alias(self, name: str) -> Expr:
        """Give the column the name `name`."""
        return Expr(Alias(self.node, column_name(name)))

    def cast(self, dtype: object, *, strict: bool = True) -> Expr:
        """Turn values into `dtype`; one that does not fit is a bad value (KM0207), or null if not `strict`.

        A number beyond the range of a float type becomes an infinity, as IEEE 754 rounds it.
        """
        with located(users_line()):
            return Expr(Cast(self.node, parse_dtype(dtype), bool(strict)))

    def is_null(self) -> Expr:
        """Tell where there is no value. NaN is a value."""
        return self._call("is_null")

    def is_not_null(self) -> Expr:
        """Tell where there is a value."""
        return self._call("is_not_null")

    def fill_null(self, value: object) -> Expr:
        """Put `value`, a literal or an expression, where there is none."""
        return self._with("fill_null", value)

    def is_in(self, values: Iterable[object]) -> Expr:
        """Tell where the value is one of `values`; null for null, and a null among `values` matches nothing."""
        given: object = values
        if isinstance(given, builtins.str | bytes | Expr) or not isinstance(given, Iterable):
            raise _bad(f"is_in({values!r}) needs a list of values", "is_in([1, 2, 3])")
        return Expr(Call("is_in", (self.node, members(map(_plain, values)))))

    def is_between(self, lower: object, upper: object, closed: str = "both") -> Expr:
        """Tell where `lower <= value <= upper`; `closed`, one of both left right none, says which ends belong."""
        if closed not in ("both", "left", "right", "none"):
            raise _bad(f"is_between(closed={closed!r})", "one of both, left, right, none")
        above = self >= lower if closed in ("both", "left") else self > lower
        below = self <= upper if closed in ("both", "right") else self < upper
        return above & below

    def eq_missing(self, other: object) -> Expr:
        """Compare for equality, with null equal to null and to nothing else."""
        return self._with("eq_missing", other)

    def ne_missing(self, other: object) -> Expr:
        """Compare for inequality, with null equal to null and to nothing else."""
        return self._with("ne_missing", other)

    def hash(self, *others: object, seed: int = 0) -> Expr:
        """Hash the value, or those of several columns of a row: uint64, the same in every run and release.

        XXH64 under `seed` of the bytes in docs/design/partition-hash.md: of text and bytes its own, of numbers 8 bytes,
        so that equal integers of all widths agree. Each of `others` is hashed under the hash so far. Null has one, too.
        """
        whole_number("seed", seed, 0, (1 << 64) - 1)
        nodes = (self.node, *(as_node(other, column=True) for other in others))
        return Expr(Call("hash", nodes, (("seed", seed),)))

    def map_batches(self, function: Callable[[pa.Array[Any]], Any], return_dtype: object = None) -> Expr:
        """Call `function` with the values of each batch, a pyarrow.Array; it returns as many, in any array.

        It must work value by value, for where batches end is free, and it runs in several threads. return_dtype: the
        type of what it returns, by default that of the values. KM0301 if it raises, or returns anything else.
        """
        with located(users_line()):
            called = user_function(function, "map_batches", positional=1)
            dtype = None if return_dtype is None else parse_dtype(return_dtype)
        return Expr(MapValues(self.node, called, dtype))

    # Numbers ---------------------------------------------------------------------------------------------------------

    def abs(self) -> Expr:
        """Drop the sign; KM0208 for the least integer, which has no opposite."""
        return self._call("abs")

    def round(self, decimals: int = 0) -> Expr:
        """Round half to even to `decimals` places; negative ones round to tens, hundreds..."""
        return self._call("round", decimals=whole_number("decimals", decimals))

    def floor(self) -> Expr:
        """Round down."""
        return self._call("floor")

    def ceil(self) -> Expr:
        """Round up."""
        return self._call("ceil")

    def sqrt(self) -> Expr:
        """Take the square root; NaN of a negative number."""
        return self._call("sqrt")

    def exp(self) -> Expr:
        """Raise e to the value."""
        return self._call("exp")

    def log(self, base: float = math.e) -> Expr:
        """Take the logarithm to `base`; -inf of zero, NaN of a negative number."""
        if not _is_positive(base):
            raise _bad(f"log(base={base!r})", "a number above 0")
        return self._call("log", base=float(base))

    def clip(self, lower_bound: object = None, upper_bound: object = None) -> Expr:
        """Replace what is below `lower_bound` or above `upper_bound` by that bound; None is no bound."""
        low = self if lower_bound is None else self._with("clip_min", lower_bound)
        return low if upper_bound is None else low._with("clip_max", upper_bound)

    def is_nan(self) -> Expr:
        """Tell where a float is not a number; null for null."""
        return self._call("is_nan")

    def is_finite(self) -> Expr:
        """Tell where a number is neither infinite nor NaN; null for null."""
        return self._call("is_finite")

    def fill_nan(self, value: object) -> Expr:
        """Put `value` (None: null) where a float is NaN."""
        return self._with("fill_nan", value)

    # Namespaces ------------------------------------------------------------------------------------------------------

    @property
    def str(self) -> StringNamespace:
        """Work on text: `.str.len_chars()`, `.str.tokenize()`..."""
        return StringNamespace(self)

    @property
    def dt(self) -> DateTimeNamespace:
        """Work on dates and timestamps: `.dt.year()`..."""
        return DateTimeNamespace(self)

    @property
    def list(self) -> ListNamespace:
        """Work on lists: `.list.len()`..."""
        return ListNamespace(self)

    @property
    def struct(self) -> StructNamespace:
        """Work on structs: `.struct.field("name")`."""
        return StructNamespace(self)

    def _of(self, node: Node) -> Expr:
        return Expr(node)

    def _operand(self, value: object) -> Node:
        return as_node(value, column=True)

    def _call(self, function: builtins.str, /, *others: object, **options: Option) -> Expr:
        nodes = (self.node, *(as_node(other) for other in others))
        return Expr(Call(function, nodes, tuple(options.items())))

    def _with(self, function: builtins.str, other: object) -> Expr:
        return Expr(Call(function, (self.node, as_node(other))))

    def _after(self, function: builtins.str, other: object) -> Expr:
        return Expr(Call(function, (as_node(other), self.node)))


class Columns(tuple[Expr, ...]):
    """Several columns, as `col("a", "b")` gives them; a method called on it is called on each."""

    __slots__ = ()

    def __getattr__(self, name: str) -> Callable[..., Columns]:
        if name.startswith("_"):
            raise AttributeError(name)
        if not callable(getattr(Expr, name, None)):
            raise unknown_member("several columns", name, dir(Expr), _FOREIGN)
        return lambda *args, **options: Columns(getattr(column, name)(*args, **options) for column in self)


class When:
    """Say what comes where the test is true: `.then(value)`."""

    __slots__ = ("_branches", "_test")

    def __init__(self, test: object, branches: tuple[tuple[Node, Node], ...] = ()) -> None:
        self._test, self._branches = as_node(test), branches

    def then(self, value: object) -> Then:
        """Take `value`, a literal or an expression, where the test is true."""
        return Then((*self._branches, (self._test, as_node(value))))


class Then(Expr):
    """An expression, null where no test was true; `.otherwise(value)` says what comes there, `.when()` tests on."""

    __slots__ = ("_branches",)
    _branches: tuple[tuple[Node, Node], ...]

    def __init__(self, branches: tuple[tuple[Node, Node], ...]) -> None:
        object.__setattr__(self, "_branches", branches)
        super().__init__(_nested(branches, literal(None)))

    def when(self, predicate: object) -> When:
        """Test `predicate` where no test before was true."""
        return When(predicate, self._branches)

    def otherwise(self, value: object) -> Expr:
        """Take `value`, a literal or an expression, where no test was true."""
        return Expr(_nested(self._branches, as_node(value)))


@overload
def col(name: str, /) -> Expr: ...
@overload
def col(name: str, second: str, /, *more: str) -> Columns: ...
def col(*names: str) -> Expr | Columns:
    """Name a column: `col("word")`; several names give several columns where a verb takes them."""
    if not names or not all(isinstance(name, str) for name in names):
        raise _bad(f"col({', '.join(map(repr, names))}) needs names", 'col("word")')
    columns = Columns(Expr(Column(name)) for name in names)
    return columns[0] if builtins.len(columns) == 1 else columns


def lit(value: object, dtype: object = None) -> Expr:
    """Make a column of one value; without `dtype` it takes the type of what it meets, if it fits."""
    if dtype is None:
        return Expr(literal(value))
    with located(users_line()):
        target = parse_dtype(dtype)
    try:
        plain = value if isinstance(value, pa.Scalar) else scalar_of(value)
        return Expr(Literal(plain.cast(target) if plain.type != target else plain))
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError, pa.ArrowTypeError, OverflowError) as exc:
        raise _bad(
            f"lit({value!r:.80}) is no {dtype_text(target)}: {exc}", "a value of that type, or another type"
        ) from exc


def when(predicate: object) -> When:
    """Choose by a test: `when(col("n") > 3).then("many").otherwise("few")`; a null test counts as false."""
    return When(predicate)


def len() -> Expr:
    """Count the rows of a group: int64, named `len`."""
    return Expr(Aggregate("len", None))


def as_node(value: object, *, column: bool = False) -> Node:
    """The node of an Expr, or of a Python value: a literal; a string is a column's name where `column` is set."""
    if isinstance(value, Expr):
        return value.node
    if column and isinstance(value, str):
        return Column(value)
    return literal(value)


def unknown_member(owner: str, name: str, known: Iterable[str], foreign: dict[str, str]) -> Exception:
    """KM0106 for `name`, which `owner` does not have; the hint names the closest of `known`, or what it is here."""
    public = sorted(other for other in known if not other.startswith("_"))
    close = [foreign[name]] if name in foreign else difflib.get_close_matches(name, public, n=1)
    hint = f"did you mean {close[0]!r}?" if close else f"there are: {', '.join(public)}"
    return error(Code.UNKNOWN_NAME, f"{owner} has no {name!r}", where=users_line(), hint=hint)


def _plain(value: object) -> object:
    return value.node.value if isinstance(value, Expr) and isinstance(value.node, Literal) else value


def _nested(branches: tuple[tuple[Node, Node], ...], last: Node) -> Node:
    for test, value in reversed(branches):
        last = Call("if_else", (test, value, last))
    return last


def _is_positive(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 < value <= sys.float_info.max


def _bad(what: str, hint: str) -> Exception:
    return error(Code.BAD_SETTING, what, where=users_line(), hint=hint)
