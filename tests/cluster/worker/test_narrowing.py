"""Which rows an isolating slot tries: few tries fail, for each of those costs a process."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kernelmill.cluster.worker.isolation import Isolation

ROWS = 30_000


class Tries(Isolation):
    """Tries that fail if a range holds one of these rows."""

    def __init__(self, bad):
        self.bad, self.failed, self.passed = bad, 0, 0

    def _fails(self, order, rows, keys, probe_s):
        is_bad = any(rows[0] <= row < rows[1] for row in self.bad)
        self.failed += is_bad
        self.passed += not is_bad
        return is_bad


def test_a_function_that_fails_for_every_row_is_found_by_one_failing_try():
    tries = Tries(range(ROWS))
    assert tries._narrow(None, (0, ROWS), None, 1.0) == (0, True)
    assert (tries.failed, tries.passed) == (1, 0)


@settings(max_examples=200, deadline=None)
@given(st.integers(0, ROWS - 1), st.integers(1, ROWS))
def test_one_bad_row_is_found_wherever_it_is(row, rows):
    start = max(0, row - rows // 2)
    stop = max(row + 1, start + rows)
    tries = Tries([row])
    found, _ = tries._narrow(None, (start, stop), None, 1.0)
    assert found == row
    assert tries.failed <= 16 and tries.passed <= 32


@pytest.mark.parametrize("bad", [[7, 8], [0, ROWS - 1], [ROWS - 1], list(range(5000, ROWS))])
def test_the_first_of_several_bad_rows_is_found(bad):
    assert Tries(bad)._narrow(None, (0, ROWS), None, 1.0)[0] == bad[0]
