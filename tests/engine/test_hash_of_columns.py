"""Expr.hash: XXH64 of documented bytes, the same for equal values of all types that hold them."""

import datetime as dt
import struct
from decimal import Decimal

import pyarrow as pa
import pytest
import xxhash

import kernelmill as km

c = km.col
NULL_SEED_0 = xxhash.xxh64_intdigest(b"", (1 << 64) - 1)


def hashes(values, dtype=None, **options):
    frame = km.from_arrow(pa.table({"x": pa.array(values, dtype)}))
    made = frame.select(h=c("x").hash(**options)).collect()
    assert made.schema["h"] == pa.uint64() and not made.schema.is_nullable("h")
    return [h for (h,) in made.rows()]


def of_word(number, seed=0):
    return xxhash.xxh64_intdigest(struct.pack("<q", number), seed)


@pytest.mark.parametrize(
    "dtype", [pa.string(), pa.large_string(), pa.string_view(), pa.dictionary(pa.int8(), pa.string())]
)
def test_text_is_hashed_by_its_bytes(dtype):
    texts = ["", "a", "é" * 40, None]
    expected = [xxhash.xxh64_intdigest(text.encode(), 5) for text in texts[:-1]]
    assert hashes(texts, dtype, seed=5) == [*expected, xxhash.xxh64_intdigest(b"", ((1 << 64) - 1) ^ 5)]


@pytest.mark.parametrize("dtype", [pa.int8(), pa.int16(), pa.int32(), pa.int64(), pa.uint8(), pa.uint32()])
def test_integers_of_all_widths_agree(dtype):
    assert hashes([0, 1, 127, None], dtype) == [of_word(0), of_word(1), of_word(127), NULL_SEED_0]


def test_other_values_are_hashed_by_8_bytes_or_their_own():
    assert hashes([1 << 63], pa.uint64()) == [xxhash.xxh64_intdigest(struct.pack("<Q", 1 << 63))]
    one, zero = (xxhash.xxh64_intdigest(struct.pack("<d", x)) for x in (1.5, 0.0))
    for dtype in (pa.float16(), pa.float32(), pa.float64()):
        found = hashes([1.5, 0.0, -0.0, float("nan"), -float("nan")], dtype)
        assert found[:3] == [one, zero, zero] and found[3] == found[4]
    assert hashes([True, False]) == [of_word(1), of_word(0)]
    day = dt.date(1970, 1, 3)
    assert hashes([day], pa.date32()) == hashes([day], pa.date64()) == [of_word(2)]
    assert hashes([dt.timedelta(seconds=1)], pa.duration("us")) == [of_word(1_000_000)]
    assert hashes([b"abc"], pa.binary(3)) == hashes([b"abc"]) == [xxhash.xxh64_intdigest(b"abc")]
    assert hashes([Decimal("-0.01")], pa.decimal128(5, 2)) == [of_word(-1, of_word(-1))]
    assert hashes([None], pa.null()) == [NULL_SEED_0]


def test_several_columns_and_structs_are_hashed_one_after_the_other():
    table = pa.table({"a": [1, None], "b": ["x", "y"], "s": [{"a": 1, "b": "x"}, {"a": None, "b": "y"}]})
    frame = km.from_arrow(table).select(
        p=c("a").hash("b"), q=c("s").hash(), r=c("b").hash(c("a")), l=c("a").hash(km.lit("x"))
    )
    (p, q, r, lit), (p2, q2, _, _) = frame.collect().rows()
    assert p == q == lit == xxhash.xxh64_intdigest(b"x", of_word(1)) and r == of_word(1, xxhash.xxh64_intdigest(b"x"))
    assert p2 == q2 == xxhash.xxh64_intdigest(b"y", NULL_SEED_0)
    assert km.from_arrow(table).select(h=km.lit("x").hash()).collect().rows() == [(xxhash.xxh64_intdigest(b"x"),)] * 2


def test_a_hash_is_a_key_and_a_filter_like_other_numbers():
    frame = km.from_arrow(pa.table({"x": list(range(1000))}))
    some = frame.filter(c("x").hash(seed=(1 << 64) - 1) % 10 == 3)
    expected = [x for x in range(1000) if of_word(x, (1 << 64) - 1) % 10 == 3]
    assert [x for (x,) in some.collect(threads=2, split_size=1).rows()] == expected
    groups = frame.group_by(h=c("x").hash() % 7).len().sort("h").collect().rows()
    assert groups == [(n, sum(of_word(x) % 7 == n for x in range(1000))) for n in range(7)]


@pytest.mark.parametrize("dtype", [pa.list_(pa.int64()), pa.map_(pa.string(), pa.int64()), pa.decimal256(50, 1)])
def test_values_that_are_no_keys_are_not_hashed(dtype):
    frame = km.from_arrow(pa.table({"x": pa.array([None], dtype)}))
    with pytest.raises(km.errors.KernelmillError) as caught:
        frame.select(c("x").hash())
    assert caught.value.code.id == "KM0102"


@pytest.mark.parametrize("seed", [-1, 1 << 64, 1.5, None])
def test_a_seed_is_a_number_of_64_bits(seed):
    with pytest.raises(km.errors.KernelmillError) as caught:
        c("x").hash(seed=seed)
    assert caught.value.code.id == "KM0107"
