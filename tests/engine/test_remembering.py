"""Results that are kept by the identity of their arguments."""

import contextlib

from kernelmill.engine.remembering import KEPT_MAX, remembered


def test_the_same_object_is_asked_about_once_and_an_equal_one_anew():
    asked = []

    @remembered
    def size(one):
        asked.append(one)
        return len(one)

    first, second = tuple("ab"), tuple("ab")
    assert [size(first), size(first), size(second)] == [2, 2, 2]
    assert len(asked) == 2


def test_an_object_that_takes_the_place_of_another_gets_its_own_result():
    @remembered
    def first_of(one):
        return one[0]

    for number in range(3 * KEPT_MAX):  # each is gone before the next one comes, but for what is kept
        assert first_of([number]) == number


def test_nothing_is_kept_of_a_call_that_raises():
    calls = []

    @remembered
    def fails_once(one):
        calls.append(one)
        if len(calls) == 1:
            raise ValueError
        return 7

    key = object()
    with contextlib.suppress(ValueError):
        fails_once(key)
    assert fails_once(key) == 7
