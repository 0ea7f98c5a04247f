"""Little maps as users write them: which compile, each with the rows that Python gives, and why the others do not."""

import math
import random
import re
import sys
import time

import pytest
from test_usermaps import LINE, Staged, emitted, text_column

from kernelmill.kernels import _jit
from kernelmill.kernels.usercode import CannotCompileError
from kernelmill.kernels.usermaps import compiled_map

pytestmark = pytest.mark.skipif(_jit.JIT_DISABLED or _jit.BOUNDS_CHECKED, reason="nothing is compiled then")

TEXTS = ["the quick 12 brown -7 3.5", "", "fox-jumps over the lazy dog 4", "näive Ünïcode ß 1", "a,b,c", "7"]
SEP, STOP, LIMIT, PAIRS = ",", ("the", "a"), 3, (("a", 1), ("b", 2))


def padded(word, n=3, fill="."):
    return word.ljust(n, fill)


def number_or(text, other):
    try:
        return float(text)
    except ValueError:
        return other


def joined_pairs(line):
    words = line.split()
    for i in range(len(words) - 1):
        yield words[i] + words[i + 1]


def put(word, emit):
    emit(word, 1)


# Those that compile --------------------------------------------------------------------------------------------------


def text_of_a_number(line, emit):
    emit(str(len(line)), 1)


def one_of_two_literals(line, emit):
    emit("some" if line else "none", 1)


def a_text_or_none(line, emit):
    emit(1, str(len(line)) if line else None)


def f_strings(line, emit):
    for i, word in enumerate(line.split()):
        emit(f"{word}:{i}", f"n={len(word)}")


def a_tuple_of_literals(line, emit):
    for word in line.split():
        if word not in ("the", "a"):
            emit(word, 1)


def a_set_of_literals(line, emit):
    for word in line.split():
        if word not in {"the", "a"}:
            emit(word, 1)


def global_constants(line, emit):
    for word in line.split(SEP):
        if word not in STOP:
            emit(word, LIMIT)


def a_loop_over_literals(line, emit):
    for letter in ("a", "b"):
        emit(letter, line.count(letter))


def a_loop_over_pairs(line, emit):
    for letter, weight in PAIRS:
        emit(letter, line.count(letter) * weight)


def zip_of_words(line, emit):
    words = line.split()
    for one, other in zip(words, words[1:]):  # noqa: B905 - as users write it
        emit(one + " " + other, 1)


def tuples_as_keys(line, emit):
    words = line.split()
    for i in range(len(words) - 1):
        emit((words[i], len(words[i])), (words[i + 1], i))


def while_loops(line, emit):
    i = 0
    while i < len(line) and line[i] != " ":
        i += 1
    emit(line[:i], i)


def nested_loops(line, emit):
    for part in line.split():
        for word in part.split("-"):
            for letter in word:
                emit(letter, ord(letter))


def break_continue_else(line, emit):
    for word in line.split():
        if word == "quick":
            continue
        if word == "dog":
            break
        emit(word.strip(".,;").lower(), 1)
    else:
        emit("end", 0)


def slices(line, emit):
    emit(line[-3:], len(line[::2]))
    emit(line[::-1], len(line[1:-1]))


def extremes_of_pieces(line, emit):
    words = line.split()
    if words:
        emit(max(words), min(words))


def extremes_of_numbers(line, emit):
    sizes = [len(word) for word in line.split()]
    if sizes:
        emit("sizes", max(sizes) + min(sizes) + sum(sizes))


def sums_of_generators(line, emit):
    emit("all", sum(len(word) for word in line.split()))
    emit("long", sum(1 for word in line.split() if len(word) > 3))


def any_and_all_of_generators(line, emit):
    emit(any(word.isdigit() for word in line.split()), all(word.isalpha() for word in line.split()))


def the_longest(line, emit):
    if line:
        emit("longest", max(len(word) for word in line.split()))


def join_of_a_generator(line, emit):
    emit(",".join(word for word in line.split() if word > "f"), 1)


def sorted_words(line, emit):
    emit(" ".join(sorted(line.split())), 1)


def reversed_words(line, emit):
    for word in reversed(line.split()):
        emit(word, 1)


def distinct_words(line, emit):
    emit("distinct", len(set(line.split())))


def lists_that_grow(line, emit):
    found = []
    for word in line.split():
        if word.isalpha():
            found.append(word)
    for word in found:
        emit(word, len(found))


