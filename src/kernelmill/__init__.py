"""Columnar MapReduce for Python: compiled kernels over Arrow record batches, Parquet in and out.

Names are imported on first use (PEP 562), so that `import kernelmill` costs milliseconds: no pyarrow, numpy or numba,
and of the standard library only what is loaded anyway. Until the command line is that far, Ctrl-C shows a traceback.
"""

from __future__ import annotations

import importlib

TYPE_CHECKING = False  # type checkers take it for true; typing itself would cost as much as all the rest

__version__ = "0.1.0"

if TYPE_CHECKING:
    from typing import Any

    from kernelmill.cluster.client.connecting import connect as connect
    from kernelmill.cluster.local import LocalCluster as LocalCluster
    from kernelmill.engine import errors as errors
    from kernelmill.engine.background import start as start
    from kernelmill.engine.compiling import InterpretedFunctionWarning as InterpretedFunctionWarning
    from kernelmill.engine.concatenating import concat as concat
    from kernelmill.engine.dataframe import DataFrame as DataFrame
    from kernelmill.engine.expr import Expr as Expr
    from kernelmill.engine.expr import col as col
    from kernelmill.engine.expr import len as len
    from kernelmill.engine.expr import lit as lit
    from kernelmill.engine.expr import when as when
    from kernelmill.engine.filescan import read_csv as read_csv
    from kernelmill.engine.filescan import read_ipc as read_ipc
    from kernelmill.engine.filescan import read_ndjson as read_ndjson
    from kernelmill.engine.filescan import read_records as read_records
    from kernelmill.engine.filescan import scan_csv as scan_csv
    from kernelmill.engine.filescan import scan_ipc as scan_ipc
    from kernelmill.engine.filescan import scan_ndjson as scan_ndjson
    from kernelmill.engine.filescan import scan_records as scan_records
    from kernelmill.engine.frame import LazyFrame as LazyFrame
    from kernelmill.engine.job import JobResult as JobResult
    from kernelmill.engine.mapreduce.combiner import Combiner as Combiner
    from kernelmill.engine.mapreduce.job import MapReduce as MapReduce
    from kernelmill.engine.mapreduce.outputs import Output as Output
    from kernelmill.engine.scan import from_arrow as from_arrow
    from kernelmill.engine.scan import read_parquet as read_parquet
    from kernelmill.engine.scan import read_text as read_text
    from kernelmill.engine.scan import scan_parquet as scan_parquet
    from kernelmill.engine.scan import scan_source as scan_source
    from kernelmill.engine.scan import scan_text as scan_text
    from kernelmill.engine.schema import Schema as Schema
    from kernelmill.engine.settings import configure as configure
    from kernelmill.engine.sinks import DataSink as DataSink
    from kernelmill.engine.sources import DataSource as DataSource

_HOME_OF_NAME = {  # below engine, but for the names of a cluster
    "Combiner": "mapreduce.combiner",
    "DataFrame": "dataframe",
    "DataSink": "sinks",
    "DataSource": "sources",
    "Expr": "expr",
    "InterpretedFunctionWarning": "compiling",
    "JobResult": "job",
    "LazyFrame": "frame",
    "LocalCluster": "cluster.local",
    "MapReduce": "mapreduce.job",
    "Output": "mapreduce.outputs",
    "Schema": "schema",
    "col": "expr",
    "concat": "concatenating",
    "configure": "settings",
    "connect": "cluster.client.connecting",
    "from_arrow": "scan",
    "len": "expr",
    "lit": "expr",
    "read_csv": "filescan",
    "read_ipc": "filescan",
    "read_ndjson": "filescan",
    "read_parquet": "scan",
    "read_records": "filescan",
    "read_text": "scan",
    "scan_csv": "filescan",
    "scan_ipc": "filescan",
    "scan_ndjson": "filescan",
    "scan_parquet": "scan",
    "scan_records": "filescan",
    "scan_source": "scan",
    "scan_text": "scan",
    "start": "background",
    "when": "expr",
}

__all__ = [  # noqa: PLE0604 -- the names of the table above, and those that are here already
    *_HOME_OF_NAME,
    "__version__",
    "errors",
]


def __getattr__(name: str) -> Any:
    if name == "errors":
        return importlib.import_module("kernelmill.engine.errors")
    if name in _HOME_OF_NAME:
        home = _HOME_OF_NAME[name]
        module = home if home.startswith("cluster.") else f"engine.{home}"
        lazymodules = importlib.import_module("kernelmill.engine.lazymodules")
        value = getattr(lazymodules.imported(f"kernelmill.{module}"), name)
        globals()[name] = value
        return value
    if name.startswith("_"):
        raise AttributeError(f"module 'kernelmill' has no attribute {name!r}")
    raise _unknown(name)


def _unknown(name: str) -> Exception:
    """KM0106 with the nearest public names. The table of errors is only loaded once it is needed."""
    import difflib

    foreign = {
        "scan_lines": "scan_text",
        "read_lines": "read_text",
        "scan_json": "scan_ndjson",
        "read_json": "read_ndjson",
        "scan_jsonl": "scan_ndjson",
        "scan_arrow": "scan_ipc",
        "scan_feather": "scan_ipc",
        "from_pandas": "from_arrow",
        "from_polars": "from_arrow",
        "DataFrames": "DataFrame",
        "column": "col",
        "count": "len",
    }
    near = [foreign[name]] if name in foreign else difflib.get_close_matches(name, _HOME_OF_NAME, n=1)
    errors = importlib.import_module("kernelmill.engine.errors")
    hint = f"did you mean {near[0]!r}?" if near else "the public names are: " + ", ".join(sorted(_HOME_OF_NAME))
    unknown: Exception = errors.error(errors.Code.UNKNOWN_NAME, f"kernelmill has no {name!r}", hint=hint)
    return unknown


def __dir__() -> list[str]:
    return sorted(__all__)
