"""The tables of the join questions are what their formulas say, and rows are compared whatever their order."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from bench.jointables import write_join_tables
from bench.outputs import row_facts
from bench.peers.joinquestions import COLUMNS, QUESTIONS


def test_nine_in_ten_keys_are_on_both_sides_and_each_is_there(tmp_path: Path) -> None:
    facts = write_join_tables(tmp_path / "join", rows=20_000, seed=1)
    tables = {name: pq.read_table(tmp_path / "join" / f"{name}.parquet") for name in COLUMNS}
    assert {name: table.num_rows for name, table in tables.items()} == {
        "x": 20_000,
        "small": 10,
        "medium": 20,
        "big": 20_000,
    }
    assert facts["big"]["rows"] == 20_000
    assert all(set(table.column_names) == set(COLUMNS[name]) for name, table in tables.items())
    left, right = (set(tables[name]["id3"].to_pylist()) for name in ("x", "big"))
    assert len(left) == len(right) == 20_000 and len(left & right) == 18_000
    texts = pc.binary_join_element_wise("id", tables["x"]["id3"].cast(pa.string()), "")
    assert texts.equals(tables["x"]["id6"])
    assert all(question.key in COLUMNS[question.right] for question in QUESTIONS.values())


def test_facts_of_rows_know_no_order_and_every_value(tmp_path: Path) -> None:
    def facts(name: str, **columns: list[object]) -> dict[str, object]:
        pq.write_table(pa.table(columns), tmp_path / name, compression="snappy")
        return row_facts(tmp_path / name)

    first = facts("a.parquet", a=[1, 2], b=["x", None])
    assert facts("b.parquet", b=[None, "x"], a=[2, 1]) == first
    assert facts("c.parquet", a=[1, 2], b=[None, "x"]) != first
    assert facts("d.parquet", a=[1, 2, 2], b=["x", None, None])["rows"] == 3