def lambdas(line, emit):
    mark = lambda word: word + "!"  # noqa: E731 - as users write it
    for word in line.split():
        emit(mark(word), 1)


def functions_inside(line, emit):
    def mark(word):
        emit(word + "!", 1)

    for word in line.split():
        mark(word)


def helpers_with_defaults(line, emit):
    for word in line.split():
        emit(padded(word), 1)
        emit(padded(word, 5), 2)
        emit(padded(word, fill="-"), 3)


def helpers_that_emit(line, emit):
    for word in line.split():
        put(word, emit)
        emit(word, 0.5)


def generators_as_helpers(line, emit):
    for pair in joined_pairs(line):
        emit(pair, 1)


def tries_that_succeed(line, emit):
    try:
        emit(line, 1 / (1 + len(line)))
    except (ZeroDivisionError, KeyError) as problem:
        emit(str(problem), 0.0)
    finally:
        emit("done", 0.0)


def helpers_that_try(line, emit):
    emit(line, number_or("1.5", 0.0))


def unpacked_pieces(line, emit):
    if line.count(",") == 2:
        first, second, third = line.split(",")
        emit(first, second + third)


def numbers_of_mixed_kinds(line, emit):
    emit(line, 1 if line else 2.5)


def numbers_or_none(line, emit):
    emit(line, len(line) if line else None)


