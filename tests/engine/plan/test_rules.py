"""Each rewrite of plans, by the plan's text before and after; what a rule must leave alone."""

from __future__ import annotations

from textwrap import dedent

import pyarrow as pa
import pytest

import kernelmill as km
from kernelmill.engine.frame import LazyFrame
from kernelmill.engine.plan import rules
from kernelmill.engine.plan.explain import plan_text
from kernelmill.engine.plan.optimizer import apply
from kernelmill.engine.plan.pruning import prune_columns

SCHEMA = pa.schema([("k", pa.string()), ("n", pa.int64()), ("t", pa.string()), ("xs", pa.list_(pa.int64()))])


@pytest.fixture
def frame() -> LazyFrame:
    return km.from_arrow(SCHEMA.empty_table())


@pytest.fixture
def text(tmp_path, monkeypatch) -> LazyFrame:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.txt").write_text("to be or not to be\n")
    return km.scan_text("a.txt")


def after(rule: rules.Rule, lazy: LazyFrame) -> str:
    return plan_text(apply(lazy._plan, rule), origins=False)


def same(rule: rules.Rule, lazy: LazyFrame) -> bool:
    return apply(lazy._plan, rule) is lazy._plan


def plan(lines: str) -> str:
    return dedent(lines).strip("\n")


def test_two_projects_become_one(frame):
    lazy = frame.select("k", m=km.col("n") + 1).select(p=km.col("m") * 2)
    assert after(rules.merge_projects, lazy) == plan("""
        Project p=(col("n") + 1) * 2
          ScanTable <memory>: k: string, n: int64, t: string, xs: list<int64>
        """)


def test_projects_stay_apart_where_merging_would_compute_twice(frame):
    assert same(rules.merge_projects, frame.select(m=km.col("n") + 1).select(p=km.col("m") * km.col("m")))


def test_a_literal_keeps_its_type_when_projects_merge(frame):
    lazy = frame.select(s=km.col("n").cast("int8"), one=km.lit(1)).select(p=km.col("s") + km.col("one"))
    assert apply(lazy._plan, rules.merge_projects).schema.equals(lazy._plan.schema)


def test_a_project_that_changes_nothing_goes(frame):
    lazy = frame.select("k", "n", "t", "xs")
    assert after(rules.remove_identity_project, lazy) == plan_text(frame._plan, origins=False)


@pytest.mark.parametrize("names", [("n", "k", "t", "xs"), ("k", "n")])
def test_a_project_that_reorders_or_drops_stays(frame, names):
    assert same(rules.remove_identity_project, frame.select(*names))


def test_filters_merge(frame):
    lazy = frame.filter(km.col("n") > 1).filter(km.col("k") == "a")
    assert after(rules.merge_filters, lazy) == plan("""
        Filter (col("n") > 1) & (col("k") == "a")
          ScanTable <memory>: k: string, n: int64, t: string, xs: list<int64>
        """)


def test_a_filter_that_may_fail_stays_above_the_one_that_guards_it(frame):
    guarded = frame.filter(km.col("k").str.starts_with("1")).filter(km.col("k").cast("int64") > 3)
    assert same(rules.merge_filters, guarded)


def test_a_filter_sinks_below_a_project_that_keeps_its_columns(frame):
    lazy = frame.select(key="k", m=km.col("n") + 1).filter(km.col("key") == "a")
    assert after(rules.push_filter_through_project, lazy) == plan("""
        Project key=col("k"), m=col("n") + 1
          Filter col("k") == "a"
            ScanTable <memory>: k: string, n: int64, t: string, xs: list<int64>
        """)


def test_only_the_part_of_a_filter_that_can_sink_does(frame):
    lazy = frame.select("k", m=km.col("n") + 1).filter((km.col("m") > 3) & (km.col("k") == "a"))
    assert after(rules.push_filter_through_project, lazy) == plan("""
        Filter col("m") > 3
          Project k, m=col("n") + 1
            Filter col("k") == "a"
              ScanTable <memory>: k: string, n: int64, t: string, xs: list<int64>
        """)


