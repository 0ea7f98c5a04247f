"""The likeness of a job is the same in every process, and another one as soon as the job would do something else."""

import importlib
import os
import re
import subprocess
import sys
import textwrap
import threading
from types import FunctionType, ModuleType

import pytest

from kernelmill.cluster.jobspec.code import Contents
from kernelmill.cluster.jobspec.likeness import code_digest, likeness_of
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

    class Kind(type):
        rank = 1

    class Ranked(metaclass=Kind):
        __hash__ = None
        shown = classmethod(lambda cls, *more: more)

    class Text(str):
        pass

    class Heap(list):
        pass

    class Words(set):
        pass

    class Falling(dict):
        def __missing__(self, key):
            return 7

    class Mark(enum.IntEnum):
        ONE = 1

    TEXT = Text("t")
    TEXT.more = 1
    HEAP = Heap([1])
    HEAP.more = 2
    WORDS = Words({"x", "y", "z", "w"})
    WORDS.more = 3
    FALLING = Falling(a=1)
    COUNTS = collections.defaultdict(int)
    FIRST = functools.partial(max, 0)
    FIRST.note = 4

    def seen(word):
        return TEXT, HEAP, WORDS, FALLING, COUNTS, FIRST, Mark.ONE, Ranked, seen.least

    seen.least = 5

    def careful(word):
        try: number = int(word); share = 6 // number
        except ZeroDivisionError: share = 0
        return share

    def helper(word):
        seen(careful(word))
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
        from kernelmill.cluster.jobspec.likeness import code_digest, likeness_of
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
        ("rank = 1", "rank = 2"),  # in a metaclass
        ("__hash__ = None", "__hash__ = len"),
        ("shown = classmethod", "shown = staticmethod"),
        ("TEXT.more = 1", "TEXT.more = 2"),  # state of what is a text besides
        ("HEAP.more = 2", "HEAP.more = 1"),
        ("HEAP = Heap([1])", "HEAP = Heap([2])"),
        ("WORDS.more = 3", "WORDS.more = 1"),
        ('"z", "w"}', '"z", "v"}'),
        ("WORDS = Words({", "WORDS = Heap({"),
        ("return 7", "return 8"),
        ("Falling(a=1)", "Falling(a=2)"),
        ("Falling(a=1)", "collections.OrderedDict(a=1)"),
        ("defaultdict(int)", "defaultdict(list)"),
        ("FIRST.note = 4", "FIRST.note = 5"),
        ("ONE = 1", "ONE = 2"),
        ("seen.least = 5", "seen.least = 6"),  # an attribute of a function
        ("try: number = int(word); share", "number = int(word)\n        try: share"),  # the same instructions
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


def imported(folder, name, text):
    """The module `name` of a folder, as a program that starts now would find it."""
    sys.modules.pop(name, None)
    (folder / f"{name}.py").write_text(textwrap.dedent(text))
    importlib.invalidate_caches()
    return importlib.import_module(name)


@pytest.fixture
def beside(tmp_path, monkeypatch):
    """Makes modules beside the program, which runs in their folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    yield lambda name, text: imported(tmp_path, name, text)
    for name in [
        name
        for name, module in sys.modules.items()
        if (getattr(module, "__file__", "") or "").startswith(str(tmp_path))
    ]:
        del sys.modules[name]


CALLS = """
    def map(line, emit):
        emit(likened.norm(line), 1)
"""


@pytest.mark.parametrize(
    ("before", "after"),
    [("lower()", "upper()"), ("LIMIT = 3", "LIMIT = 4"), ("inner.last", "inner.first")],
)
def test_a_module_beside_the_program_counts_with_what_is_in_it(beside, before, after):
    text = """
    import likened_inner as inner
    LIMIT = 3
    def norm(word):
        return inner.last(word.lower()[:LIMIT])
    """
    assert before in text

    def of(text):
        beside("likened_inner", "def last(word): return word[-1]\ndef first(word): return word[0]")
        module = beside("likened", text)
        return likeness(
            "likened = None" + textwrap.dedent(CALLS), lambda space: space.update(likened=module) or space["map"]
        )

    assert of(text) == of("\n\n" + text) != of(text.replace(before, after))


def test_a_module_that_workers_have_counts_by_its_name(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(tmp_path))

    def of(text):
        module = imported(tmp_path, "likened_far", text)
        return likeness(
            "likened = None" + textwrap.dedent(CALLS), lambda space: space.update(likened=module) or space["map"]
        )

    try:
        assert of("def norm(word): return 1") == of("def norm(word): return 22")
    finally:
        del sys.modules["likened_far"]


def test_a_module_that_was_made_by_the_program_counts_with_what_is_in_it():
    def of(value):
        module = ModuleType("likened_made")
        module.norm = value
        return likeness(
            "likened = None" + textwrap.dedent(CALLS), lambda space: space.update(likened=module) or space["map"]
        )

    assert of(1) == of(1) != of(2)


def test_what_goes_around_in_a_set_is_an_error_and_no_crash():
    class Round:
        pass

    one = Round()
    one.all = {one}
    with pytest.raises(KernelmillError) as caught:
        likeness_of(Contents((UserFunction(len, "map", "map", "", {"side": one}),), {}, None), [])
    assert caught.value.code is Code.BAD_SETTING


CAREFUL = """
    import functools
    def careful(word):
        try: number = int(word); share = 6 // number
        except ZeroDivisionError: share = 0
        return share
    careful.least = 5

    @functools.wraps(careful)
    def around(*given):
        return around.__wrapped__(*given)
"""


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("least = 5", "least = 6"),
        ("try: number = int(word); share", "number = int(word)\n        try: share"),
        ("6 // number", "7 // number"),
    ],
)
@pytest.mark.parametrize("name", ["careful", "around"])
def test_the_digest_of_code_counts_attributes_where_a_try_begins_and_what_is_wrapped(name, before, after):
    def of(text):
        space = {"__name__": "elsewhere"}
        exec(compile(textwrap.dedent(text), "job.py", "exec"), space)
        assert isinstance(space[name], FunctionType)
        return code_digest(space[name])

    assert before in CAREFUL
    assert of(CAREFUL) == of("\n\n" + CAREFUL) != of(CAREFUL.replace(before, after))
