"""The user's line: the innermost caller that is not ours, and errors that take it as their place."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from kernelmill.engine.errors import Code, KernelmillError, error
from kernelmill.engine.origin import located, users_line


def called_from(module: str, path: str) -> str:
    scope: dict[str, object] = {"__name__": module, "users_line": users_line}
    exec(compile("\n\nline = users_line()", path, "exec"), scope)
    return str(scope["line"])


def test_a_path_below_the_working_directory_is_relative():
    assert called_from("report", os.path.join(os.getcwd(), "sub", "report.py")) == f"sub{os.sep}report.py:3"


def test_any_other_path_is_its_name():
    assert called_from("report", "/elsewhere/report.py") == "report.py:3"


def test_our_own_modules_are_nobodys_line():
    assert Path(__file__).name in called_from("kernelmill.engine.frame", "/elsewhere/frame.py")
    assert called_from("kernelmillion", "/elsewhere/own.py") == "own.py:3"


@pytest.mark.parametrize(("given", "expected"), [("", "report.py:3"), ("a.txt, byte 7", "a.txt, byte 7")])
def test_errors_without_a_place_get_the_users_line(given, expected):
    with pytest.raises(KernelmillError) as caught, located("report.py:3"):
        raise error(Code.CAST, "no", where=given)
    assert caught.value.where == expected


def test_a_command_line_is_no_line_of_a_file():
    assert called_from("click.core", "/elsewhere/click/core.py") == ""