def test_a_filter_of_other_columns_sinks_below_explode(frame):
    lazy = frame.select("k", "xs").explode("xs").filter(km.col("k") == "a", xs=3)
    merged = apply(lazy._plan, rules.merge_filters)
    assert plan_text(apply(merged, rules.push_filter_through_explode), origins=False) == plan("""
        Filter col("xs") == 3
          Explode xs
            Filter col("k") == "a"
              Project k, xs
                ScanTable <memory>: k: string, n: int64, t: string, xs: list<int64>
        """)


def test_a_filter_that_may_fail_stays_above_explode_which_drops_rows(frame):
    assert same(rules.push_filter_through_explode, frame.explode("xs").filter(km.col("k").cast("int64") > 3))


def test_a_filter_of_other_columns_sinks_below_tokens(frame):
    lazy = frame.select("k", w=km.col("t").str.tokenize()).explode("w")
    fused = LazyFrame(apply(lazy._plan, rules.tokenize_explode)).filter(k="a", w="x")
    swapped = apply(fused._plan, rules.merge_filters)
    assert plan_text(apply(swapped, rules.push_filter_through_tokens), origins=False) == plan("""
        Filter col("w") == "x"
          TokenizeExplode k, w=col("t").str.tokenize("whitespace")
            Filter col("k") == "a"
              ScanTable <memory>: k: string, n: int64, t: string, xs: list<int64>
        """)


def test_a_filter_of_keys_sinks_below_group_by_and_one_of_sums_stays(frame):
    lazy = frame.group_by("k").agg(s=km.col("n").sum()).filter((km.col("k") == "a") & (km.col("s") > 3))
    assert after(rules.push_filter_through_aggregate, lazy) == plan("""
        Filter col("s") > 3
          Aggregate by k: s=sum(n)
            Filter col("k") == "a"
              ScanTable <memory>: k: string, n: int64, t: string, xs: list<int64>
        """)


def test_a_filter_sinks_below_sort_but_not_below_top_k(frame):
    assert after(rules.push_filter_through_sort, frame.sort("n").filter(k="a")) == plan("""
        Sort n
          Filter col("k") == "a"
            ScanTable <memory>: k: string, n: int64, t: string, xs: list<int64>
        """)
    assert same(rules.push_filter_through_sort, frame.top_k(3, by="n").filter(k="a"))


def test_no_rule_moves_a_filter_below_a_limit(frame):
    lazy = frame.head(3).filter(k="a")
    assert all(same(rule, lazy) for rule in vars(rules).values() if getattr(rule, "__name__", "").startswith("push_"))


@pytest.mark.parametrize(("first", "second", "left"), [(3, 5, 3), (5, 3, 3), (0, 2, 0)])
def test_of_two_limits_the_smaller_stays(frame, first, second, left):
    assert after(rules.push_limit, frame.head(first).head(second)).splitlines()[0] == f"Limit {left}"


def test_a_limit_goes_below_a_project_and_into_a_sort(frame):
    assert after(rules.push_limit, frame.select("k").head(3)) == plan("""
        Project k
          Limit 3
            ScanTable <memory>: k: string, n: int64, t: string, xs: list<int64>
        """)
    assert after(rules.push_limit, frame.sort("n").head(3)).splitlines()[0] == "TopK 3 by n"
    assert after(rules.push_limit, frame.top_k(2, by="n").head(3)).splitlines()[0].startswith("TopK 2 by n")


def test_tokenize_and_explode_become_one(frame):
    lazy = frame.select(w=km.col("t").str.tokenize("word"), k="k").explode("w")
    assert after(rules.tokenize_explode, lazy) == plan("""
        TokenizeExplode w=col("t").str.tokenize("word"), k
          ScanTable <memory>: k: string, n: int64, t: string, xs: list<int64>
        """)


@pytest.mark.parametrize("flags", [{"empty_as_null": True}, {"keep_nulls": False}])
def test_an_explode_with_other_rules_for_nulls_stays(frame, flags):
    assert same(rules.tokenize_explode, frame.select(w=km.col("t").str.tokenize()).explode("w", **flags))


def fused(lazy: LazyFrame) -> LazyFrame:
    return LazyFrame(apply(lazy._plan, rules.tokenize_explode))


COUNTED = """
    CountTokens word=col("line").str.tokenize("{mode}"), len=len()
      ScanText a.txt: line: string
    """


def words(text: LazyFrame, *args: object, **options: object) -> LazyFrame:
    return text.select(word=km.col("line").str.tokenize(*args, **options)).explode("word")


