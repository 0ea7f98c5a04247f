"""What the examples read: texts and a graph that ship with the project, and seeded generators for what does not.

A generator writes the same bytes for the same arguments. Its data are as bad as real ones: some records are wrong.
"""

from __future__ import annotations

import argparse
import random
import string
from collections.abc import Sequence
from itertools import accumulate
from pathlib import Path
from typing import Any

DATA = Path(__file__).resolve().parents[1] / "data"
KJV = str(DATA / "kjv" / "*.txt")
"""The King James Bible: a file for each book, a line for each verse."""
PACKAGES = str(DATA / "debian-packages.parquet")
"""The packages of Debian 12: package, section, installed_kib, depends (a list of packages)."""


def arguments(description: str, name: str, inputs: Sequence[Any] | str = (), **more: Any) -> argparse.Namespace:
    """The arguments of an example called `name`: `inputs`, by default those given here, and `output`.

    Each of `more` is an option with its default: `top=10` is `--top`, and as in the default it is an int.
    """
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("inputs", nargs="*", help="files, globs or folders; default: what ships or is made")
    parser.add_argument("-o", "--output", default=f"build/{name}", help="the folder to write; default: %(default)s")
    for option, default in more.items():
        parser.add_argument(f"--{option}", type=type(default), default=default, help="default: %(default)s")
    given = parser.parse_args()
    given.inputs = given.inputs or inputs
    Path(given.output).parent.mkdir(parents=True, exist_ok=True)
    return given


def made(folder: Path | str, name: str) -> Path:
    """The path of a generated input, beside an example's output; folders are made."""
    path = Path(folder).parent / "inputs" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    return path


# A web server's log --------------------------------------------------------------------------------------------------

_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
_AGENTS = (
    "Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0",
    "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/17.4 Safari/605",
    "curl/8.5.0",
    'feed-reader \\"nightly\\" (+https://reader.example/bot)',
)
_NO_REQUESTS = (  # what servers log when no request came: a time-out, a scan with TLS where none is spoken
    '"-" 408 - "-" "-"',
    r'"\x16\x03\x01\x02" 400 226 "-" "-"',
)


