"""Small tables of TPC-H's shape, from the specification's formulas, for tests: the real ones are `tpchgen-cli`'s.

Texts are simpler, and what the queries ask for comes more often than the specification has it (parts of the kinds of
q17, q19 and q20, orders of more than 300 pieces), so that every query finds rows in few lines.
"""

from __future__ import annotations

from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from bench.tpch.tables import describe

Numbers = np.ndarray[Any, Any]

REGIONS = ("AFRICA", "AMERICA", "ASIA", "EUROPE", "MIDDLE EAST")
NATIONS = {
    **{"ALGERIA": 0, "ARGENTINA": 1, "BRAZIL": 1, "CANADA": 1, "EGYPT": 4, "ETHIOPIA": 0, "FRANCE": 3, "GERMANY": 3},
    **{"INDIA": 2, "INDONESIA": 2, "IRAN": 4, "IRAQ": 4, "JAPAN": 2, "JORDAN": 4, "KENYA": 0, "MOROCCO": 0},
    **{"MOZAMBIQUE": 0, "PERU": 1, "CHINA": 2, "ROMANIA": 3, "SAUDI ARABIA": 4, "VIETNAM": 2, "RUSSIA": 3},
    **{"UNITED KINGDOM": 3, "UNITED STATES": 1},
}
SEGMENTS = ("AUTOMOBILE", "BUILDING", "FURNITURE", "MACHINERY", "HOUSEHOLD")
PRIORITIES = ("1-URGENT", "2-HIGH", "3-MEDIUM", "4-NOT SPECIFIED", "5-LOW")
MODES = ("REG AIR", "AIR", "RAIL", "SHIP", "TRUCK", "MAIL", "FOB")
INSTRUCTIONS = ("DELIVER IN PERSON", "COLLECT COD", "NONE", "TAKE BACK RETURN")
COLOURS = ("almond", "blue", "coral", "forest", "green", "ivory", "lime", "olive", "plum", "snow", "tan", "violet")
TYPES = (
    ("STANDARD", "SMALL", "MEDIUM", "LARGE", "ECONOMY", "PROMO"),
    ("ANODIZED", "BURNISHED", "PLATED", "POLISHED", "BRUSHED"),
    ("TIN", "NICKEL", "BRASS", "STEEL", "COPPER"),
)
SIZES = ("SM", "LG", "MED", "JUMBO", "WRAP")
CONTAINERS = ("CASE", "BOX", "BAG", "JAR", "PKG", "PACK", "CAN", "DRUM")
ASKED = (("Brand#12", "SM BOX"), ("Brand#23", "MED BOX"), ("Brand#34", "LG BOX"))
COMMENTS = ("final deposits", "special packages and requests", "pending accounts", "Customer noted Complaints", "ideas")
FIRST, LAST = date(1992, 1, 1).toordinal(), date(1998, 8, 2).toordinal()
EPOCH, TODAY = date(1970, 1, 1).toordinal(), date(1995, 6, 17).toordinal()


