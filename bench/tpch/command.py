"""`python -m bench.compare tpch`: the 22 queries of TPC-H, at any scale."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import click

from bench.engines import GROUP_ENGINES
from bench.h2o import Measuring, answer, same_rows
from bench.harness import (
    codec_option,
    data_dir,
    engines_option,
    json_option,
    rounds_option,
    runs_option,
    threads_option,
)
from bench.measure import warm_page_cache
from bench.tpch.tables import tables

QUESTIONS = {
    "q1": "pricing summary",
    "q2": "minimum cost supplier",
    "q3": "shipping priority",
    "q4": "order priority checking",
    "q5": "local supplier volume",
    "q6": "forecasting revenue change",
    "q7": "volume shipping",
    "q8": "national market share",
    "q9": "product type profit",
    "q10": "returned items",
    "q11": "important stock",
    "q12": "shipping modes and order priority",
    "q13": "customer distribution",
    "q14": "promotion effect",
    "q15": "top supplier",
    "q16": "parts/supplier relationship",
    "q17": "small quantity orders",
    "q18": "large volume customers",
    "q19": "discounted revenue",
    "q20": "potential part promotion",
    "q21": "suppliers who kept orders waiting",
    "q22": "global sales opportunity",
}


@click.command(name="tpch")
@click.option("--scale", default=1.0, show_default=True, type=click.FloatRange(0, min_open=True))
@click.option("--only", "questions", multiple=True, type=click.Choice(list(QUESTIONS)), default=list(QUESTIONS))
@runs_option
@rounds_option
@threads_option
@codec_option
@engines_option(GROUP_ENGINES, GROUP_ENGINES)
@json_option
def tpch(scale: float, questions: Sequence[str], json_path: Path | None, **options: Any) -> None:
    """Answer the 22 queries of TPC-H: warm runs in one process, whole processes beside. Makes the tables if need be.

    Answers are compared row by row, in the order that the query asks for. The data and queries are derived from TPC-H:
    the figures are not results of the benchmark.
    """
    folder = tables(scale, data_dir())
    for file in sorted(folder.glob("*/*.parquet")):
        warm_page_cache(file)
    asked = {name: QUESTIONS[name] for name in questions}
    how, check = Measuring(**options), partial(same_rows, differences="ordered")
    answer(f"TPC-H at scale {scale:g}", "tpch", folder, asked, how, json_path, check)
