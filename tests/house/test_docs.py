"""Pages keep pace with the code: their links, modules, names, error codes and drawn tables."""

import re
import tomllib
from pathlib import Path
from typing import get_args

import pytest

from kernelmill.engine import events
from kernelmill.engine.errors import Code
from kernelmill.engine.settings import SETTING_NAMES

ROOT = Path(__file__).resolve().parents[2]
DESIGN = ROOT / "docs" / "design"
ARCHITECTURE = ROOT / "ARCHITECTURE.md"
NOTES = sorted(path for path in DESIGN.glob("*.md") if path.name != "README.md")
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "bench").rglob("*.md")])
OURS = [ARCHITECTURE, DESIGN / "README.md", *NOTES]
HEADS = ["Context", "Decision", "Cost", "What would change our mind"]

_PATH = re.compile(r"(?<![\w./-])(?:engine|kernels|cluster|tests|bench|docs|data|src)/[\w./-]*\w")


def name_of(page):
    return str(page.relative_to(ROOT))


def anchors_of(page):
    """The anchors of a page's headings, as the usual viewers make them."""
    headings = re.findall(r"^#+ (.*)$", page.read_text(), flags=re.M)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


def rows_of(page, head):
    """The cells of the table whose head begins with these titles."""
    lines = page.read_text().splitlines()
    start = next(at for at, line in enumerate(lines) if line.startswith(head))
    rows = []
    for line in lines[start + 2 :]:
        if not line.startswith("|"):
            break
        rows.append([cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]])
    return rows


def exists(path):
    """A file or folder of ours, a module without its suffix, or a part of the package by its import path."""
    return (ROOT / path).exists() or (ROOT / f"{path}.py").is_file()


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_links_between_pages_lead_somewhere(page):
    broken = []
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text()):
        if "://" in target:
            continue
        path, _, anchor = target.partition("#")
        there = (page.parent / path).resolve() if path else page
        if not there.exists() or (anchor and anchor not in anchors_of(there)):
            broken.append(target)
    assert broken == []


@pytest.mark.parametrize("page", OURS, ids=name_of)
def test_modules_and_files_that_a_page_names_are_there(page):
    text = re.sub(r"\]\([^)]*\)", "]", page.read_text())  # links are another test's
    assert [path for path in _PATH.findall(text) if not exists(path)] == []


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_error_codes_that_a_page_names_are_in_the_table(page):
    known = {code.id for code in Code}
    assert sorted(set(re.findall(r"\bKM\d{4}\b", page.read_text())) - known) == []


def test_every_note_is_in_the_index_once():
    linked = re.findall(r"\]\(([\w-]+\.md)\)", (DESIGN / "README.md").read_text())
    assert sorted(linked) == [note.name for note in NOTES]


@pytest.mark.parametrize("note", NOTES, ids=name_of)
def test_a_note_has_context_decision_cost_and_what_would_change_our_mind(note):
    heads = re.findall(r"^\*\*([A-Z][\w ]*)", note.read_text(), flags=re.M)
    assert list(dict.fromkeys(heads)) == HEADS


def test_words_are_defined_in_the_modules_that_the_table_names():
    missing = []
    for word, _, module in rows_of(ARCHITECTURE, "| word |"):
        name, source = word.strip("`"), (ROOT / module.strip("`")).read_text()
        if not re.search(rf"^(class {name}\b|{name}(: \w+)? = )", source, flags=re.M):
            missing.append(f"{name} in {module}")
    assert missing == []


def test_the_drawn_layers_are_those_of_the_contract():
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    layers = next(one["layers"] for one in contracts if one.get("containers") == ["kernelmill.engine"])
    section = ARCHITECTURE.read_text().split("## Packages and layers")[1]
    drawn = re.search(r"(?:^    [\w. :|]+\n)+", section, flags=re.M)[0]
    assert [line.strip() for line in drawn.splitlines()] == layers


def test_each_invariant_stands_once_with_its_tests():
    text = ARCHITECTURE.read_text().split("## Invariants")[1]
    parts = re.findall(r"^(I\d)\. (.*?)(?=^I\d\. |^The cluster will)", text, flags=re.M | re.S)
    assert [number for number, _ in parts] == [f"I{number}" for number in range(1, 9)]
    assert [number for number, part in parts if "`tests/" not in part] == []


def test_the_settings_of_the_note_are_those_of_the_code():
    rows = rows_of(DESIGN / "settings.md", "| setting |")
    assert [row[0].strip("`") for row in rows] == list(SETTING_NAMES)


def test_the_dependencies_of_the_note_are_those_of_the_project():
    wanted = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
    rows = rows_of(DESIGN / "dependencies.md", "| package |")
    assert sorted(row[0] for row in rows) == sorted(re.match(r"[\w-]+", entry)[0] for entry in wanted)


def test_the_events_of_the_note_are_those_of_the_stream():
    named = re.findall(r"`((?:Job|Phase|Stage|Task|Spill)[A-Z]\w+)`", (DESIGN / "events-and-progress.md").read_text())
    assert {event.__name__ for event in get_args(events.AnyEvent)} == set(named)
