"""Rules about imports that no linter knows, and what loading a module may load."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("engine", "kernels", "cluster")
HEAVY = {"pyarrow", "numpy", "numba", "llvmlite", "zmq"}


def modules(*folders):
    for folder in folders:
        for path in sorted((ROOT / folder).rglob("*.py")):
            yield path, ast.parse(path.read_text(), str(path))


def loaded_by(statement):
    """The top-level packages in sys.modules after running `statement` in a fresh interpreter."""
    return {name.split(".")[0] for name in modules_loaded_by(statement)}


def modules_loaded_by(statement):
    report = "import sys; print(*sys.modules, file=sys.stderr)"
    code = f"{statement}\n{report}"
    done = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=True)
    return set(done.stderr.split())


def imported_names(node):
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    return [node.module or ""] if isinstance(node, ast.ImportFrom) else []


def test_import_kernelmill_loads_nothing_heavy():
    assert loaded_by("import kernelmill") & HEAVY == set()


def test_a_masters_modules_load_neither_arrow_nor_numba():
    names = ["errors", "ids", "splits", "plan.stages", "schedule"]
    names = [*(f"engine.{name}" for name in names), "cluster.wire", "cluster.journal.opening"]
    statement = "; ".join(f"import kernelmill.{name}" for name in names)
    assert loaded_by(statement) & (HEAVY | {"cloudpickle"}) == set()


def test_settings_and_events_load_neither_arrow_nor_numba():
    assert loaded_by("import kernelmill.engine.settings, kernelmill.engine.progress") & HEAVY == set()


def test_building_a_plan_does_not_load_numba():
    statement = (
        "import kernelmill as km\n"
        f"frame = km.scan_text({str(ROOT / 'data' / 'kjv' / '65-jude.txt')!r})\n"
        "frame.select(word=km.col('line').str.tokenize()).explode('word').group_by('word').agg(km.len()).explain()"
    )
    assert loaded_by(statement) & {"numba", "llvmlite", "zmq"} == set()


def test_a_plan_of_verbs_on_text_loads_nothing_dear_that_it_has_no_use_for():
    text = str(ROOT / "data" / "kjv" / "65-jude.txt")
    plan = f"km.scan_text({text!r}).select(w=km.col('line').str.tokenize()).explode('w').group_by('w').agg(km.len())"
    statement = f"import kernelmill as km; import kernelmill.engine.execute; {plan}.explain()"
    assert modules_loaded_by(statement) & {"pyarrow.compute", "pyarrow.parquet", "html.entities"} == set()


def test_a_word_count_that_is_written_never_loads_what_computes_on_arrow(tmp_path):
    text = str(ROOT / "data" / "kjv" / "01-genesis.txt")
    plan = f"km.scan_text({text!r}).select(w=km.col('line').str.tokenize()).explode('w').group_by('w').agg(km.len())"
    statement = f"import kernelmill as km; {plan}.sink_parquet({str(tmp_path / 'out')!r}, progress=False)"
    loaded = modules_loaded_by(statement)
    assert "pyarrow.parquet" in loaded
    assert "pyarrow.compute" not in loaded


@pytest.mark.parametrize(
    "arguments",
    [["--help"], ["--version"], ["wordcount", "--help"], ["demo", "--help"], ["keys", "--help"], ["config"], ["error"]],
)
def test_the_help_of_the_command_line_loads_nothing_heavy(arguments):
    statement = f"from kernelmill.engine.cli.group import run\nassert run({arguments!r}) == 0"
    assert loaded_by(statement) & HEAVY == set()


def test_imports_are_absolute_and_no_folder_is_imported_by_its_bare_name():
    found = []
    for path, tree in modules(*PACKAGES, "src/kernelmill", "tests", "bench", "examples"):
        for node in ast.walk(tree):
            bare = any(name.split(".")[0] in PACKAGES for name in imported_names(node))
            relative = isinstance(node, ast.ImportFrom) and node.level > 0
            star = isinstance(node, ast.ImportFrom) and any(alias.name == "*" for alias in node.names)
            if bare or relative or star:
                found.append(f"{path.relative_to(ROOT)}:{node.lineno}")
    assert found == []


def test_our_own_modules_are_imported_at_the_head_of_a_file():
    found = set()
    for path, tree in modules(*PACKAGES):
        for function in ast.walk(tree):
            if not isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef):
                continue
            for node in ast.walk(function):
                if any(name.split(".")[0] == "kernelmill" for name in imported_names(node)):
                    found.add(str(path.relative_to(ROOT)))
    assert found == set()


def test_only_what_compiles_uses_numbas_decorators():
    decorators = {"njit", "jit", "vectorize", "guvectorize", "cfunc", "stencil"}
    found = []
    for path, tree in modules(*PACKAGES):
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("numba"):
                used = {alias.name for alias in node.names} & decorators
                found += [str(path.relative_to(ROOT))] if used else []
            if (
                isinstance(node, ast.Attribute)
                and node.attr in decorators
                and getattr(node.value, "id", "") in ("numba", "nb")
            ):
                found.append(str(path.relative_to(ROOT)))
    compilers = ("kernels/_compile.py", "kernels/text/jitting.py", "kernels/functions/")
    assert [path for path in found if not path.startswith(compilers)] == []


def test_every_package_has_an_init_that_imports_nothing():
    for folder in PACKAGES:
        for path in sorted((ROOT / folder).rglob("*.py")):
            assert (path.parent / "__init__.py").is_file(), path.parent
    for path, tree in modules(*PACKAGES):
        if path.name == "__init__.py":
            assert [node for node in ast.walk(tree) if isinstance(node, ast.Import | ast.ImportFrom)] == [], path


def test_library_code_has_no_print_and_nothing_unfinished():
    words = ("TO" + "DO", "FIX" + "ME", "XX" + "X:")
    found = []
    for path, tree in modules(*PACKAGES, "src/kernelmill"):
        name = str(path.relative_to(ROOT))
        found += [f"{name}: {word}" for word in words if word in path.read_text()]
        for node in ast.walk(tree):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "print":
                found += [f"{name}:{node.lineno}: print"] if name != "engine/frame.py" else []  # show() prints
            if isinstance(node, ast.Raise) and "NotImplementedError" in ast.unparse(node):
                found.append(f"{name}:{node.lineno}: a stub")
    assert found == []