@pytest.mark.parametrize("mode", ["whitespace", "word", "identifier"])
def test_word_count_becomes_one_kernel(text, mode):
    assert after(rules.count_tokens, fused(words(text, mode).group_by("word").len())) == plan(COUNTED.format(mode=mode))


def test_a_count_of_the_key_is_the_same_number(text):
    lazy = words(text).group_by("word").agg(n=km.col("word").count(), m=km.len())
    assert after(rules.count_tokens, fused(lazy)) == plan("""
        Project word, n, m=col("n")
          CountTokens word=col("line").str.tokenize("whitespace"), n=len()
            ScanText a.txt: line: string
        """)


def test_tests_of_the_token_go_above_the_count(text):
    lazy = words(text).filter(km.col("word").str.len_bytes() > 3).group_by("word").len()
    assert after(rules.count_tokens, fused(lazy)) == plan("""
        Filter col("word").str.len_bytes() > 3
          CountTokens word=col("line").str.tokenize("whitespace"), len=len()
            ScanText a.txt: line: string
        """)


def test_tokens_are_not_counted_in_the_kernel_where_the_plan_asks_for_more(text, frame):
    plain = words(text)
    with_path = km.scan_text("a.txt", include_file_paths="path")
    beside = with_path.select("path", word=km.col("line").str.tokenize()).explode("word")
    for lazy in (
        plain.group_by("word").agg(km.len(), x=km.col("word").str.len_bytes().max()),
        plain.group_by(km.col("word").str.len_bytes()).len(),
        beside.group_by("path", "word").len(),
        words(text, min_len=2).group_by("word").len(),
        text.filter(km.col("line") != "").pipe(words).group_by("word").len(),
        text.select(word=km.col("line").str.to_lowercase().str.tokenize()).explode("word").group_by("word").len(),
        frame.select(word=km.col("t").str.tokenize()).explode("word").group_by("word").len(),
    ):
        assert same(rules.count_tokens, fused(lazy))


@pytest.mark.parametrize(("separators", "is_fused"), [(", \r\n", True), (", \n", False), (", \r", False), (",", False)])
def test_own_separators_are_counted_in_the_kernel_only_if_no_token_can_cross_a_line(text, separators, is_fused):
    lazy = words(text, separators=separators).group_by("word").len()
    assert same(rules.count_tokens, fused(lazy)) is not is_fused


def test_lines_that_end_in_something_else_must_not_be_joined_by_the_kernel(text):
    bars = km.scan_text("a.txt", separator="|")
    assert same(rules.count_tokens, fused(words(bars).group_by("word").len()))
    assert not same(rules.count_tokens, fused(words(bars, "word").group_by("word").len()))


def test_columns_that_nobody_uses_are_not_read(frame):
    lazy = frame.with_columns(m=km.col("n") + 1).filter(km.col("k") == "a").group_by("k").agg(km.len())
    assert plan_text(prune_columns(lazy._plan), origins=False) == plan("""
        Aggregate by k: len=len()
          Filter col("k") == "a"
            Project k
              ScanTable <memory>: k: string
        """)


def test_where_only_rows_matter_one_narrow_column_is_read(frame):
    assert plan_text(prune_columns(frame.select(one=km.lit(1))._plan), origins=False) == plan("""
        Project one=1
          ScanTable <memory>: n: int64
        """)


def test_aggregates_that_nobody_uses_are_not_made(frame):
    lazy = frame.group_by("k").agg(a=km.col("n").sum(), b=km.col("n").max()).select("k", "b")
    assert plan_text(prune_columns(lazy._plan), origins=False) == plan("""
        Project k, b
          Aggregate by k: b=max(n)
            ScanTable <memory>: k: string, n: int64
        """)


def test_sort_keys_stay_until_the_sort(frame):
    assert plan_text(prune_columns(frame.sort("n").select("k")._plan), origins=False) == plan("""
        Project k
          Sort n
            ScanTable <memory>: k: string, n: int64
        """)


def test_path_and_offset_are_made_only_if_used(text):
    lazy = km.scan_text("a.txt", include_file_paths="path", include_offsets="at").select("line", "at")
    assert plan_text(prune_columns(lazy._plan), origins=False).splitlines()[-1] == (
        "  ScanText a.txt: line: string, at: int64"
    )
