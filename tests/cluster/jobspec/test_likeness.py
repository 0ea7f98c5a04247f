"""The likeness of a job is the same in every process, and another one as soon as the job would do something else."""

import os
import re
import subprocess
import sys
import textwrap
import threading

import pytest

from kernelmill.cluster.jobspec.code import Contents
from kernelmill.cluster.jobspec.likeness import likeness_of
from kernelmill.engine.errors import Code, KernelmillError
from kernelmill.engine.userfunctions import UserFunction

BASE = """
    import abc, enum, re, functools, collections, dataclasses
    STOP = {"the", "a", "of", "and", "in", "to", "they", "we"}
    WORD = re.compile("[a-z]+")
    LIMIT = 3
    Pair = collections.namedtuple("Pair", "a b")

    @dataclasses.dataclass
    class Rule:
        least: int = 2
        def holds(self, n):
            return n >= self.least

    class Level(enum.Enum):
        LOW = 1

    class Base(abc.ABC):
        __slots__ = ("own",)

        @functools.lru_cache
        def of(self, word):
            return word

        @abc.abstractmethod
        def at(self): ...

    class Seen(Base):
        def __init__(self):
            self.own = {"level": Level.LOW}

        def at(self):
            return self.own["level"]

    RULE = Rule()
    SEEN = Seen()

    def helper(word):
        return helper(word[1:]) if word.startswith("x") else word.lower()

    def make(threshold):
        def map(line, emit, extra=(1, 2)):
            for word in WORD.findall(line):
                if word not in STOP and len(word) > threshold and RULE.holds(len(word)) and word in {"p", "q", "r"}:
                    emit(helper(word), LIMIT + SEEN.at().value)
        return map

    map = make(5)
"""


def likeness(text, given=None):
    space = {"__name__": "__main__"}
    exec(compile(textwrap.dedent(text), "job.py", "exec"), space)
    function = UserFunction(given(space) if given else space["map"], "map", "map", "job.py:1", {})
    return likeness_of(Contents((function,), {}, None), [b"plan"])


def test_it_is_the_same_in_processes_whose_hashes_differ(tmp_path):
    script = tmp_path / "likeness.py"
    script.write_text(
        textwrap.dedent(BASE)
        + textwrap.dedent("""
        from kernelmill.cluster.jobspec.code import Contents
        from kernelmill.cluster.jobspec.likeness import likeness_of
        from kernelmill.engine.userfunctions import UserFunction
        function = UserFunction(map, "map", "map", "job.py:1", {"side": {"x", "y", "z", "words"}})
        print(likeness_of(Contents((function,), {}, None), [b"plan"]).hex())
        """)
    )
    path = {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    found = set()
    for seed in ("1", "2", "3"):
        environment = os.environ | path | {"PYTHONHASHSEED": seed}
        done = subprocess.run([sys.executable, str(script)], env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        found.add(done.stdout)
    assert len(found) == 1 and len(found.pop()) == 65


def test_lines_comments_and_files_do_not_count():
    assert likeness(BASE) == likeness("\n\n    # a comment\n" + BASE) == likeness(BASE)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ('"they"', '"them"'),  # in a set outside
        ('"[a-z]+"', '"[a-z0-9]+"'),
        ("LIMIT = 3", "LIMIT = 4"),
        ("LIMIT = 3", "LIMIT = 3.0"),
        ("make(5)", "make(6)"),  # in a closure
        ("extra=(1, 2)", "extra=(1, 3)"),
        ('"p", "q"', '"p", "k"'),  # in a set of the code
        ("word.lower()", "word.upper()"),  # in a function that it calls
        ("n >= self", "n > self"),  # in a method of an object that it holds
        ("RULE = Rule()", "RULE = Rule(7)"),
        ("emit(helper(word), ", "emit(word, 1); emit(helper(word), "),
        ("LOW = 1", "LOW = 2"),
        ("return word\n", "return word * 2\n"),  # in a method with a cache
    ],
)
def test_whatever_the_function_does_or_sees_counts(before, after):
    assert before in BASE
    assert likeness(BASE) != likeness(BASE.replace(before, after))


def test_what_the_function_does_not_look_at_does_not_count():
    assert likeness(BASE) == likeness(BASE.replace('"Pair", "a b"', '"Pair", "a b c"'))


def test_the_other_parts_and_the_role_count():
    def of(role, other):
        return likeness_of(Contents((UserFunction(len, role, "f", "", {}),), {}, None), [other])

    assert len({of("map", b"1"), of("map", b"2"), of("reduce", b"1")}) == 3


def test_functions_of_installed_modules_count_by_their_name():
    def of(function):
        return likeness_of(Contents((UserFunction(function, "map", "f", "", {}),), {}, None), [])

    assert of(re.escape) == of(re.escape) != of(re.compile)
    assert of("abc".startswith) != of("abd".startswith)


def test_an_object_that_cannot_be_compared_is_named():
    lock = threading.Lock()

    def map(line, emit):
        with lock:
            emit(line)

    with pytest.raises(KernelmillError) as caught:
        likeness_of(Contents((UserFunction(map, "map", "map", "", {}),), {}, None), [])
    assert caught.value.code is Code.BAD_SETTING
    assert "lock" in caught.value.what