class Maker:
    """Draws the tables of one scale; what one table needs of another is kept."""

    def __init__(self, scale: float, seed: int) -> None:
        self.random = np.random.default_rng(seed)
        self.suppliers, self.customers, self.parts = (int(n * scale) for n in (10_000, 150_000, 200_000))
        self.orders = int(1_500_000 * scale)
        part = np.arange(1, self.parts + 1)
        self.retail_cents = 90_000 + (part // 10) % 20_001 + 100 * (part % 1000)

    def drawn(self, words: tuple[str, ...], rows: int) -> pa.Array[Any]:
        """A column of words, each as likely."""
        return pa.array(words).take(pa.array(self.random.integers(0, len(words), rows)))

    def between(self, least: int, greatest: int, rows: int) -> Numbers:
        """Whole numbers, the ends among them."""
        return self.random.integers(least, greatest + 1, rows)

    def supplier_of(self, part: Numbers, which: Numbers) -> Numbers:
        """The key of supplier `which`, 0 to 3, of each part."""
        count = self.suppliers
        found: Numbers = (part + which * (count // 4 + (part - 1) // count)) % count + 1
        return found

    def region(self) -> dict[str, Any]:
        """The five regions."""
        return {"r_regionkey": np.arange(5), "r_name": pa.array(REGIONS), "r_comment": self.drawn(COMMENTS, 5)}

    def nation(self) -> dict[str, Any]:
        """The 25 nations."""
        named = {"n_nationkey": np.arange(25), "n_name": pa.array(list(NATIONS))}
        return {**named, "n_regionkey": np.array(list(NATIONS.values())), "n_comment": self.drawn(COMMENTS, 25)}

    def supplier(self) -> dict[str, Any]:
        """10,000 times the scale."""
        return self._party("s", "supp", "Supplier", self.suppliers)

    def customer(self) -> dict[str, Any]:
        """150,000 times the scale."""
        rows = self.customers
        return {**self._party("c", "cust", "Customer", rows), "c_mktsegment": self.drawn(SEGMENTS, rows)}

    def _party(self, prefix: str, key: str, title: str, rows: int) -> dict[str, Any]:
        nation = self.between(0, 24, rows)
        local = self.between(1_000_000, 9_999_999, rows)
        columns = {
            f"{key}key": np.arange(1, rows + 1),
            "name": pa.array([f"{title}#{number:09d}" for number in range(1, rows + 1)]),
            "address": pa.array([f"{number} street" for number in self.between(1, 999, rows)]),
            "nationkey": nation,
            "phone": pa.array([f"{code + 10}-{number}" for code, number in zip(nation, local, strict=True)]),
            "acctbal": cents(self.between(-99_999, 999_999, rows)),
            "comment": self.drawn(COMMENTS, rows),
        }
        return {f"{prefix}_{name}": values for name, values in columns.items()}

    def part(self) -> dict[str, Any]:
        """200,000 times the scale; a tenth of them of kinds that queries ask for."""
        rows = self.parts
        asked = self.random.random(rows) < 0.1
        kinds = self.between(0, len(ASKED) - 1, rows)
        maker, digit = self.between(1, 5, rows), self.between(1, 5, rows)
        sizes, boxes = self.between(0, 4, rows), self.between(0, 7, rows)
        brands = [ASKED[k][0] if a else f"Brand#{m}{d}" for a, k, m, d in zip(asked, kinds, maker, digit, strict=True)]
        held = [
            ASKED[k][1] if a else f"{SIZES[s]} {CONTAINERS[b]}"
            for a, k, s, b in zip(asked, kinds, sizes, boxes, strict=True)
        ]
        return {
            "p_partkey": np.arange(1, rows + 1),
            "p_name": self._joined(COLOURS, COLOURS, COLOURS, rows=rows),
            "p_mfgr": pa.array([f"Manufacturer#{number}" for number in maker]),
            "p_brand": pa.array(brands),
            "p_type": self._joined(*TYPES, rows=rows),
            "p_size": np.where(asked, self.between(1, 15, rows), self.between(1, 50, rows)).astype(np.int32),
            "p_container": pa.array(held),
            "p_retailprice": cents(self.retail_cents),
            "p_comment": self.drawn(COMMENTS, rows),
        }

    def _joined(self, *syllables: tuple[str, ...], rows: int) -> pa.Array[Any]:
        columns = [self.drawn(words, rows).to_pylist() for words in syllables]
        return pa.array([" ".join(words) for words in zip(*columns, strict=True)])

    def partsupp(self) -> dict[str, Any]:
        """Four suppliers a part."""
        part = np.repeat(np.arange(1, self.parts + 1), 4)
        rows = len(part)
        return {
            "ps_partkey": part,
            "ps_suppkey": self.supplier_of(part, np.tile(np.arange(4), self.parts)),
            "ps_availqty": self.between(1, 9_999, rows).astype(np.int32),
            "ps_supplycost": cents(self.between(100, 100_000, rows)),
            "ps_comment": self.drawn(COMMENTS, rows),
        }

    def orders_and_lines(self) -> tuple[dict[str, Any], dict[str, Any]]:
        """1,500,000 times the scale, and one to seven lines each; a third of the customers never order."""
        rows = self.orders
        number = np.arange(rows)
        key = number // 8 * 32 + number % 8 + 1
        customer = self.between(1, self.customers, rows)
        customer = np.where(customer % 3 == 0, customer % self.customers + 1, customer)
        day = self.between(FIRST, LAST - 121, rows)
        large = self.random.random(rows) < 0.005
        lines = np.where(large, 7, self.between(1, 7, rows))
        of = np.repeat(number, lines)
        count = len(of)
        part = self.between(1, self.parts, count)
        quantity = np.where(large[of], self.between(40, 50, count), self.between(1, 50, count))
        price = quantity * self.retail_cents[part - 1]
        discount, tax = self.between(0, 10, count), self.between(0, 8, count)
        shipped = day[of] + self.between(1, 121, count)
        received = shipped + self.between(1, 30, count)
        open_lines = shipped > TODAY
        opened = np.bincount(of, open_lines, rows)
        status = np.where(opened == 0, "F", np.where(opened == lines, "O", "P"))
        total = np.bincount(of, price * (100 - discount) * (100 + tax) // 10_000, rows).astype(np.int64)
        returned = np.where(received > TODAY, "N", np.where(self.random.random(count) < 0.5, "R", "A"))
        starts = np.cumsum(lines) - lines
        order_columns = {
            "o_orderkey": key,
            "o_custkey": customer,
            "o_orderstatus": pa.array(status),
            "o_totalprice": cents(total),
            "o_orderdate": days(day),
            "o_orderpriority": self.drawn(PRIORITIES, rows),
            "o_clerk": pa.array([f"Clerk#{clerk:09d}" for clerk in self.between(1, 10, rows)]),
            "o_shippriority": np.zeros(rows, dtype=np.int32),
            "o_comment": self.drawn(COMMENTS, rows),
        }
        line_columns = {
            "l_orderkey": key[of],
            "l_partkey": part,
            "l_suppkey": self.supplier_of(part, self.between(0, 3, count)),
            "l_linenumber": (np.arange(count) - starts[of] + 1).astype(np.int32),
            "l_quantity": cents(quantity * 100),
            "l_extendedprice": cents(price),
            "l_discount": cents(discount),
            "l_tax": cents(tax),
            "l_returnflag": pa.array(returned),
            "l_linestatus": pa.array(np.where(open_lines, "O", "F")),
            "l_shipdate": days(shipped),
            "l_commitdate": days(day[of] + self.between(30, 90, count)),
            "l_receiptdate": days(received),
            "l_shipinstruct": self.drawn(INSTRUCTIONS, count),
            "l_shipmode": self.drawn(MODES, count),
            "l_comment": self.drawn(COMMENTS, count),
        }
        return order_columns, line_columns


def cents(values: Numbers) -> pa.Array[Any]:
    """Whole cents as decimal128(15, 2)."""
    words = np.stack([values.astype(np.int64), values.astype(np.int64) >> 63], axis=1)
    buffers = [None, pa.py_buffer(np.ascontiguousarray(words))]
    return pa.Array.from_buffers(pa.decimal128(15, 2), len(values), buffers)  # type: ignore[arg-type]


def days(ordinals: Numbers) -> pa.Array[Any]:
    """Python's ordinals of days as date32."""
    return pa.array((ordinals - EPOCH).astype(np.int32)).cast(pa.date32())


def write_small_tables(folder: Path, *, scale: float, seed: int, parts: int = 2) -> None:
    """Write the eight tables of `scale` below `folder` as `bench.tpch.tables` has them, the large ones in `parts`."""
    maker = Maker(scale, seed)
    orders, lines = maker.orders_and_lines()
    small = {name: getattr(maker, name)() for name in ("region", "nation", "supplier", "customer", "part", "partsupp")}
    for name, columns in {**small, "orders": orders, "lineitem": lines}.items():
        table = pa.table(columns)
        count = parts if name in ("orders", "lineitem") else 1
        each = -(-table.num_rows // count)
        (folder / name).mkdir(parents=True)
        for number in range(count):
            target = folder / name / f"{name}.{number + 1}.parquet"
            pq.write_table(table.slice(number * each, each), target, store_decimal_as_integer=True)
    describe(folder, scale, "bench.tpch.small")
