"""The page "Write a map and a reduce" does what it says: its code runs from top to bottom."""

import re
from pathlib import Path

import pytest

import kernelmill as km

PAGE = Path(__file__).resolve().parents[2] / "docs" / "mapreduce.md"


@pytest.mark.filterwarnings("ignore::kernelmill.InterpretedFunctionWarning")
def test_the_code_of_the_page_runs(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "books").mkdir()
    (tmp_path / "books" / "a.txt").write_text("to be or not\nto be\n")
    (tmp_path / "books" / "b.txt").write_text("that is to be\n")
    (tmp_path / "sales.txt").write_text("DE;1.5\nDE;2\nFR;\nIT;x\n")
    names = {}
    for code in re.findall(r"^```python\n(.*?)^```", PAGE.read_text(), flags=re.M | re.S):
        exec(compile(code, "page.py", "exec"), names)
    said = capsys.readouterr().out
    assert "[('be', 2), ('not', 1), ('or', 1), ('to', 2)]" in said
    assert "[(3,), (2,), (1,), (2,), (1,)]" in said and "[{'n': 2}, {'n': 1}, {'n': 2}, {'n': 1}]" in said
    assert "parsed/: 1 file, 1 row · sizes: 2 rows · strange: 2 rows" in said
    assert "[('FR;',), ('IT;x',)]" in said
    assert "[(1, 1), (2, 1), (3, 1), (4, 1), (7, 7), (8, 7)]" in said
    assert "[('is', 13, 13)]" in said
    assert "the same as plain Python" in said and "[('a', 3), ('b', 3)]" in said
    assert dict(km.read_parquet("counts").rows()) == {"to": 3, "be": 3, "or": 1, "not": 1, "that": 1, "is": 1}
    assert km.read_parquet("totals.parquet").rows() == [("DE", 3.5)]
    assert names["result"].counters == {"lines": 2} and sum(names["result"].rejects.values()) == 2
