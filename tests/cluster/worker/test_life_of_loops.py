"""A loop over records within a batch, as the progress page of its slot shows it."""

import os

from kernelmill.cluster.fields import AttemptKey
from kernelmill.cluster.worker.progresspage import ProgressPage, new_page
from kernelmill.cluster.worker.slotcontext import Whereabouts


def whereabouts_and_reader():
    handle = new_page()
    made = Whereabouts(ProgressPage(handle)), ProgressPage(os.dup(handle))
    os.close(handle)
    return made


def test_a_loop_that_is_further_is_a_step_and_the_batch_stays_where_it_was():
    whereabouts, page = whereabouts_and_reader()
    whereabouts.begin(AttemptKey(1, 7))
    whereabouts.rows(100, 50)
    before = page.read()
    whereabouts.live_in_run()
    after = page.read()
    assert after != before and after == before._replace(steps=before.steps + 1)
    assert whereabouts.place == after


def test_a_loop_that_is_further_says_nothing_of_an_attempt_that_compiles():
    whereabouts, page = whereabouts_and_reader()
    whereabouts.begin(AttemptKey(1, 7))
    before = page.read()
    whereabouts.live_in_run()
    assert page.read() == before and before.phase == "compile"


def test_a_copy_of_the_slot_gives_no_signs_for_it():
    whereabouts, page = whereabouts_and_reader()
    whereabouts.begin(AttemptKey(1, 7))
    whereabouts.rows(0, 50)
    before = page.read()
    whereabouts.is_copy = True
    whereabouts.live_in_run()
    assert page.read() == before