def arithmetic(line, emit):
    n = len(line)
    emit(n // 3 + n % 3, math.sqrt(n) + abs(-n) ** 2 / 7)
    emit(divmod(n, 3)[0], float(round(n / 3)))


def chained_comparisons(line, emit):
    if 3 < len(line) < 20 and "o" in line:
        emit(line, line.find("o"))


def map_of_a_builtin(line, emit):
    for size in map(len, line.split()):
        emit("size", size)


COMPILED = [
    text_of_a_number, one_of_two_literals, a_text_or_none, f_strings, a_tuple_of_literals, a_set_of_literals,
    global_constants, a_loop_over_literals, a_loop_over_pairs, zip_of_words, tuples_as_keys, while_loops, nested_loops,
    break_continue_else, slices, extremes_of_pieces, extremes_of_numbers, sums_of_generators, any_and_all_of_generators,
    the_longest, join_of_a_generator, sorted_words, reversed_words, distinct_words, lists_that_grow, lambdas,
    functions_inside, helpers_with_defaults, helpers_that_emit, generators_as_helpers, tries_that_succeed,
    helpers_that_try, unpacked_pieces, numbers_of_mixed_kinds, numbers_or_none, arithmetic, chained_comparisons,
    map_of_a_builtin,
]  # fmt: skip


def staged_rows(made, texts):
    """What the code stages for these texts, which it must do without failing."""
    stage, given = Staged(made.staged), text_column(texts)  # what is staged points into what is given
    assert made.drive(*given, 0, len(texts), stage.arena, stage.rows, stage.state) == len(texts)
    columns, place = [], 0
    for output in made.outputs:
        if output.constant is not None:
            columns.append([output.constant] * int(stage.state[0]))
            continue
        if output.kind == "text":
            columns.append(stage.texts(place))
        else:
            first, second = stage.words(place, 0), stage.words(place, 1)
            values = (
                first.view(float) if output.kind == "float64" else first != 0 if output.kind == "boolean" else first
            )
            columns.append([None if none else value for value, none in zip(values.tolist(), second, strict=True)])
        place += 1
    return list(zip(*columns, strict=True))


def flat(row):
    return tuple(one for part in row for one in (part if isinstance(part, tuple) else (part,)))


@pytest.mark.parametrize("function", COMPILED, ids=lambda function: function.__name__)
def test_a_map_as_users_write_it_compiles_and_gives_pythons_rows(function):
    rows = staged_rows(compiled_map(function, LINE, {}), TEXTS)
    assert rows == [flat(row) for row in emitted(function, TEXTS)]
    assert rows


# Those that do not ---------------------------------------------------------------------------------------------------


def regular_expressions(line, emit):
    emit(re.sub("a", "b", line), 1)


def dicts_made_inside(line, emit):
    counts = {}
    for word in line.split():
        counts[word] = counts.get(word, 0) + 1
    for word, n in counts.items():
        emit(word, n)


def opened_files(line, emit):
    with open(line) as file:
        emit(file.read(), 1)


def prints(line, emit):
    print("a line")
    emit(line, 1)


def formatted_f_strings(line, emit):
    emit(f"{len(line):0{len(line)}d}", 1)


class Cleaner:
    def clean(self, text):
        return text.strip()


CLEANER = Cleaner()


def instances(line, emit):
    emit(CLEANER.clean(line), 1)


def keywords(line, emit, **more):
    emit(line, len(more))


def generator_expressions(line, emit):
    for size in (len(word) for word in line.split()):
        emit("size", size)


def mutated_globals(line, emit):
    global LIMIT
    LIMIT += 1
    emit(line, LIMIT)


def random_numbers(line, emit):
    emit(line, random.random())


def clocks(line, emit):
    emit(line, time.time())


def factorial(n):
    return 1 if n < 2 else n * factorial(n - 1)


def recursion(line, emit):
    emit(line, factorial(len(line)))


def large_numbers(line, emit):
    emit(line, 9223372036854775808)


def percent_signs(line, emit):
    emit("%r" % line, 1)  # noqa: UP031 - as users write it


def unknown_methods(line, emit):
    emit(line.expandtabs(4), 1)


def maxima_of_two_kinds(line, emit):
    emit(max(line, len(line)), 1)


def starred_names(line, emit):
    first, *rest = line.split()
    emit(first, len(rest))


def two_shapes(line, emit):
    if line:
        emit(line)
    emit(line, 1)


def two_kinds(line, emit):
    emit(1 if line else "none", 1)
    emit(line, 1)


REFUSED = [
    (regular_expressions, "re.sub", 1), (dicts_made_inside, "dict", 1), (opened_files, "open()", 1),
    (prints, "print()", 1), (formatted_f_strings, "format specification", 1), (instances, "instance of Cleaner", 1),
    (keywords, "**kwargs", 0), (generator_expressions, "generator expression", 1),
    (mutated_globals, "assigning the global 'LIMIT'", 2), (random_numbers, "random.random", 1),
    (clocks, "time.time", 1), (recursion, "factorial calls itself", -4), (large_numbers, "beyond 64 bits", None),
    (percent_signs, "operator %", 1),
    (unknown_methods, "method expandtabs", 1), (maxima_of_two_kinds, "max()", 1), (starred_names, "starred", 1),
    (two_shapes, "differ in how many", None), (two_kinds, "now of one type", 1),
]  # fmt: skip


@pytest.mark.parametrize(("function", "why", "line"), REFUSED, ids=lambda one: getattr(one, "__name__", None))
def test_a_map_beyond_the_compiler_is_told_why_in_plain_words_and_where(function, why, line):
    with pytest.raises(CannotCompileError) as caught:
        compiled_map(function, LINE, {})
    assert why in str(caught.value)
    if line is not None:
        assert caught.value.line == function.__code__.co_firstlineno + line
        assert caught.value.path in (None, function.__code__.co_filename)


def test_a_record_that_raises_in_a_try_is_left_to_python():
    def tried(line, emit):
        try:
            emit("number", float(line))
        except ValueError:
            emit("text", 0.0)

    stage = Staged(2)
    made = compiled_map(tried, LINE, {})
    with pytest.raises(RuntimeError):
        made.drive(*text_column(["1.5", "x", "2"]), 0, 3, stage.arena, stage.rows, stage.state)
    assert stage.state[2] == 1  # the record that is called again


def test_a_generator_expression_of_a_function_without_source_is_refused():
    names = {}
    exec("def lengths(line, emit):\n    emit('all', sum(len(word) for word in line.split()))\n", names)
    with pytest.raises(CannotCompileError, match="generator expression"):
        compiled_map(names["lengths"], LINE, {})


def test_a_source_that_changed_since_is_not_taken_for_the_function(tmp_path, monkeypatch):
    file = tmp_path / "changing.py"
    file.write_text("def lengths(line, emit):\n    emit('all', sum(len(word) for word in line.split()))\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    import changing

    file.write_text("def lengths(line, emit):\n    emit('all', sum(9 for word in line.split()))\n")
    with pytest.raises(CannotCompileError, match="generator expression"):
        compiled_map(changing.lengths, LINE, {})
    del sys.modules["changing"]


def test_a_generator_expression_that_emits_is_not_made_a_list():
    def some(line, emit):
        all(emit(word, 1) for word in line.split())
        emit(line, 1)

    with pytest.raises(CannotCompileError, match="generator expression"):
        compiled_map(some, LINE, {})
