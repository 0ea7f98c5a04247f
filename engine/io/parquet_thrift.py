"""Footers of Parquet files put together: row groups that were written as files of their own become those of one file.

A footer is a struct of Thrift's compact protocol (https://github.com/apache/thrift/blob/master/doc/specs). Only places
in the file and the numbers of row groups change; all other bytes stay as the writer made them, so the result is what
one writer of all the row groups would have written.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeAlias

MAGIC = b"PAR1"
_TAIL_BYTES = 8  # the footer's length and the magic
_INTEGERS, _BINARY, _LISTS, _STRUCT = (4, 5, 6), 8, (9, 10), 12
_FIXED_BYTES = {1: 0, 2: 0, 3: 1, 7: 8}  # true and false are in the field's head
_ROWS, _ROW_GROUPS = 3, 4

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
        return bytes(out) + len(out).to_bytes(4, "little") + MAGIC


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
