"""`kernelmill config` and `kernelmill error`: settings with their origin, and the table of errors."""

from __future__ import annotations

import difflib

import click

from kernelmill.engine.cli.console import common_options, print_json, print_text, table_text
from kernelmill.engine.errors import Code, KernelmillError, error
from kernelmill.engine.settings import listing


@click.command(short_help="List the settings, their values and where each was given.")
@click.option("--json", "as_json", is_flag=True, help="Print them as JSON.")
@common_options
def config(as_json: bool) -> None:
    """List every setting with its value and where it was given."""
    rows = listing()
    if as_json:
        print_json([{"name": row.name, "value": row.value, "origin": row.origin} for row in rows])
    else:
        print_text(table_text(["setting", "value", "from"], rows))


@click.command("error", short_help="Explain an error code, or list them all.")
@click.argument("code", required=False)
@click.option("--json", "as_json", is_flag=True, help="Print as JSON.")
@click.option("--page", is_flag=True, help="Print the page docs/errors.md.")
@common_options
def explain_error(code: str | None, as_json: bool, page: bool) -> None:
    """Explain CODE, such as KM0204; without it, list all codes."""
    if page:
        print_text(errors_page(), newline=False)
        return
    chosen = list(Code) if code is None else [_code(code)]
    if as_json:
        print_json([{"code": one.id, "class": _class_of(one).__name__, "about": one.value.about} for one in chosen])
    elif code is None:
        print_text(
            table_text(["code", "class", "about"], [(c.id, _class_of(c).__name__, c.value.about) for c in chosen])
        )
    else:
        print_text(f"{chosen[0].id} {_class_of(chosen[0]).__name__}: {chosen[0].value.about}")
        also = f"; it is also a {_builtin_of(chosen[0])}" if _builtin_of(chosen[0]) else ""
        print_text(f"catch it as kernelmill.errors.{_class_of(chosen[0]).__name__}{also}")


def _code(text: str) -> Code:
    wanted = text.strip().upper()
    for one in Code:
        if wanted in (one.id, one.name):
            return one
    near = difflib.get_close_matches(wanted, [one.id for one in Code], n=1)
    hint = f"did you mean {near[0]}? kernelmill error lists them all" if near else "kernelmill error lists them all"
    raise error(Code.UNKNOWN_NAME, f"there is no error code {text!r}", hint=hint)


def _class_of(code: Code) -> type[KernelmillError]:
    return type(error(code, ""))


def _builtin_of(code: Code) -> str:
    """The built-in exception that this error also is, or nothing if only Exception."""
    names = [base.__name__ for base in _class_of(code).__mro__ if base.__module__ == "builtins"]
    return next((name for name in names if name not in ("Exception", "BaseException", "object")), "")


def errors_page() -> str:
    """The text of docs/errors.md, made from the table of codes; a test keeps the file equal to it."""
    lines = [
        "# Errors",
        "",
        "Every error has a code that never changes its meaning, a class in `kernelmill.errors`, the place it arose at",
        "and what to do. `kernelmill error CODE` explains one on the command line. This page is made by",
        "`kernelmill error --page > docs/errors.md` from the table in `engine/errors.py`.",
        "",
        "| code | class | also a | about |",
        "|---|---|---|---|",
    ]
    for one in Code:
        also = f"`{_builtin_of(one)}`" if _builtin_of(one) else ""
        lines.append(f"| {one.id} | `{_class_of(one).__name__}` | {also} | {one.value.about} |")
    return "\n".join(lines) + "\n"
