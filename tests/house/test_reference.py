"""Pages that are made from code are equal to it."""

from pathlib import Path

import pytest

from kernelmill.engine.cli.house import errors_page
from kernelmill.engine.errors import Code, KernelmillError, error

ROOT = Path(__file__).resolve().parents[2]


def test_the_page_of_errors_is_made_from_the_table():
    assert (ROOT / "docs" / "errors.md").read_text() == errors_page()


@pytest.mark.parametrize("code", list(Code))
def test_every_code_has_a_class_and_its_text(code):
    problem = error(code, "what", where="file, byte 12", hint="do this")
    assert isinstance(problem, KernelmillError)
    assert str(problem) == f"[{code.id}] what\n  at file, byte 12\n  fix: do this"


def test_codes_and_wire_names_are_unique():
    assert len({code.id for code in Code}) == len(Code) == len({code.value.wire for code in Code})
