import pytest
from hypothesis import given
from hypothesis import strategies as st

from kernelmill.engine.errors import Code, KernelmillError
from kernelmill.engine.sizes import format_bytes, format_count, format_duration, format_rate, format_things, parse_bytes


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("0", 0),
        ("17", 17),
        (17, 17),
        ("1_000", 1000),
        ("512MB", 512 * 10**6),
        ("512 mb", 512 * 10**6),
        ("4GiB", 4 << 30),
        ("4G", 4 << 30),
        ("1.5G", 3 << 29),
        ("0.1KB", 100),
        ("2TiB", 2 << 40),
        ("64kib", 64 << 10),
        ("7b", 7),
    ],
)
def test_sizes_are_read_as_people_write_them(text, expected):
    assert parse_bytes(text) == expected


@pytest.mark.parametrize(
    "text", ["", "GB", "-1", "1.", ".5G", "1e3", "4 Gi B", "4XB", "ten", True, None, 1.5, -1, "9999999999TB", "٣"]
)
def test_what_is_no_size_is_a_bad_setting(text):
    with pytest.raises(KernelmillError) as caught:
        parse_bytes(text, name="memory", where="here")
    assert caught.value.code is Code.BAD_SETTING
    assert caught.value.where == "here"


@given(st.integers(0, (1 << 63) - 1))
def test_plain_bytes_are_kept_exactly(count):
    assert parse_bytes(str(count)) == count == parse_bytes(count)


@given(st.integers(0, 1 << 20), st.sampled_from(["KiB", "MiB", "GiB"]))
def test_whole_binary_sizes_are_exact(count, unit):
    assert parse_bytes(f"{count}{unit}") == count << {"KiB": 10, "MiB": 20, "GiB": 30}[unit]


@pytest.mark.parametrize(
    ("count", "binary", "expected"),
    [
        (0, False, "0 B"),
        (999, False, "999 B"),
        (1000, False, "1.0 kB"),
        (4_137_850, False, "4.1 MB"),
        (999_999, False, "1.0 MB"),
        (99_949, False, "99.9 kB"),
        (123_456_789, False, "123 MB"),
        (4 << 30, True, "4.0 GiB"),
        (1023, True, "1023 B"),
        (64 << 20, True, "64.0 MiB"),
        (10**19, False, "10,000,000.0 TB"),
    ],
)
def test_bytes_are_written_short(count, binary, expected):
    assert format_bytes(count, binary=binary) == expected


@given(st.integers(0, 10**17))
def test_a_written_size_is_near_the_size(count):
    assert parse_bytes(format_bytes(count).replace(",", "")) == pytest.approx(count, rel=0.06)


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [
        (0.09, "0.09 s"),
        (0.999, "1.0 s"),
        (2.44, "2.4 s"),
        (9.96, "10 s"),
        (59.6, "1 min 00 s"),
        (200, "3 min 20 s"),
        (7500, "2 h 05 min"),
    ],
)
def test_durations_keep_the_digits_that_say_something(seconds, expected):
    assert format_duration(seconds) == expected


def test_rates_and_counts():
    assert format_rate(812_000_000) == "812 MB/s"
    assert format_count(12544) == "12,544"
    assert [format_things(n, "file") for n in (0, 1, 1200)] == ["0 files", "1 file", "1,200 files"]
