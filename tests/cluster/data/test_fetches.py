"""What is asked of whom: credit, answers in any order, silence, busy holders and damaged streams. Time is a number."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kernelmill.cluster.data.fetches import (
    ANSWER_S,
    BUSY_S,
    BUSY_S_MAX,
    IDLE_S,
    REQUESTS_ALL_MAX,
    REQUESTS_MAX,
    TRIES_MAX,
    Ask,
    Completed,
    Fetches,
    Missed,
    Reconnect,
    Restart,
)
from kernelmill.cluster.messages import FETCH_BYTES_MAX

MIB = FETCH_BYTES_MAX
BYTES_MAX = 100 * MIB


@pytest.fixture
def fetches():
    made = Fetches()
    yield made
    made.check()


def asks(fetches):
    return [order for order in fetches.take() if isinstance(order, Ask)]


def answer(fetches, ask, total, now=0.0):
    length = max(0, min(ask.length, total - ask.offset))
    place = fetches.answered(ask.source, ask.request, "OK", length, total, now)
    if place is not None:
        fetches.written(ask.key)
    return place


def test_a_short_stream_takes_one_request(fetches):
    fetches.want("a", "w1", 0.0, BYTES_MAX)
    (ask,) = asks(fetches)
    assert (ask.source, ask.offset, ask.length) == ("w1", 0, MIB)
    assert answer(fetches, ask, 1000) == ("a", 0)
    assert fetches.take() == [Completed("a")]
    fetches.checked("a", True, 0.0)
    fetches.pass_time(IDLE_S - 1)
    assert fetches.take() == [] and fetches.next_deadline() is None
    fetches.pass_time(IDLE_S)
    assert fetches.take() == [Reconnect("w1")]


@settings(max_examples=80, deadline=None)
@given(st.data())
def test_every_byte_is_written_once_whatever_the_order_and_the_credit_is_kept(data):
    fetches, now, written = Fetches(), 0.0, {}
    sizes = data.draw(st.dictionaries(st.integers(0, 9), st.integers(1, 20 * MIB), min_size=1, max_size=6))
    for key in sizes:
        fetches.want(key, f"w{key % 2}", now, BYTES_MAX)
    open_, done, lost_left = [], set(), data.draw(st.integers(0, TRIES_MAX - 1))
    while len(done) < len(sizes):
        for order in fetches.take():
            match order:
                case Ask():
                    open_.append(order)
                case Reconnect(source):
                    open_ = [ask for ask in open_ if ask.source != source]
                case Completed(key):
                    assert sum(written[key].values()) == sizes[key]
                    fetches.checked(key, True, now)
                    done.add(key)
                case _:
                    raise AssertionError(order)
        fetches.check()
        if not open_:
            now = fetches.next_deadline() or now
            fetches.pass_time(now)
            continue
        ask = open_.pop(data.draw(st.integers(0, len(open_) - 1)))
        fate = data.draw(st.sampled_from(["ok", "ok", "ok", "busy", "lost"]))
        if fate == "lost" and lost_left:
            lost_left -= 1
        elif fate == "busy":
            assert fetches.answered(ask.source, ask.request, "BUSY", 0, 0, now) is None
            now += BUSY_S
            fetches.pass_time(now)
        else:
            place = answer(fetches, ask, sizes[ask.key], now)
            assert place == (ask.key, ask.offset)
            own = written.setdefault(ask.key, {})
            assert ask.offset not in own
            own[ask.offset] = min(ask.length, sizes[ask.key] - ask.offset)


def test_no_more_than_the_credit_is_open_to_a_source_or_in_all(fetches):
    for source in range(20):
        for number in range(20):
            fetches.want((source, number), f"w{source}", 0.0, BYTES_MAX)
    first = asks(fetches)
    assert len(first) == REQUESTS_ALL_MAX
    assert max(sum(ask.source == f"w{source}" for ask in first) for source in range(20)) == REQUESTS_MAX
    for ask in first[:8]:
        answer(fetches, ask, 10)
        fetches.check()
    assert len(asks(fetches)) == 8


def test_a_silent_source_is_asked_again_over_a_new_connection_and_then_given_up(fetches):
    fetches.want("a", "w1", 0.0, BYTES_MAX)
    fetches.want("b", "w1", 0.0, BYTES_MAX)
    now, reconnects = 0.0, 0
    fetches.take()
    while (now := fetches.next_deadline()) < TRIES_MAX * ANSWER_S:
        fetches.pass_time(now)
        orders = fetches.take()
        assert orders[0] == Reconnect("w1") and [ask.key for ask in orders[1:]] == ["a", "b"]
        reconnects += 1
    assert reconnects == TRIES_MAX - 1
    fetches.pass_time(now)
    orders = fetches.take()
    assert [order for order in orders if isinstance(order, Missed)] == [
        Missed("a", "FETCH_UNREACHABLE"),
        Missed("b", "FETCH_UNREACHABLE"),
    ]
    assert not any(isinstance(order, Ask) for order in orders)


def test_an_answer_that_comes_after_all_is_not_taken_twice(fetches):
    fetches.want("a", "w1", 0.0, BYTES_MAX)
    (late,) = asks(fetches)
    fetches.pass_time(ANSWER_S)
    (again,) = asks(fetches)
    assert answer(fetches, late, 10, ANSWER_S) is None
    assert answer(fetches, again, 10, ANSWER_S) == ("a", 0)


def test_a_damaged_stream_is_fetched_again_and_then_its_holder_looks_at_its_own(fetches):
    for status, code in (("OK", "FETCH_UNREACHABLE"), ("CORRUPT", "CORRUPT_BLOCK"), ("GONE", "CORRUPT_BLOCK")):
        fetches.want("a", "w1", 0.0, BYTES_MAX)
        (ask,) = asks(fetches)
        answer(fetches, ask, 10)
        fetches.take()
        fetches.checked("a", False, 0.0)
        restart, ask = fetches.take()
        assert restart == Restart("a") and (ask.offset, ask.length) == (0, MIB)
        answer(fetches, ask, 10)
        assert fetches.take() == [Completed("a")]
        fetches.checked("a", False, 0.0)
        (ask,) = fetches.take()
        assert ask.length == 0
        assert fetches.answered(ask.source, ask.request, status, 0, 10, 0.0) is None
        assert fetches.take() == [Missed("a", code)]


@pytest.mark.parametrize(
    ("status", "code"), [("GONE", "CORRUPT_BLOCK"), ("CORRUPT", "CORRUPT_BLOCK"), ("DENIED", "FETCH_UNREACHABLE")]
)
def test_what_a_holder_says_of_its_block_is_passed_on(fetches, status, code):
    fetches.want("a", "w1", 0.0, BYTES_MAX)
    (ask,) = asks(fetches)
    fetches.answered(ask.source, ask.request, status, 0, 0, 0.0)
    assert fetches.take() == [Missed("a", code)]


def test_answers_that_do_not_fit_one_another_are_damage(fetches):
    for length, total in ((5, 10), (MIB, 10), (0, 3 * MIB)):
        fetches.want("a", "w1", 0.0, BYTES_MAX)
        (ask,) = asks(fetches)
        assert fetches.answered(ask.source, ask.request, "OK", length, total, 0.0) is None
        assert fetches.take() == [Missed("a", "CORRUPT_BLOCK")]


def test_the_beginnings_of_all_streams_come_before_more_of_any(fetches):
    fetches.want("a", "w1", 0.0, BYTES_MAX)
    (ask,) = asks(fetches)
    answer(fetches, ask, 50 * MIB)
    of_a = asks(fetches)
    assert [ask.key for ask in of_a] == ["a"] * REQUESTS_MAX
    for key in "bc":
        fetches.want(key, "w1", 0.0, BYTES_MAX)
    assert asks(fetches) == []
    for ask in of_a[:3]:
        answer(fetches, ask, 50 * MIB)
    assert [(ask.key, ask.offset) for ask in asks(fetches)] == [("b", 0), ("c", 0), ("a", 9 * MIB)]


def test_of_a_source_that_says_a_stream_is_longer_than_it_can_be_nothing_is_taken(fetches):
    fetches.want("a", "w1", 0.0, 3 * MIB)
    fetches.want("b", "w1", 0.0, 3 * MIB)
    first, second = asks(fetches)
    assert answer(fetches, first, 3 * MIB + 1) is None
    assert fetches.take() == [Missed("a", "CORRUPT_BLOCK")]
    assert answer(fetches, second, 3 * MIB) == ("b", 0)
    assert len(asks(fetches)) == 2


def test_a_source_that_is_busy_for_ever_is_given_up_and_one_that_answers_in_between_is_not(fetches):
    for key in ("a", "b"):
        fetches.want(key, key, 0.0, 100 * MIB)
    now, missed = 0.0, {}
    while "b" not in missed:
        while orders := fetches.take():
            for order in orders:
                if isinstance(order, Missed):
                    missed[order.key] = order.code, now
                elif order.source == "b" and order.offset == 0 and now >= BUSY_S_MAX / 2:
                    answer(fetches, order, 100 * MIB, now)
                else:
                    fetches.answered(order.source, order.request, "BUSY", 0, 0, now)
        if "b" not in missed:
            now = fetches.next_deadline()
            assert now < 2 * BUSY_S_MAX
            fetches.pass_time(now)
    assert {key: code for key, (code, _) in missed.items()} == {"a": "FETCH_UNREACHABLE", "b": "FETCH_UNREACHABLE"}
    assert missed["a"][1] == pytest.approx(BUSY_S_MAX, abs=2 * BUSY_S)
    assert missed["b"][1] == pytest.approx(1.5 * BUSY_S_MAX, abs=2 * BUSY_S)


def test_a_stream_that_is_forgotten_and_wanted_again_takes_no_answers_of_the_first(fetches):
    fetches.want("a", "w1", 0.0, BYTES_MAX)
    (old,) = asks(fetches)
    fetches.forget("a")
    fetches.want("a", "w1", 0.0, BYTES_MAX)
    (new,) = asks(fetches)
    assert answer(fetches, old, 10) is None and fetches.take() == []
    assert answer(fetches, new, 10) == ("a", 0)


def test_a_full_disk_gives_a_stream_up(fetches):
    fetches.want("a", "w1", 0.0, BYTES_MAX)
    fetches.fail("a", "DISK_FULL")
    assert fetches.take()[-1] == Missed("a", "DISK_FULL")
