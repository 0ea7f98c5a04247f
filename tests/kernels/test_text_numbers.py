"""int(text) and float(text) against Python's, to the last bit."""

import itertools
import math

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from numba import config

if config.DISABLE_JIT:
    pytest.skip("texts exist in compiled code only", allow_module_level=True)

from test_text_arena import check, compiled, outcome

NUMERALS = "0123456789" * 3 + "__+-. \t\n\x1c\x00eExXabinfNtyA\x85\xa0\u3000\u0661\u0665\u096b\uff11\U0001d7d7²Ⅷ"


def as_int(a):
    return int(a)


def as_int_of_base(a, n):
    return int(a, n)


def as_float(a):
    return float(a)


AS_INT, AS_INT_OF_BASE, AS_FLOAT = map(compiled, [as_int, as_int_of_base, as_float])

SIGNED = st.tuples(
    st.sampled_from(["", "-", "+", " ", "\u3000-", "_"]), st.text(st.sampled_from(NUMERALS), max_size=12)
)
WRITTEN_INTS = st.one_of(
    st.integers(-(2**63), 2**63 - 1).map(str),
    st.integers(-(10**6), 10**6).map("{:_}".format),
    st.integers(0, 10**20).map("{:030}".format).filter(lambda digits: int(digits) < 2**63),
    SIGNED.map("".join),
    st.text(st.sampled_from(NUMERALS), max_size=5),
)


def fits(call):
    """A result of 64 bits, or an error."""
    try:
        return -(2**63) <= call() < 2**63
    except ValueError:
        return True


@given(WRITTEN_INTS)
@example("-9223372036854775808")
@example("9223372036854775807")
@example("0_0")
@example("٣_٤")
def test_int(a):
    if fits(lambda: int(a)):
        check(as_int, AS_INT, a)


@pytest.mark.parametrize(
    "a", ["9223372036854775808", "-9223372036854775809", "9" * 19, "1" + "0" * 60, "-" + "8" * 400]
)
def test_an_int_beyond_64_bits_is_an_overflow(a):
    with pytest.raises(OverflowError):
        AS_INT(a)


PREFIXED = st.tuples(st.sampled_from(["0x", "0b", "0o", "0X", "0x_", "-0B1", "00", "0", "_", ""]),
                     st.text(st.sampled_from("0011289afFzZ_ "), max_size=9))  # fmt: skip


@given(PREFIXED.map("".join), st.one_of(st.sampled_from([0, 2, 8, 10, 16]), st.integers(-1, 38)))
@example("0", 0)
@example("00", 0)
@example("-0x0", 0)
def test_int_of_a_base(a, base):
    if fits(lambda: int(a, base)):
        check(as_int_of_base, AS_INT_OF_BASE, a, base)


def check_float(a):
    found, expected = outcome(AS_FLOAT, (a,)), outcome(as_float, (a,))
    if isinstance(expected, float) and isinstance(found, float):
        assert math.isnan(found) == math.isnan(expected)
        assert math.copysign(1, found) == math.copysign(1, expected)
        assert found == expected or math.isnan(expected), a
    else:
        assert found == expected, a


@given(st.floats())
def test_float_of_a_repr(value):
    check_float(repr(value))
    check_float(f"{value:.17g}")
    check_float(f"{value:.3f}" if abs(value) < 1e300 else "1")


@given(st.text(st.sampled_from(NUMERALS), max_size=14))
@example("1_0.5_0e1_0")
@example("1_.5")
@example("1._5")
@example("1e5_")
@example("-.5e-3")
@example(".")
@example("5.e1")
@example("-Infinity")
@example("+nan")
@example("infin")
@example("1\x00")
@example("\u0661.\u0665")
@example("\x1c\u0661")
@example("\u0661\x1f")
def test_float_of_anything(a):
    check_float(a)


@pytest.mark.parametrize("size", range(1, 10))
def test_short_numbers_with_a_point_a_sign_or_a_wrong_byte_anywhere(size):
    """Texts of up to eight bytes are read as one word."""
    digits = "90817263540"[:size]
    for at, byte in itertools.product(range(size), "\0 +-./09:E_\x7f\x80"):
        text = digits[:at] + byte + digits[at + 1 :]
        for place in range(size + 1):
            check_float(text[:place] + "." + text[place + 1 :])
        for one in (text, "-" + text, "-" + text[:-1]):
            check_float(one)
            check(as_int, AS_INT, one)


@given(st.integers(0, 10**40), st.integers(-400, 400))
@example(17976931348623157081452742373170435679807056752584499659891747680315, 241)
@example(9007199254740993, 0)
@example(5, -324)
@example(1, 23)
@example(90071992547409930, -1)
@example(24703282292062327208, -343)
@example(22250738585072011, -324)
def test_float_of_digits_and_an_exponent(digits, exponent):
    check_float(f"{digits}e{exponent}")
    check_float(f"0.{digits}e{exponent}")
    check_float(f"{digits}{'0' * 30}.000e{exponent}")


@given(st.floats(min_value=0, allow_infinity=False, allow_nan=False), st.sampled_from(["", "0", "0" * 790 + "1", "1"]))
@example(5e-324, "")
@example(0.0, "0" * 900 + "1")
@example(1.7976931348623157e308, "")
@example(2.2250738585072011e-308, "")
def test_float_of_the_middle_between_two_floats_and_just_above(value, more):
    above = math.nextafter(value, math.inf)
    digits = middle(value, above)
    check_float(digits + more)
    check_float("-" + digits[:-1] + "4999")


def middle(value, above):
    """All digits of the middle between two floats."""
    numerator, denominator = value.as_integer_ratio()
    if above == math.inf:
        other, under = 2**1024, 1
    else:
        other, under = above.as_integer_ratio()
    top, bottom = numerator * under + other * denominator, 2 * denominator * under
    twos = bottom.bit_length() - 1
    assert bottom == 1 << twos
    digits = str(top * 5**twos).rjust(twos + 1, "0")
    return digits[: len(digits) - twos] + "." + digits[len(digits) - twos :]
