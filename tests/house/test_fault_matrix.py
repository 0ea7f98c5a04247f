"""The table of faults in docs/design names tests that are there, all of them, and what the simulation really counts."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
TESTS = ROOT / "tests" / "cluster"
FOLDERS = ("faults", "netns")
ROWS = 28
TEXT = (ROOT / "docs" / "design" / "cluster-fault-tests.md").read_text()


def functions_of(path):
    return [node for node in ast.parse(path.read_text()).body if isinstance(node, ast.FunctionDef)]


def rows():
    """Number -> (fault, tests with processes, the rest), as text."""
    cells = [line.strip("|").split("|") for line in TEXT.splitlines() if re.match(r"\| \d+ \|", line)]
    return {int(number): (fault.strip(), real, other) for number, fault, real, other in cells}


def named_tests(text):
    """(module, function) of each test that a cell names: a module stands before a colon."""
    module, found = "", []
    for name, colon in re.findall(r"`(test_\w+)`(:?)", text):
        if colon:
            module = name
        else:
            found.append((module, name))
    return found


REAL = {path.stem: path for folder in FOLDERS for path in (TESTS / folder).glob("test_*.py")}
STRIKING = {
    (stem, one.name)
    for stem, path in REAL.items()
    for one in functions_of(path)
    if one.name.startswith("test_") and "strikes" in {argument.arg for argument in one.args.args}
}

EVERYWHERE = {one.name for path in TESTS.rglob("test_*.py") for one in functions_of(path)}


def test_every_fault_has_its_row():
    assert sorted(rows()) == list(range(1, ROWS + 1))


@pytest.mark.parametrize("number", rows())
def test_a_row_names_tests_with_processes_that_say_how_often_they_struck(number):
    fault, real, other = rows()[number]
    named = named_tests(real)
    assert named, f"nothing with processes holds {fault!r}"
    assert [one for one in named if one not in STRIKING] == []
    assert [name for _, name in named_tests(other) if name not in EVERYWHERE] == []


def test_what_a_row_says_of_the_simulation_is_counted_there():
    source = (TESTS / "simulation" / "test_cluster_simulation.py").read_text()
    (sometimes,) = [
        ast.literal_eval(node.value)
        for node in ast.parse(source).body
        if isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") == "SOMETIMES"
    ]
    named = {name for _, _, other in rows().values() for name in re.findall(r'"([^"]+)"', other)}
    assert named and named <= set(sometimes)
