"""Random chains of verbs over random tables have Polars' rows, however many threads and partitions there are."""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import Any, NamedTuple

import polars as pl
import pyarrow as pa
from hypothesis import given, settings
from hypothesis import strategies as st

import kernelmill as km

c, p = km.col, pl.col
NUMBERS = {pl.Int64, pl.Float64}
DIM = pa.table({"k": ["a", "b", None, "zz", "a"], "w": [1, 2, 3, 4, 5]})
rows_of_three = st.lists(
    st.tuples(
        st.sampled_from([None, "a", "b", "cc", "d" * 30]),
        st.none() | st.integers(-3, 3),
        st.sampled_from([None, 0.0, -1.5, 2.25, 7.0]),
    ),
    max_size=40,
)


class Chain(NamedTuple):
    """The same rows as a plan of ours and as a frame of Polars."""

    ours: km.LazyFrame
    theirs: pl.DataFrame

    def both(self, verb: Callable[[Any, Any], Any]) -> Chain:
        """Go on by a verb that is spelled alike, given a frame and its `col`."""
        return Chain(verb(self.ours, c), verb(self.theirs, p))


def filtered(chain: Chain, random: Random) -> Chain:
    name = random.choice(chain.theirs.columns)
    return chain.both(lambda f, col: f.filter(col(name).is_not_null()))


def without_nulls(chain: Chain, random: Random) -> Chain:
    name = random.choice(chain.theirs.columns)
    return chain.both(lambda f, _: f.drop_nulls(name))


def computed(chain: Chain, random: Random) -> Chain:
    names = [name for name, dtype in chain.theirs.schema.items() if dtype in NUMBERS]
    if not names:
        return chain
    name, limit = random.choice(names), random.randint(-3, 3)
    return chain.both(lambda f, col: f.with_columns((col(name) * 2 - 1).alias(name)).filter(col(name) > limit))


def narrowed(chain: Chain, random: Random) -> Chain:
    names = random.sample(chain.theirs.columns, random.randint(1, len(chain.theirs.columns)))
    return chain.both(lambda f, _: f.select(*names))


def made_unique(chain: Chain, random: Random) -> Chain:
    return chain.both(lambda f, _: f.unique())


def put_together(chain: Chain, random: Random) -> Chain:
    name = random.choice(chain.theirs.columns)
    some = chain.both(lambda f, col: f.filter(col(name).is_null()))
    return Chain(km.concat([chain.ours, some.ours]), pl.concat([chain.theirs, some.theirs]))


def joined(chain: Chain, random: Random) -> Chain:
    names = chain.theirs.columns
    if "k" not in names or {"w", "k_right"} & set(names):
        return chain
    how = random.choice(["inner", "left", "full", "semi", "anti"])
    options = {"how": how, "nulls_equal": random.random() < 0.3}
    return Chain(
        chain.ours.join(km.from_arrow(DIM), "k", **options), chain.theirs.join(pl.DataFrame(DIM), "k", **options)
    )


def grouped(chain: Chain, random: Random) -> Chain:
    names = chain.theirs.columns
    key, value = random.choice(names), random.choice(names)
    if key == value:
        return chain
    is_number = chain.theirs.schema[value] in NUMBERS

    def aggregates(col: Any) -> dict[str, Any]:
        made = {"count": col(value).count(), "n": col(value).n_unique(), "least": col(value).min()}
        more = {"total": col(value).sum(), "middle": col(value).median(), "spread": col(value).max() - col(value).min()}
        made |= more if is_number else {}
        return {name: made[name] for name in made if name != key}

    theirs = chain.theirs.group_by(key).agg(**aggregates(p))
    counts = [name for name in ("count", "n") if name != key]
    return Chain(chain.ours.group_by(key).agg(**aggregates(c)), theirs.with_columns(p(counts).cast(pl.Int64)))


def listed(chain: Chain, random: Random) -> Chain:
    names = chain.theirs.columns
    key, value = random.choice(names), random.choice(names)
    if key == value:
        return chain
    ours = chain.ours.group_by(key).agg(c(value).implode()).explode(value)
    return Chain(ours, chain.theirs.group_by(key).agg(p(value)).explode(value))


def in_order(chain: Chain, random: Random) -> Chain:
    names, count = chain.theirs.columns, random.randint(0, 12)
    options = {"descending": random.random() < 0.5, "nulls_last": random.random() < 0.5}
    ordered = Chain(chain.ours.sort(*names, **options), chain.theirs.sort(names, maintain_order=True, **options))
    verb = random.choice(["head", "tail", "gather_every", "with_row_index"])
    if verb == "with_row_index":
        if "i" in names:
            return ordered
        theirs = ordered.theirs.with_row_index("i", count).with_columns(p("i").cast(pl.Int64))
        return Chain(ordered.ours.with_row_index("i", count), theirs)
    return ordered.both(lambda f, _: getattr(f, verb)(count + (verb == "gather_every")))


def turned(chain: Chain, random: Random) -> Chain:
    names = [name for name, dtype in chain.theirs.schema.items() if dtype == pl.Float64]
    index = [name for name in chain.theirs.columns if name not in names]
    if not names or not index or {"variable", "value"} & set(chain.theirs.columns):
        return chain
    return chain.both(lambda f, _: f.unpivot(names, index=index))


VERBS = [
    filtered, without_nulls, computed, narrowed, made_unique, put_together, joined, grouped, listed, in_order, turned,
]  # fmt: skip


def sorted_rows(rows: list[tuple]) -> list[tuple]:
    rows = [tuple(round(value, 9) + 0.0 if isinstance(value, float) else value for value in row) for row in rows]
    return sorted(rows, key=lambda row: [(value is not None, str(value)) for value in row])


@settings(max_examples=120, deadline=None)
@given(rows_of_three, st.lists(st.sampled_from(VERBS), min_size=1, max_size=6), st.randoms(), st.sampled_from([1, 3]))
def test_a_chain_has_the_rows_of_polars(rows, verbs, random, partitions):
    columns = list(zip(*rows, strict=True)) if rows else [[], [], []]
    types = {"k": pa.string(), "n": pa.int64(), "x": pa.float64()}
    table = pa.table([pa.array(one, dtype) for one, dtype in zip(columns, types.values(), strict=True)], list(types))
    table = pa.Table.from_batches(table.to_batches(max_chunksize=7), table.schema)
    chain = Chain(km.from_arrow(table), pl.DataFrame(table))
    for verb in verbs:
        chain = verb(chain, random)
    made = [chain.ours.collect(split_size=1, partitions=partitions, threads=threads) for threads in (1, 2)]
    assert made[0].to_arrow().equals(made[1].to_arrow())
    assert made[0].columns == chain.theirs.columns
    assert sorted_rows(made[0].rows()) == sorted_rows(chain.theirs.rows())
