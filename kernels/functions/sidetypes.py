"""The numba types of side data, and how a value of each is read from the driver's words (kernels/sidetables).

A Side is what a driver passes on: the address of the words, and the arena that texts of side data write new text to.
"""
# mypy: allow-untyped-defs, allow-untyped-calls, allow-incomplete-defs

from __future__ import annotations

import ast
from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.core.types.common import SimpleIteratorType
from numba.core.typing.templates import AttributeTemplate, infer_getattr
from numba.extending import intrinsic, lower_getattr_generic, models, register_model
from numba.np.arrayobj import populate_array

from kernelmill.kernels.sidekinds import Kind
from kernelmill.kernels.sidevalues import SideRef
from kernelmill.kernels.text.pointers import BYTES, WORDS
from kernelmill.kernels.text.texttype import TEXT

ITEMS = {"text": TEXT, "int64": types.int64, "float64": types.float64, "boolean": types.boolean}
_WORD = ir.IntType(64)


class SideType(types.Type):
    """What the first parameter of a bound function is."""

    def __init__(self) -> None:
        super().__init__(name="Side")


SIDE = SideType()


class SideIterableType(types.IterableType):
    """Side data that can be iterated over; `yields` is what it gives."""

    yields: Any = None

    @property
    def iterator_type(self):
        """The numba type of its iterator."""
        return SideIteratorType(self)


class SideIteratorType(SimpleIteratorType):
    """An iterator over side data: a place in it."""

    def __init__(self, source: Any) -> None:
        self.source = source
        super().__init__(f"iter({source.name})", source.yields)


class SideListType(SideIterableType):
    """A list, tuple or column: `item` text int64 float64 boolean, with ? if None may be among it."""

    def __init__(self, item: str) -> None:
        self.item, self.nullable = item.rstrip("?"), item.endswith("?")
        self.bare = ITEMS[self.item]
        self.yields = types.Optional(self.bare) if self.nullable else self.bare
        super().__init__(name=f"SideList({item})")


class SideSetType(types.Type):
    """A set: `key_kind` text int64, or none where it is empty."""

    def __init__(self, key: str) -> None:
        self.key_kind = key
        super().__init__(name=f"SideSet({key})")


class SideDictType(SideIterableType):
    """A dict: a set of its keys, and keys and values as lists."""

    def __init__(self, key: str, value: str) -> None:
        self.key_kind, self.set_type = key, SideSetType(key)
        self.keys_type = SideListType("int64" if key == "none" else key)
        self.values_type = SideListType(value)
        self.yields = self.keys_type.yields
        super().__init__(name=f"SideDict({key}, {value})")


class SideViewType(SideIterableType):
    """What keys(), values() and items() of a dict give: `part` is one of these names."""

    def __init__(self, of_dict: SideDictType, part: str) -> None:
        self.of_dict, self.part = of_dict, part
        key, value = of_dict.keys_type.yields, of_dict.values_type.yields
        self.yields = {"keys": key, "values": value, "items": types.Tuple((key, value))}[part]
        super().__init__(name=f"{of_dict.name}.{part}")


class SideTableType(types.Type):
    """Columns by their names, as lists; columns of types that code cannot read are in `unread` with these."""

    def __init__(self, columns: tuple[tuple[str, str], ...]) -> None:
        self.given = columns
        self.numbers = {name: number for number, (name, item) in enumerate(columns) if item[0] != "!"}
        self.unread = {name: item[1:] for name, item in columns if item[0] == "!"}
        super().__init__(name=f"SideTable({columns})")

    def column(self, name: str) -> SideListType:
        """The type of a column that can be read."""
        return SideListType(dict(self.given)[name])


@register_model(SideType)
class _SideModel(models.StructModel):
    def __init__(self, manager, of_type):
        super().__init__(manager, of_type, [("words", WORDS), ("arena", WORDS)])


@register_model(SideListType)
class _ListModel(models.StructModel):
    def __init__(self, manager, of_type):
        members = [
            ("data", BYTES), ("offsets", WORDS), ("validity", BYTES), ("count", types.int64),
            ("is_ascii", types.boolean), ("arena", WORDS),
        ]  # fmt: skip
        super().__init__(manager, of_type, members)


@register_model(SideSetType)
class _SetModel(models.StructModel):
    def __init__(self, manager, of_type):
        members = [
            ("slots", BYTES), ("mask", types.uint64), ("rows", BYTES), ("long_keys", BYTES), ("seed", types.uint64),
            ("count", types.int64), ("arena", WORDS),
        ]  # fmt: skip
        super().__init__(manager, of_type, members)


@register_model(SideDictType)
class _DictModel(models.StructModel):
    def __init__(self, manager, of_type):
        members = [("table", of_type.set_type), ("keys", of_type.keys_type), ("values", of_type.values_type)]
        super().__init__(manager, of_type, members)


@register_model(SideViewType)
class _ViewModel(models.StructModel):
    def __init__(self, manager, of_type):
        super().__init__(manager, of_type, [("of", of_type.of_dict)])


