"""Make data/debian-packages.parquet, a graph of 63 thousand packages, from the package index of a Debian release.

    /usr/lib/apt/apt-helper cat-file /var/lib/apt/lists/*_bookworm_main_binary-amd64_Packages* \
        | python data/make_packages.py

One row a package of the index, in the index's order. `depends` names the first alternative of each dependency, without
versions and architectures, as often as the package names it: `libc6 (>= 2.34), awk | mawk` gives libc6 and awk.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

TYPES: dict[str, pa.DataType] = {
    "package": pa.string(),
    "section": pa.string(),
    "installed_kib": pa.int64(),
    "depends": pa.list_(pa.string()),
}


def paragraphs(lines: Iterable[str]) -> Iterator[dict[str, str]]:
    """The fields of each package; lines that continue a field are left out, none of those used here has any."""
    fields: dict[str, str] = {}
    for line in lines:
        name, colon, value = line.rstrip("\n").partition(": ")
        if colon and not line.startswith(" "):
            fields[name] = value
        elif not line.strip() and fields:
            yield fields
            fields = {}
    if fields:
        yield fields


def row_of(fields: dict[str, str]) -> dict[str, object]:
    """The row of one package."""
    depends = [entry.strip() for entry in fields.get("Depends", "").split(",") if entry.strip()]
    return {
        "package": fields["Package"],
        "section": fields["Section"],
        "installed_kib": int(fields.get("Installed-Size", 0)),
        "depends": [re.split(r"[\s(:|]", entry, maxsplit=1)[0] for entry in depends],
    }


def main() -> None:
    """Write the file from the index on standard input."""
    rows = [row_of(fields) for fields in paragraphs(sys.stdin)]
    path = Path(__file__).parent / "debian-packages.parquet"
    pq.write_table(pa.Table.from_pylist(rows, pa.schema(TYPES)), path, compression="zstd", compression_level=19)


if __name__ == "__main__":
    main()
