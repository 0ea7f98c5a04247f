"""Which kernels a job's pipelines call: they are loaded or compiled before its first task runs."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import pyarrow as pa

from kernelmill.engine.batch import is_string_like
from kernelmill.engine.exec.exchange import fixed_width
from kernelmill.engine.exec.keys import turned_type
from kernelmill.engine.plan import fileformats, physical, rowsteps
from kernelmill.kernels import (
    combining,
    counting,
    gathering,
    hashing,
    joining,
    keycodes,
    keytable,
    listing,
    lowercase,
    multiplying,
    partitioning,
    picking,
    ranking,
    rowkeys,
    searching,
    tablerows,
    textcodes,
    utf8,
    variance,
)
from kernelmill.kernels import lines as line_kernels
from kernelmill.kernels import tokenize as tokenizing
from kernelmill.kernels._jit import Kernel

_ORDER = [partitioning.partition_of_hashes, partitioning.order_by_partition]
_SCATTER = [
    hashing.hash_words,
    hashing.hash_strings,
    gathering.gather_u32,
    gathering.gather_u64,
    gathering.gather_string_lengths,
    gathering.gather_strings,
]
_PLACED_STRINGS = [tablerows.partition_groups, tablerows.place_groups]
_STRING_KEYS = [keytable.group_strings, tablerows.read_offsets, tablerows.read_strings, keytable.fill_slots]
_WORD_KEYS = [keytable.group_words, tablerows.read_words, keytable.fill_slots]
_PUT_KEYS = [rowkeys.measure_words, rowkeys.measure_strings, rowkeys.put_words, rowkeys.put_strings]
_SEVERAL_KEYS = [*_PUT_KEYS, rowkeys.take_words, rowkeys.take_lengths, rowkeys.take_strings]
_CODED_KEYS = [keycodes.mix_codes, keycodes.mix_words, keycodes.known_groups, keycodes.settle_groups]
_LISTS = [
    listing.hold_words,
    listing.place_lists,
    listing.scatter_words,
    listing.add_run_lengths,
    listing.scatter_runs,
    listing.gather_run_lengths,
    listing.gather_runs,
]
_OF_AGGREGATE = {
    "len": [combining.count_rows, combining.add_integers],
    "count": [combining.count_rows, combining.add_integers],
    "sum": [combining.add_integers, combining.add_floats],
    "product": [multiplying.multiply_integers, multiplying.multiply_floats],
    "mean": [combining.add_and_count, combining.add_floats, combining.add_integers],
    "min": [combining.keep_least, combining.keep_least_float],
    "max": [combining.keep_least, combining.keep_least_float],
    "first": [picking.pick_first, picking.settle_picks],
    "last": [picking.pick_last, picking.settle_picks],
    "min_by": [picking.pick_least, picking.settle_picks],
    "max_by": [picking.pick_least, picking.settle_picks],
    "var": [variance.add_moments, variance.merge_moments],
    "corr": [variance.add_comoments, variance.merge_comoments],
    "top_k": [ranking.keep_least_words, ranking.join_kept],
    "bottom_k": [ranking.keep_least_words, ranking.join_kept],
    "n_unique": [*_SEVERAL_KEYS, *_STRING_KEYS, partitioning.order_by_partition],
    "quantile": [*_LISTS, ranking.select_ranks],
    "list": _LISTS,
}


def kernels_of(pipelines: Iterable[physical.Pipeline]) -> list[Kernel]:
    """The kernels these pipelines will call, each once; a rarely needed one may still be loaded at its first call."""
    found = dict.fromkeys(kernel for pipeline in pipelines for kernel in _of_pipeline(pipeline))
    return [kernel for kernel in found if isinstance(kernel, Kernel)]


def _of_pipeline(pipeline: physical.Pipeline) -> Iterator[Callable[..., Any]]:
    source = pipeline.source
    if isinstance(source, physical.CountTokens):
        yield from (counting.count_tokens, keytable.fill_slots, *_PLACED_STRINGS)
        yield from (lowercase.lower_ascii, lowercase.lower_utf8) if source.lowercase else ()
        yield from (utf8.find_invalid_utf8,) if source.text.invalid != "binary" else ()
    if isinstance(source, physical.ReadText):
        yield from (utf8.find_invalid_utf8, line_kernels.split_lines, line_kernels.find_lines)
    formats = fileformats.CsvFormat | fileformats.JsonFormat
    if isinstance(source, physical.ReadFiles) and isinstance(source.format, formats):
        yield utf8.find_invalid_utf8
    for step in pipeline.steps:
        match step:
            case physical.PartialAggregate():
                yield from _CODED_KEYS if len(step.keys) > 1 else ()
                yield from _of_aggregate(step.aggs)
            case physical.CombineRows() | physical.MergeCombined():
                yield from _of_keys([step.schema.field(key).type for key in step.keys])
            case physical.MergeAggregate():
                yield from _of_keys([step.schema.field(key).type for key in step.keys])
                yield from _of_aggregate(step.aggs)
            case physical.Join():
                yield from _of_join(step)
            case rowsteps.ThinRows(keys=keys) | rowsteps.UniqueRows(keys=keys):
                yield from _of_numbers(keys, pipeline.schema)
                yield from _SCATTER[2:]
            case rowsteps.EveryRow() | rowsteps.LastRows() | rowsteps.SampleRows() | rowsteps.Unpivot():
                yield from _SCATTER[2:]
            case physical.TokenizeExplode():
                yield from (tokenizing.tokenize_rows, gathering.gather_string_lengths, gathering.gather_strings)
    for branch in pipeline.branches:
        yield from _of_pipeline(physical.Pipeline(None, branch.steps, branch.end, branch.schema))
    yield from _of_writing(pipeline)
    if isinstance(pipeline.end, physical.ToShares):
        yield from (*_ORDER, *_SCATTER)
    if isinstance(pipeline.end, physical.ToBlocks) and pipeline.end.keys:
        yield from _ORDER
        if not isinstance(source, physical.CountTokens):
            yield from _PLACED_STRINGS if _are_placed(pipeline) else _SCATTER
    if isinstance(pipeline.end, physical.ToRanges):
        texts = [is_string_like(turned_type(pipeline.schema.field(name).type)) for name, _, _ in pipeline.end.keys]
        yield from (searching.narrow_strings if is_text else searching.narrow_words for is_text in texts)
        yield from (searching.count_strings,) if texts == [True] else ()
        yield from (partitioning.order_by_partition, *_SCATTER[2:])
        wide = any(fixed_width(field.type) for field in pipeline.schema)
        yield from (gathering.gather_fixed, gathering.gather_fixed_at) if wide else ()


def _of_writing(pipeline: physical.Pipeline) -> Iterator[Callable[..., Any]]:
    """What makes the statistics of texts, and numbers codes that are written."""
    to = pipeline.end if isinstance(pipeline.end, physical.ToParquet) else None
    if pipeline.steps and isinstance(last := pipeline.steps[-1], physical.EncodeRowGroups):
        to = last.to
    if to is not None and to.statistics and any(is_string_like(field.type) for field in to.schema):
        yield textcodes.least_and_greatest
    source = pipeline.source
    if isinstance(source, physical.ReadParquet) and source.dictionary_columns and to is not None:
        yield textcodes.number_by_use


def _of_join(step: physical.Join) -> Iterator[Callable[..., Any]]:
    """What both sides call; which of the look-ups depends on the keys' values, so only those of their number's kind."""
    if len(step.build_keys) > 1:
        yield from (*_PUT_KEYS, keytable.group_strings, joining.find_strings)
    yield from (joining.find_direct, joining.row_of_groups)
    if step.how == "full":
        yield joining.mark_rows
    if step.how in ("semi", "anti"):
        yield joining.mark_found
    else:
        yield joining.pair_unique
    yield from _SCATTER[2:]


def _are_placed(pipeline: physical.Pipeline) -> bool:
    """Whether rows leave the last step's key table in order of partition."""
    match pipeline.steps:
        case [*_, physical.PartialAggregate(keys=(key,)) | physical.CombineRows(keys=(key,))]:
            return is_string_like(pipeline.schema.field(key).type)
    return False


def _of_aggregate(aggs: Iterable[physical.AggSpec]) -> Iterator[Kernel]:
    for agg in aggs:
        yield from _OF_AGGREGATE[agg.kind]


def _of_keys(types: list[pa.DataType]) -> Iterator[Kernel]:
    if len(types) > 1:
        yield from (*_SEVERAL_KEYS, *_STRING_KEYS, picking.first_rows)
    elif types and (is_string_like(turned_type(types[0]))):
        yield from _STRING_KEYS
    elif types:
        yield from _WORD_KEYS


def _of_numbers(keys: tuple[str, ...], made: pa.Schema) -> Iterator[Callable[..., Any]]:
    """What numbers keys in a table that nobody reads them from; of a key that goes no further the type is not known."""
    if len(keys) > 1:
        yield from (*_PUT_KEYS, keytable.group_strings)
    elif keys[0] in made.names:
        is_text = is_string_like(turned_type(made.field(keys[0]).type))
        yield keytable.group_strings if is_text else keytable.group_words
