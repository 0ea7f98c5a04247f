"""What the repository must be as a whole: pins, links, shipped data, nothing of one machine in it."""

import hashlib
import os
import re
import subprocess
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
FOLDERS = ("engine", "kernels", "cluster", "bench", "tests", "data", "docs", "examples", "src", ".ci")


def our_files():
    """Every text file of ours: what git knows or would add, or the folders' files where there is no git."""
    try:
        listed = subprocess.run(
            ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
            cwd=ROOT, capture_output=True, check=True,
        )  # fmt: skip
        names = [name for name in listed.stdout.decode().split("\0") if name]
    except (OSError, subprocess.CalledProcessError):
        found = [*ROOT.glob("*"), *(path for folder in FOLDERS for path in (ROOT / folder).rglob("*"))]
        names = [str(path.relative_to(ROOT)) for path in found if "__pycache__" not in path.parts]
    return [ROOT / name for name in names if (ROOT / name).is_file() and not (ROOT / name).is_symlink()]


def texts(*suffixes):
    for path in our_files():
        data = path.read_bytes()
        if b"\0" not in data and (not suffixes or path.suffix in suffixes):
            yield path, data.decode("utf-8", "replace")


def project():
    return tomllib.loads((ROOT / "pyproject.toml").read_text())


def pins():
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    return dict(line.split(";")[0].strip().split("==") for line in lines if line and not line.startswith("#"))


def test_no_file_names_a_package_index_or_a_folder_of_somebodys_machine():
    # Written so that this file does not find itself.
    parts = [
        "--(?:extra-)?inde[x]-url",
        "--fin[d]-links",
        r"pyp[i]\.org",
        r"pythonhoste[d]\.org",
        r"://[^/\s]*/simpl[e]/",
    ]
    parts += [r"/roo[t]/", r"/hom[e]/\w+/", r"/User[s]/\w+/", r"/wor[k]/\w+/"]
    forbidden = re.compile("|".join(parts))
    found = [f"{path.relative_to(ROOT)}: {match[0]}" for path, text in texts() for match in forbidden.finditer(text)]
    assert found == []


def test_every_dependency_has_one_exact_pin_within_its_bounds():
    wanted = project()["project"]
    named = [*wanted["dependencies"], *(entry for extra in wanted["optional-dependencies"].values() for entry in extra)]
    packages = {re.match(r"[A-Za-z0-9_.-]+", entry)[0].lower() for entry in named} - {"kernelmill"}
    assert packages <= set(pins())
    assert all(re.fullmatch(r"\d+(\.\d+)+", version) for version in pins().values())


def test_constraints_hold_pins_and_comments_only():
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    assert all(line.startswith("#") or re.fullmatch(r"[a-z0-9-]+==[0-9.]+( ; .+)?", line) for line in lines)
    names = [line.split("==")[0] for line in lines if not line.startswith("#")]
    assert names == sorted(set(names))


@pytest.mark.parametrize("name", ["engine", "kernels", "cluster", "data"])
def test_the_public_face_reaches_the_real_folders_by_links(name):
    link = ROOT / "src" / "kernelmill" / name
    assert link.is_symlink()
    assert os.readlink(link) == f"../../{name}"
    assert (ROOT / name).is_dir()


def test_there_is_no_manifest_template_and_no_lock_file():
    assert [name for name in ("MANIFEST.in", "uv.lock", "poetry.lock", "Pipfile.lock") if (ROOT / name).exists()] == []


def test_the_book_is_as_its_page_says():
    rows = re.findall(
        r"\| kjv/(\S+) \| ([\d,]+) \| ([\d,]+) \| `(\w{64})` \|", (ROOT / "data" / "SOURCES.md").read_text()
    )
    books = sorted((ROOT / "data" / "kjv").glob("*.txt"))
    assert [row[0] for row in rows] == [book.name for book in books]
    assert len(books) == 66
    for book, (_, size, lines, digest) in zip(books, rows, strict=True):
        data = book.read_bytes()
        assert (len(data), data.count(b"\n")) == (int(size.replace(",", "")), int(lines.replace(",", "")))
        assert hashlib.sha256(data).hexdigest() == digest


def test_the_package_graph_is_as_its_page_says():
    data = (ROOT / "data" / "debian-packages.parquet").read_bytes()
    section = (ROOT / "data" / "SOURCES.md").read_text().split("## debian-packages.parquet")[1]
    assert f"| {len(data):,} bytes, `{hashlib.sha256(data).hexdigest()}` |" in section


def test_the_readme_starts_with_the_two_commands():
    head = (ROOT / "README.md").read_text().split("\n## ")[0]
    assert re.findall(r"^    (make \S+)", head, flags=re.M) == ["make demo", "make test"]


def test_make_help_lists_every_target():
    makefile = (ROOT / "Makefile").read_text()
    phony = re.search(r"^\.PHONY: (.*)$", makefile, flags=re.M)[1].split()
    described = re.findall(r"^([a-z0-9-]+):.*## ", makefile, flags=re.M)
    assert sorted(phony) == sorted(described)


def test_the_changelog_opens_with_unreleased():
    headings = re.findall(r"^## (.*)$", (ROOT / "CHANGELOG.md").read_text(), flags=re.M)
    assert headings[0] == "Unreleased"


def test_the_licence_is_apache_2_in_full():
    text = (ROOT / "LICENSE").read_text()
    assert "Version 2.0, January 2004" in text
    assert "END OF TERMS AND CONDITIONS" in text
