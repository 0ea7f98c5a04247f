"""One row a group: first, last, or with the least word; against plain Python, in batches."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from kernelmill.kernels import picking

ROWS = st.lists(st.tuples(st.integers(0, 3), st.booleans(), st.integers(0, 5)), max_size=20)
EMPTY = np.empty(0, np.uint8)


def picked(batches, kind, masked=True):
    """The row of each group, counted over all batches, or None."""
    picks, least, held = np.zeros(4, np.int64), np.zeros(4, np.uint64), []
    start = 0
    for batch in batches:
        groups = np.array([row[0] for row in batch], np.int32)
        validity = np.array([row[1] for row in batch], np.uint8) if masked else EMPTY
        if kind == "least":
            picking.pick_least(groups, np.array([row[2] for row in batch], np.uint64), validity, least, picks)
        else:
            (picking.pick_first if kind == "first" else picking.pick_last)(groups, validity, picks)
        rows = np.empty(len(batch), np.uint32)
        count = picking.settle_picks(groups, len(held), picks, rows)
        assert sorted(rows[:count]) == list(rows[:count])
        held += [start + int(row) for row in rows[:count]]
        start += len(batch)
    return [held[at - 1] if at else None for at in picks.tolist()]


@settings(max_examples=80)
@given(st.lists(ROWS, max_size=4), st.booleans())
def test_rows_are_those_that_python_picks(batches, masked):
    rows = [row for batch in batches for row in batch]
    for kind in ("first", "last", "least"):
        wanted = []
        for group in range(4):
            own = [n for n, row in enumerate(rows) if row[0] == group and (row[1] or not masked)]
            chosen = {"first": own[:1], "last": own[-1:], "least": sorted(own, key=lambda n: rows[n][2])[:1]}[kind]
            wanted.append(chosen[0] if chosen else None)
        assert picked(batches, kind, masked) == wanted, kind
