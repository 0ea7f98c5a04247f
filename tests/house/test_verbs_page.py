"""The page of verbs names all that frames and expressions can do, and its code runs."""

import re
from pathlib import Path

import pytest

import kernelmill as km
from kernelmill.engine.expr import Expr
from kernelmill.engine.frame import LazyFrame
from kernelmill.engine.grouping import GroupBy
from kernelmill.engine.namespaces import DateTimeNamespace, StringNamespace
from kernelmill.engine.nestednamespaces import ListNamespace, StructNamespace

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "verbs.md").read_text()
NAMED = {word for code in re.findall(r"`([^`\n]+)`", PAGE) for word in re.findall(r"\w+", code)}
NAMESPACES = {".str": StringNamespace, ".dt": DateTimeNamespace, ".list": ListNamespace, ".struct": StructNamespace}


def public(owner) -> set[str]:
    return {name for name in dir(owner) if not name.startswith("_")}


@pytest.mark.parametrize("owner", [LazyFrame, GroupBy, Expr])
def test_all_names_are_on_the_page(owner):
    assert public(owner) - NAMED - {"node", "nodes"} == set()


@pytest.mark.parametrize("name", NAMESPACES)
def test_a_namespace_has_the_members_of_its_row(name):
    (row,) = re.findall(rf"^\| `{re.escape(name)}` \| `([\w ]+)` \|$", PAGE, flags=re.M)
    assert set(row.split()) == public(NAMESPACES[name])


def test_a_verb_of_the_table_is_one():
    table = PAGE.split("| verb |")[1].split("\n\n")[0]
    verbs = {name for row in table.splitlines()[2:] for name in re.findall(r"`([\w.]+)`", row.split("|")[1])}
    assert verbs - public(LazyFrame) == {"km.concat"} and callable(km.concat)


def test_the_code_of_the_page_runs(capsys):
    (code,) = re.findall(r"^```python\n(.*?)^```", PAGE, flags=re.M | re.S)
    exec(compile(code, "page.py", "exec"), {})
    said = capsys.readouterr().out.strip()
    assert said.startswith("[('Bergen', 1,") and f"# {said}\n" in code