@register_model(SideTableType)
class _TableModel(models.StructModel):
    def __init__(self, manager, of_type):
        columns = [(f"column{number}", of_type.column(name)) for name, number in of_type.numbers.items()]
        super().__init__(manager, of_type, [("count", types.int64), *columns])


@register_model(SideIteratorType)
class _IteratorModel(models.StructModel):
    def __init__(self, manager, of_type):
        members = [("source", of_type.source), ("next", types.EphemeralPointer(types.int64))]
        super().__init__(manager, of_type, members)


@intrinsic
def side_of(typingctx, address, arena):
    """The Side of words at an address, and of an arena's state."""

    def codegen(context, builder, sig, args):
        made = cgutils.create_struct_proxy(SIDE)(context, builder)
        made.words = builder.inttoptr(args[0], _WORD.as_pointer())
        made.arena = context.make_array(sig.args[1])(context, builder, args[1]).data
        return made._getvalue()

    return SIDE(types.int64, arena), codegen


# Values from words ---------------------------------------------------------------------------------------------------


def type_of(kind: Kind) -> Any:
    """The numba type of side data of a kind."""
    match kind:
        case ("set", key):
            return SideSetType(key)
        case ("dict", key, value):
            return SideDictType(key, value)
        case ("list", item):
            return SideListType(item)
        case ("array", dtype, dimensions):
            element = types.boolean if dtype == "bool" else ITEMS[dtype]
            return types.Array(element, dimensions, "C", readonly=True)
        case ("table", columns):
            return SideTableType(columns)
    return ITEMS[kind[1]]


def attribute_of(ref: SideRef) -> str:
    """The attribute of a Side that is the value which a SideRef stands for."""
    return repr((ref.number, ref.kind))


def _of_attribute(attribute: str) -> tuple[int, Any]:
    """The first word and the type behind such an attribute."""
    number, kind = ast.literal_eval(attribute)
    return number, type_of(kind)


@infer_getattr
class _SideAttributes(AttributeTemplate):
    key = SideType

    def generic_resolve(self, side, attr):  # type: ignore[override]
        """The type of a side value."""
        return _of_attribute(attr)[1]


@lower_getattr_generic(SideType)
def _read(context, builder, of_type, value, attribute):
    number, wanted = _of_attribute(attribute)
    side = cgutils.create_struct_proxy(SIDE)(context, builder, value=value)
    return _Words(context, builder, side, number).value(wanted)


class _Words:
    """Takes words one by one."""

    def __init__(self, context: Any, builder: Any, side: Any, number: int) -> None:
        self._context, self._builder, self._side, self._next = context, builder, side, number

    def value(self, of_type: Any) -> Any:
        """The next value, which is of this type."""
        match of_type:
            case SideListType():
                return self._list(of_type)
            case SideSetType():
                return self._set(of_type)
            case SideDictType():
                made = self._struct(of_type)
                made.table, made.keys = self._set(of_type.set_type), self._list(of_type.keys_type)
                made.values = self._list(of_type.values_type)
                return made._getvalue()
            case types.Array():
                return self._array(of_type)
            case SideTableType():
                return self._table(of_type)
        word = self._word()
        return self._builder.bitcast(word, ir.DoubleType()) if of_type == types.float64 else word

    def _struct(self, of_type: Any) -> Any:
        return cgutils.create_struct_proxy(of_type)(self._context, self._builder)

    def _word(self) -> Any:
        place = self._builder.gep(self._side.words, [ir.Constant(_WORD, self._next)])
        self._next += 1
        return self._builder.load(place)

    def _pointer(self, bits: int = 8) -> Any:
        return self._builder.inttoptr(self._word(), ir.IntType(bits).as_pointer())

    def _list(self, of_type: Any) -> Any:
        made = self._struct(of_type)
        made.data, made.offsets, made.validity = self._pointer(), self._pointer(64), self._pointer()
        made.count = self._word()
        made.is_ascii = self._context.cast(self._builder, self._word(), types.int64, types.boolean)
        made.arena = self._side.arena
        return made._getvalue()

    def _set(self, of_type: Any) -> Any:
        made = self._struct(of_type)
        made.slots, made.mask, made.rows = self._pointer(), self._word(), self._pointer()
        made.long_keys, made.seed, made.count = self._pointer(), self._word(), self._word()
        made.arena = self._side.arena
        return made._getvalue()

    def _array(self, of_type: Any) -> Any:
        context, builder = self._context, self._builder
        element = context.get_data_type(of_type.dtype)
        data = builder.inttoptr(self._word(), element.as_pointer())
        shape = [self._word() for _ in range(of_type.ndim)]
        itemsize = ir.Constant(_WORD, context.get_abi_sizeof(element))
        strides = [itemsize]
        for size in reversed(shape[1:]):
            strides.insert(0, builder.mul(strides[0], size))
        array = context.make_array(of_type)(context, builder)
        populate_array(array, data, shape, strides, itemsize, meminfo=None)
        return array._getvalue()

    def _table(self, of_type: Any) -> Any:
        made = self._struct(of_type)
        made.count = self._word()
        for number, (name, item) in enumerate(of_type.given):
            if item[0] != "!":
                setattr(made, f"column{number}", self._list(of_type.column(name)))
        return made._getvalue()
