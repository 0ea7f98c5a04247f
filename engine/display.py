"""Tables and plans for people: aligned text for terminals, plain HTML without scripts for notebooks."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from typing import Any

import pyarrow as pa

from kernelmill.engine.cells import cell_text
from kernelmill.engine.pyvalues import python_values
from kernelmill.engine.schema import dtype_text

COLUMNS_MAX = 12


def table_text(table: pa.Table, *, footer: str = "") -> str:
    """The rows of `table` under their columns' names and types, numbers to the right; all its rows are shown."""
    names, shown = _shown(table)
    cells = [_cells(table.column(index)) if index is not None else ["…"] * table.num_rows for index in shown]
    types = ["" if index is None else dtype_text(table.schema.field(index).type) for index in shown]
    right = [index is not None and _is_number(table.schema.field(index).type) for index in shown]
    lines = [""] * (table.num_rows + 2)
    for name, kind, column, to_right in zip(names, types, cells, right, strict=True):
        rows = [name, kind, *column]
        width = max(_width(cell) for cell in rows)
        for number, cell in enumerate(rows):
            pad = " " * (width - _width(cell))
            lines[number] += (pad + cell if to_right else cell + pad) + "  "
    return "\n".join([*(line.rstrip() for line in lines), *([footer] if footer else [])])


def table_html(table: pa.Table, *, footer: str = "") -> str:
    """The rows of `table` as an HTML table; everything that came from data is escaped."""
    import html  # its names of characters are dear to load, and jobs never need them

    names, shown = _shown(table)
    cells = [_cells(table.column(index)) if index is not None else ["…"] * table.num_rows for index in shown]
    types = ["" if index is None else dtype_text(table.schema.field(index).type) for index in shown]
    head = "".join(
        f"<th>{html.escape(name)}<br><small>{html.escape(kind)}</small></th>"
        for name, kind in zip(names, types, strict=True)
    )
    body = "".join(
        "<tr>" + "".join(f"<td>{html.escape(cell)}</td>" for cell in row) + "</tr>" for row in zip(*cells, strict=True)
    )
    foot = f"<p><small>{html.escape(footer)}</small></p>" if footer else ""
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>{foot}"


def plan_html(schema: pa.Schema, plan: str) -> str:
    """A frame that has not run: its columns and its plan."""
    import html

    columns = ", ".join(f"{item.name}: {dtype_text(item.type)}" for item in schema)
    return f"<p>LazyFrame [{html.escape(columns)}]</p><pre>{html.escape(plan)}</pre>"


def _cells(column: pa.ChunkedArray[Any]) -> list[str]:
    return [cell_text(value) for value in python_values(column)]


def _shown(table: pa.Table) -> tuple[list[str], Sequence[int | None]]:
    """The columns to show, by number; None stands for those in the middle of a wide table."""
    count = table.num_columns
    if count <= COLUMNS_MAX:
        return [cell_text(name) for name in table.column_names], list(range(count))
    half = COLUMNS_MAX // 2
    shown = [*range(half), None, *range(count - half, count)]
    return ["…" if index is None else cell_text(table.column_names[index]) for index in shown], shown


def _is_number(kind: pa.DataType) -> bool:
    return pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind)


def _width(text: str) -> int:
    """Columns of a terminal that `text` takes: two for wide characters, none for marks that combine."""
    if text.isascii():
        return len(text)
    return sum(0 if unicodedata.combining(c) else 2 if unicodedata.east_asian_width(c) in "WF" else 1 for c in text)
