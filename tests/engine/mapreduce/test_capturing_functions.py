"""Functions that use variables of the function around them, given to max, sorted, filter and the like, compiled."""

import pyarrow as pa
import pytest

import kernelmill as km
from kernelmill.engine.errors import Code, KernelmillError
from kernelmill.kernels import _jit

pytestmark = pytest.mark.skipif(_jit.JIT_DISABLED or _jit.BOUNDS_CHECKED, reason="nothing is compiled then")

LINES = ["b ab aab", "x", "", "aaa b cc b", "b b a", "Łódź z"]
TYPES = {"key": "string", "value": "int64"}


def answers(function, how, lines=LINES):
    job = km.MapReduce(function, schema=TYPES, order=None, compile=how)
    result = km.from_arrow(pa.table({"line": lines})).pipe(job).collect(on_bad="reject", max_rejects=len(lines))
    return result.rows(), [] if result.rejects is None else result.rejects.rows()


def line_of(function, below):
    return f":{function.__code__.co_firstlineno + below}: "


def most_frequent(line, emit):
    words = line.split()
    emit(max(set(words), key=lambda word: (words.count(word), word)), 1)


def least_by_the_record(line, emit):
    emit(min(line.split(), key=lambda word: line.count(word)), len(line))


def extremes_with_a_default(line, emit):
    letter = line[-1:]
    emit(max(line.split(), key=lambda word: word.count(letter), default="none") + letter, 1)
    emit(min(line.split(), key=lambda word: word.count(letter), default=line), 2)


def by_a_function_made_inside(line, emit):
    letter = line[:1]

    def places(word):
        return word.find(letter), len(word)

    emit(",".join(sorted(line.split(), key=places)), 1)
    emit(max(line.split(), key=places), 2)


def sorted_backwards(line, emit):
    sign = len(line) % 2 * 2 - 1
    emit(",".join(sorted(line.split(), key=lambda word: len(word) * sign, reverse=len(line) > 4)), 1)


def sorted_in_place(line, emit):
    sign = len(line) % 2 * 2 - 1
    words = line.split()
    words.sort(key=lambda word: len(word) * sign)
    emit(",".join(words), 1)


def one_of_several(line, emit):
    length = len(line)
    emit(max(line, "b", "aa", key=lambda text: -abs(len(text) - length // 2)), 1)


def mapped(line, emit):
    last = line[-1:]
    for word in map(lambda word: word + last, line.split()):  # noqa: C417 - that is what is tested
        emit(word, 1)
    emit(line, sum(map(lambda a, b: a * len(last) + len(b), range(9), line.split())))
    emit("-".join(map(lambda word: last + word, line.split())), 2)  # noqa: C417 - likewise


def filtered(line, emit):
    most = len(line) // 3
    for word in filter(lambda word: len(word) <= most, line.split()):
        emit(word, most)
    emit(line, len(list(filter(lambda word: len(word) > most, line.split()))))


def nearest_place(line, emit):
    middle = len(line) / 2
    emit(line, min(range(10), key=lambda place: abs(place - middle)))


def of_a_helper(line, emit):
    emit(longest_with(line.split(), line[:1]), 1)


def longest_with(words, letter):
    return max(words, key=lambda word: len(word) * (letter in word))


def within_a_comprehension(line, emit):
    best = [max(line.split(), key=lambda word: word.count(letter), default="") for letter in line[:3]]
    emit(",".join(best), 1)


def its_own_names(line, emit):
    word = line.split()
    length = len(line)
    emit(max(word, key=lambda word: -abs(len(word) - length)), len(word))


def kept_by_a_default(line, emit):
    length = len(line) % 4
    emit(max(line.split(), key=lambda word, length=length: word.count("b") * length), 1)
    for word in filter(lambda word, length=length: len(word) > length, line.split()):
        emit(word, 2)


def keys_that_are_equal_keep_their_order(line, emit):
    none = len(line) * 0
    emit(",".join(sorted(line.split(), key=lambda word: none)), 1)
    emit(max(line.split(), key=lambda word: none), 2)
    emit(min(line.split(), key=lambda word: none), 3)


@pytest.mark.parametrize(
    "function",
    [
        most_frequent,
        least_by_the_record,
        extremes_with_a_default,
        by_a_function_made_inside,
        sorted_backwards,
        sorted_in_place,
        one_of_several,
        mapped,
        filtered,
        nearest_place,
        of_a_helper,
        kept_by_a_default,
        within_a_comprehension,
        its_own_names,
        keys_that_are_equal_keep_their_order,
    ],
)
def test_functions_that_capture_are_compiled_and_give_what_python_gives(function):
    assert answers(function, "require") == answers(function, "never")


def sorted_by_itself(line, emit):
    words = line.split()
    words.sort(key=lambda word: words.count(word))  # as Python sorts, the list is empty
    emit(",".join(words), 1)


def sorted_by_another_name_of_itself(line, emit):
    words = same = line.split()
    words.sort(key=lambda word: same.count(word))
    emit(",".join(words), 1)


def loops_over_what_it_changes(line, emit):
    words, letter = line.split(), line[:1]
    for word in filter(lambda word: letter in word, words):
        emit(word, 1)
        if len(words) < 9:
            words.append(word)


@pytest.mark.parametrize("function", [sorted_by_itself, sorted_by_another_name_of_itself, loops_over_what_it_changes])
def test_what_changes_under_the_function_is_left_to_python(function):
    with pytest.raises(KernelmillError) as caught:
        answers(function, "require")
    assert caught.value.code is Code.INTERPRETED
    assert " is a variable of the function around" in caught.value.what


def changed_in_the_loop(line, emit):
    most = 0
    for word in filter(lambda word: len(word) > most, line.split()):
        most += 1  # noqa: SIM113 - enumerate would change nothing that the lambda uses
        emit(word, most)


def test_what_a_loop_changes_for_its_filter_is_left_to_python_in_words_of_the_users():
    with pytest.raises(KernelmillError) as caught:
        answers(changed_in_the_loop, "require")
    assert caught.value.code is Code.INTERPRETED
    assert ": most is a variable of the function around" in caught.value.what
    assert line_of(changed_in_the_loop, 2) in caught.value.what


def handed_to_another(line, emit):
    length = len(line)
    emit(line, twice(lambda number: number + length))


def twice(function):
    return function(function(1))


def test_a_lambda_for_a_function_of_the_users_is_refused_at_its_line():
    with pytest.raises(KernelmillError) as caught:
        answers(handed_to_another, "require")
    assert ": length is a variable of the function around" in caught.value.what
    assert line_of(handed_to_another, 2) in caught.value.what
    assert answers(handed_to_another, "never")[0][0] == ("b ab aab", 17)