def write_access_log(path: Path | str, lines: int = 100_000, seed: int = 1) -> str:
    """Write a log in the combined format: few pages get most hits; 1 line in 100 has no request or is cut off."""
    rng = random.Random(seed)
    pages = ["/", "/about", "/feed.xml", *(f"/posts/{year}/{n:03}" for year in range(2015, 2025) for n in range(200))]
    weights = list(accumulate(1 / (rank + 1) for rank in range(len(pages))))
    with open(path, "w", encoding="utf-8") as file:
        for number in range(lines):
            client = f"192.0.2.{min(int(rng.expovariate(0.02)), 255)}"
            day, second = divmod(number * 86_400 * 300 // lines, 86_400)
            clock = f"{second // 3600:02}:{second // 60 % 60:02}:{second % 60:02}"
            head = f"{client} - - [{day % 28 + 1:02}/{_MONTHS[day // 28]}/2024:{clock} +0000]"
            kind = rng.random()
            if kind < 0.005:
                file.write(f"{head} {rng.choice(_NO_REQUESTS)}\n")
                continue
            target = rng.choices(pages, cum_weights=weights)[0] + ("?utm_source=feed" if rng.random() < 0.1 else "")
            status, size = rng.choice((("200", str(rng.randrange(200, 90_000))),) * 9 + (("304", "-"),))
            line = f'{head} "GET {target} HTTP/1.1" {status} {size} "-" "{rng.choice(_AGENTS)}"'
            file.write((line[: rng.randrange(40, 70)] if kind > 0.995 else line) + "\n")
    return str(path)


# A crawl: a folder for each host, a file for each page ---------------------------------------------------------------


def write_crawl(folder: Path | str, hosts: int = 66, verses: int = 100) -> str:
    """Write the first books of the Bible as web sites: `genesis.example/page-3.txt` has the third 100 verses."""
    for book in sorted((DATA / "kjv").glob("*.txt"))[:hosts]:
        site = Path(folder) / f"{book.stem[3:]}.example"
        site.mkdir(parents=True, exist_ok=True)
        lines = book.read_text(encoding="ascii").splitlines(keepends=True)
        for start in range(0, len(lines), verses):
            page = site / f"page-{start // verses + 1}.txt"
            page.write_text("".join(lines[start : start + verses]), encoding="ascii")
    return str(Path(folder) / "*" / "*.txt")


# Records to sort -----------------------------------------------------------------------------------------------------


def write_records(path: Path | str, rows: int = 200_000, seed: int = 1) -> str:
    """Write records of 100 bytes as sort benchmarks have them: a random key of 10 characters, a number, filler."""
    rng = random.Random(seed)
    with open(path, "w", encoding="ascii") as file:
        for row in range(rows):
            key = "".join(rng.choices(_KEY_CHARACTERS, k=10))
            file.write(f"{key}  {row:032X}  {_KEY_CHARACTERS[row % 95] * 53}\n")
    return str(path)


_KEY_CHARACTERS = string.printable[:94] + " "


# Readings of weather stations ----------------------------------------------------------------------------------------

_STATIONS = {  # the mean of a year, in degrees Celsius
    "Abha": 18.0, "Addis Ababa": 16.0, "Anchorage": 2.8, "Bogotá": 13.1, "Cape Town": 16.2, "Dakar": 24.0,
    "Dikson": -11.1, "Hamburg": 9.7, "İzmir": 17.9, "Kyiv": 8.4, "La Paz": 23.7, "Mexicali": 23.1, "Nuuk": -1.4,
    "Oymyakon": -16.5, "Reykjavík": 4.3, "San José": 22.6, "St. John's": 5.0, "Tromsø": 2.9, "Wrocław": 9.6,
    "Zürich": 9.3,
}  # fmt: skip


def write_measurements(path: Path | str, lines: int = 200_000, seed: int = 1) -> str:
    """Write readings as in the One Billion Row Challenge, `Hamburg;12.0`; in 1 of 1,000 the instrument had failed."""
    rng = random.Random(seed)
    stations = list(_STATIONS.items())
    with open(path, "w", encoding="utf-8") as file:
        for _ in range(lines):
            station, mean = rng.choice(stations)
            reading = f"{rng.gauss(mean, 8):.1f}" if rng.random() > 0.001 else rng.choice(("", "n/a", "-999.9"))
            file.write(f"{station};{reading}\n")
    return str(path)


# Clicks on a web site, and who clicked -------------------------------------------------------------------------------


def write_clicks(path: Path | str, visits: int = 10_000, seed: int = 1) -> str:
    """Write clicks of many visits, as the clock brought them: seconds since 1970, user, page; 1 in 500 is cut off."""
    rng = random.Random(seed)
    pages = ("/", "/search", "/cart", "/checkout", "/help", *(f"/item/{number}" for number in range(95)))
    clicks = []
    for _ in range(visits):
        user = f"u{min(int(rng.expovariate(1 / 400)), 2499):04}"  # few come often, many once
        clock = 1_709_251_200 + rng.randrange(7 * 86_400)
        for _ in range(1 + int(rng.expovariate(0.2))):
            clicks.append((clock, user, rng.choice(pages)))
            clock += 1 + int(rng.expovariate(1 / 240))
    with open(path, "w", encoding="ascii") as file:
        for clock, user, page in sorted(clicks):
            line = f"{clock}\t{user}\t{page}"
            file.write((line if rng.random() > 0.002 else line[: rng.randrange(1, 18)]) + "\n")
    return str(path)


def write_users(path: Path | str, seed: int = 1) -> str:
    """Write the users that have an account: name, country. Some users of the clicks have none, some here never came."""
    rng = random.Random(seed)
    countries = ("BR", "DE", "ES", "IN", "JP", "KE", "NZ", "US")
    with open(path, "w", encoding="ascii") as file:
        for number in range(2500):
            if rng.random() < 0.9:
                file.write(f"u{number:04}\t{rng.choice(countries)}\n")
    return str(path)
