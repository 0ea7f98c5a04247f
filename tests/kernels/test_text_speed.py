"""What methods of texts cost; `python tests/kernels/test_text_speed.py [kjv.txt.gz]` prints it for lines of prose.

The one test holds a ratio that leaves room for any machine: measured are 30 and more.
"""

import gzip
import random
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from numba import config, njit

if config.DISABLE_JIT:
    pytest.skip("texts exist in compiled code only", allow_module_level=True)

from kernelmill.kernels.text.jitting import helper
from kernelmill.kernels.text.library import new_state, text_of
from kernelmill.kernels.text.pointers import SLACK_BYTES


def words(line):
    count = 0
    for word in line.split():
        count += len(word)
    return count


def words_by_index(line):
    count, found = 0, line.split()
    for i in range(len(found)):
        count += len(found[i])
    return count


def lowered_words(line):
    count = 0
    for word in line.lower().split():
        count += len(word)
    return count


def stripped_words(line):
    count = 0
    for word in line.split():
        count += len(word.strip(".,;:!?"))
    return count


def hashed_words(line):
    count = 0
    for word in line.split():
        count += hash(word) & 1
    return count


def fields(line):
    count = 0
    for field in line.split(" "):
        count += len(field)
    return count


METHODS = {
    "for word in line.split()": words,
    "for word in line.lower().split()": lowered_words,
    "word.strip('.,;:!?')": stripped_words,
    "hash(word)": hashed_words,
    "line.split()[i]": words_by_index,
    "for field in line.split(' ')": fields,
    "len(line)": lambda line: len(line),
    "line.lower()": lambda line: len(line.lower()),
    "line.upper()": lambda line: len(line.upper()),
    "line.find('zzz')": lambda line: line.find("zzz"),
    "line.count('the')": lambda line: line.count("the"),
    "line.replace('the', 'a')": lambda line: len(line.replace("the", "a")),
    "'-'.join(line.split())": lambda line: len("-".join(line.split())),
}
NUMBERS = {
    "float('12.3')": lambda line: int(float(line)),
    "int(line[:-2])": lambda line: int(line[:-2]),
}


def over_lines(function):
    """A compiled loop that calls a function of a line for each line and sums up what it gives."""
    user = helper(function)

    @njit(nogil=True)
    def run(buffer, starts, stops, is_ascii, state):
        total = 0
        for i in range(starts.size):
            state[2] = 0
            total += user(text_of(buffer, starts[i], stops[i] - starts[i], is_ascii, state))
        return total

    return run


def laid_out(raw):
    buffer = np.frombuffer(raw + bytes(SLACK_BYTES), np.uint8)
    stops = np.flatnonzero(buffer[: len(raw)] == 10)
    starts = np.concatenate([[0], stops[:-1] + 1])
    arena, state = np.zeros(1 << 22, np.uint8), new_state()
    state[:2] = arena.ctypes.data, arena.size
    return buffer, starts, stops, state, arena


def best_seconds(call, times):
    found = []
    for _ in range(times):
        began = time.perf_counter()
        call()
        found.append(time.perf_counter() - began)
    return min(found)


def measure(raw, methods, unit, units):
    buffer, starts, stops, state, _arena = laid_out(raw)
    for is_ascii in (True, False) if raw.isascii() else (False,):
        print(f"{len(raw) / 1e6:.1f} MB, {starts.size} lines, {units} {unit}s, is_ascii={is_ascii}")
        for name, function in methods.items():
            run = over_lines(function)
            began = time.perf_counter()
            run(buffer, starts, stops, is_ascii, state)
            compiling = time.perf_counter() - began
            seconds = best_seconds(lambda: run(buffer, starts, stops, is_ascii, state), 7)  # noqa: B023 - called here
            print(
                f"  {name:34} {seconds * 1e9 / units:7.2f} ns a {unit} {len(raw) / seconds / 1e9:7.2f} GB/s"
                f"   {compiling:.2f} s to compile"
            )


def main():
    prose = gzip.decompress(Path(sys.argv[1] if len(sys.argv) > 1 else "../shared/data/kjv.txt.gz").read_bytes())
    measure(prose, METHODS, "word", len(prose.split()))
    accented = prose.replace(b"e ", "é ".encode())
    measure(accented, {name: METHODS[name] for name in list(METHODS)[:3]}, "word", len(accented.split()))
    drawn = random.Random(1)
    numbers = b"".join(b"%d.%d\n" % (drawn.randint(-99, 99), drawn.randrange(10)) for _ in range(200_000))
    measure(numbers, NUMBERS, "number", 200_000)


def test_compiled_words_are_found_many_times_as_fast_as_by_python():
    line = "And the earth was without form, and void; and darkness was upon the face of the deep."
    text = f"{line}\n" * 20_000
    buffer, starts, stops, state, _arena = laid_out(text.encode())
    run = over_lines(words)
    assert run(buffer, starts, stops, True, state) == sum(map(words, text.split("\n")))
    compiled = best_seconds(lambda: run(buffer, starts, stops, True, state), 5)
    assert compiled * 8 < best_seconds(lambda: sum(map(words, text.split("\n"))), 3)


if __name__ == "__main__":
    main()
