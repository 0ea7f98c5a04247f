"""Footers of Parquet files: row groups that were files of their own become those of one file, columns get statistics.

A footer is a struct of Thrift's compact protocol (https://github.com/apache/thrift/blob/master/doc/specs). Only places
in the file and the numbers of row groups change; all other bytes stay as the writer made them, so the result is what
one writer of all the row groups would have written.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, TypeAlias

MAGIC = b"PAR1"
_TAIL_BYTES = 8  # the footer's length and the magic
_INTEGERS, _BINARY, _LISTS, _STRUCT = (4, 5, 6), 8, (9, 10), 12
_FIXED_BYTES = {1: 0, 2: 0, 3: 1, 7: 8}  # true and false are in the field's head
_ROWS, _ROW_GROUPS = 3, 4
_COLUMNS, _ABOUT_CHUNK, _PATH, _STATISTICS = 1, 3, 3, 12

Change: TypeAlias = Callable[[int], int]
Changes: TypeAlias = Mapping[int, Any]
"""What happens to the fields of a struct, by their number: a Change of an integer, or Changes of a struct or list."""


def footer_start(file: memoryview) -> int:
    """Where the footer of a whole Parquet file begins: up to there, but for the magic at the start, lie its pages."""
    return len(file) - _TAIL_BYTES - int.from_bytes(file[-_TAIL_BYTES:-4], "little")


class Footers:
    """Takes the footers of files whose pages come one behind the other, and makes the one for all of them."""

    def __init__(self) -> None:
        self._first: tuple[bytes, list[tuple[int, int, int, int]]] | None = None
        self._groups: list[bytes] = []
        self.rows = 0

    @property
    def has_any(self) -> bool:
        """True once a footer was added."""
        return self._first is not None

    def add(self, footer: bytes, moved_bytes: int) -> None:
        """Take the footer of a file whose pages lie `moved_bytes` further on than in that file."""
        fields = list(_fields(footer, 0))
        if self._first is None:
            self._first = footer, fields
        for number, _, start, stop in fields:
            if number == _ROWS:
                self.rows += _integer(footer, start)[0]
            elif number == _ROW_GROUPS:
                self._groups += self._moved(footer, start, stop, moved_bytes)

    def _moved(self, footer: bytes, start: int, stop: int, moved_bytes: int) -> list[bytes]:
        """The row groups in the list at `start`, with new places and numbers."""
        groups: list[bytes] = []

        def shift(offset: int) -> int:
            return offset + moved_bytes

        def shift_unless_zero(offset: int) -> int:  # a column chunk's own place, which today's writers leave 0
            return shift(offset) if offset else 0

        def renumber(_: int) -> int:  # 16 bits, as other writers have it
            return (len(self._groups) + len(groups) + (1 << 15)) % (1 << 16) - (1 << 15)

        pages = {9: shift, 10: shift, 11: shift, 14: shift}  # data, index, dictionary pages; bloom filter
        group: Changes = {1: {2: shift_unless_zero, 3: pages, 4: shift, 6: shift}, 5: shift, 7: renumber}
        _, count, at = _list_head(footer, start)
        while len(groups) < count:
            out = bytearray()
            at = _copy_struct(footer, at, group, out)
            groups.append(bytes(out))
        assert at == stop
        return groups

    def joined(self) -> bytes:
        """The footer of all files that were added, of which there must be one; its length and the magic follow it."""
        assert self._first is not None
        footer, fields = self._first
        out, done = bytearray(), 0
        for number, _, start, stop in fields:
            out += footer[done:start]
            done = stop
            if number == _ROWS:
                _put_varint(self.rows << 1, out)
            elif number == _ROW_GROUPS:
                _put_list_head(_list_head(footer, start)[0], len(self._groups), out)
                out += b"".join(self._groups)
            else:
                out += footer[start:stop]
        out.append(0)  # the struct's end
        return footer_and_tail(bytes(out))


def statistics_of(nulls: int, least: bytes | None, greatest: bytes | None) -> bytes:
    """The Statistics of a column chunk: how many nulls, and the least and the greatest value if they are known."""
    out = bytearray([3 << 4 | 6])
    _put_varint(nulls << 1, out)
    if least is not None and greatest is not None:
        for head, value in ((2 << 4 | _BINARY, greatest), (1 << 4 | _BINARY, least)):
            out.append(head)
            _put_varint(len(value), out)
            out += value
        out += bytes([1 << 4 | 1] * 2)  # both are values, not bounds of them
    out.append(0)
    return bytes(out)


def with_statistics(footer: bytes, groups: Sequence[Mapping[str, bytes]]) -> bytes:
    """`footer`, without what follows it, and with the Statistics of these columns of each row group, which had none."""
    position = 0

    def chunk(data: bytes, start: int, stop: int, of: Mapping[str, bytes]) -> bytes:
        about = {n: (kind, data[a:b]) for n, kind, a, b in _fields(data, start)}
        _, inner = about[_ABOUT_CHUNK]
        held = {n: (kind, inner[a:b]) for n, kind, a, b in _fields(inner, 0)}
        path = held[_PATH][1]
        size, at = _varint(path, _list_head(path, 0)[2])
        name = path[at : at + size].decode()
        if name not in of:
            return data[start:stop]
        held[_STATISTICS] = _STRUCT, of[name]
        about[_ABOUT_CHUNK] = _STRUCT, _struct_of(held)
        return _struct_of(about)

    def group(data: bytes, start: int, stop: int) -> bytes:
        nonlocal position
        of, position = groups[position], position + 1
        fields = {n: (kind, data[a:b]) for n, kind, a, b in _fields(data, start)}
        kind, columns = fields[_COLUMNS]
        fields[_COLUMNS] = kind, _each(columns, lambda data, start, stop: chunk(data, start, stop, of))
        return _struct_of(fields)

    fields = {n: (kind, footer[a:b]) for n, kind, a, b in _fields(footer, 0)}
    kind, row_groups = fields[_ROW_GROUPS]
    fields[_ROW_GROUPS] = kind, _each(row_groups, group)
    return _struct_of(fields)


def footer_and_tail(footer: bytes) -> bytes:
    """What ends a file: the footer, its length and the magic."""
    return footer + len(footer).to_bytes(4, "little") + MAGIC


def _each(items: bytes, change: Callable[[bytes, int, int], bytes]) -> bytes:
    """A list of structs with each of them changed."""
    kind, count, at = _list_head(items, 0)
    out = bytearray(items[:at])
    for _ in range(count):
        stop = _copy_value(items, at, kind, None, bytearray())
        out += change(items, at, stop)
        at = stop
    return bytes(out)


def _struct_of(fields: Mapping[int, tuple[int, bytes]]) -> bytes:
    """A struct of these fields: number, kind and bytes of each."""
    out, before = bytearray(), 0
    for number, (kind, value) in sorted(fields.items()):
        if number - before < 16:
            out.append(number - before << 4 | kind)
        else:
            out.append(kind)
            _put_varint(number << 1, out)
        out += value
        before = number
    out.append(0)
    return bytes(out)


def _fields(data: bytes, at: int) -> Iterator[tuple[int, int, int, int]]:
    """The fields of the struct at `at`: number, kind, where the value begins and ends."""
    number = 0
    while data[at]:
        number, kind, at = _field_head(data, at, number)
        stop = _copy_value(data, at, kind, None, bytearray())
        yield number, kind, at, stop
        at = stop


def _field_head(data: bytes, at: int, before: int) -> tuple[int, int, int]:
    """The number and kind of the field at `at`, which comes after number `before`, and where its value begins."""
    head = data[at]
    if head >> 4:
        return before + (head >> 4), head & 15, at + 1
    number, at = _integer(data, at + 1)
    return number, head & 15, at


def _copy_struct(data: bytes, at: int, changes: Changes, out: bytearray) -> int:
    """Copy the struct at `at` with changes; returns where it ends."""
    number = 0
    while data[at]:
        start = at
        number, kind, at = _field_head(data, at, number)
        out += data[start:at]
        at = _copy_value(data, at, kind, changes.get(number), out)
    out.append(0)
    return at + 1


def _copy_value(data: bytes, at: int, kind: int, change: Any, out: bytearray) -> int:
    """Copy a value of that kind with its change, if there is one; returns where it ends."""
    start = at
    if kind in _INTEGERS:
        value, at = _integer(data, at)
        if change is not None:
            changed = change(value)
            _put_varint(changed << 1 if changed >= 0 else (-changed << 1) - 1, out)
            return at
    elif kind == _BINARY:
        size, at = _varint(data, at)
        at += size
    elif kind in _LISTS:
        item, count, at = _list_head(data, at)
        out += data[start:at]
        for _ in range(count):
            at = at + 1 if item in (1, 2) else _copy_value(data, at, item, change, out)
        if item in (1, 2):
            out += data[at - count : at]
        return at
    elif kind == _STRUCT:
        return _copy_struct(data, at, change or {}, out)
    else:
        at += _FIXED_BYTES[kind]  # a map would be a KeyError: Parquet has none
    out += data[start:at]
    return at


def _list_head(data: bytes, at: int) -> tuple[int, int, int]:
    """The kind and number of a list's items, and where they begin."""
    head = data[at]
    if head >> 4 < 15:
        return head & 15, head >> 4, at + 1
    count, at = _varint(data, at + 1)
    return head & 15, count, at


def _put_list_head(kind: int, count: int, out: bytearray) -> None:
    out.append(min(count, 15) << 4 | kind)
    if count >= 15:
        _put_varint(count, out)


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[at]
        value |= (byte & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if byte < 0x80:
            return value, at


def _integer(data: bytes, at: int) -> tuple[int, int]:
    """A signed integer, and where it ends."""
    value, at = _varint(data, at)
    return value >> 1 ^ -(value & 1), at


def _put_varint(value: int, out: bytearray) -> None:
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
