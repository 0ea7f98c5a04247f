"""The progress page: the reader sees what was written last, never half of it."""

import os
import threading

from kernelmill.cluster.worker.progresspage import ProgressPage, SlotPlace, new_page


def test_a_new_page_says_that_no_task_runs():
    handle = new_page()
    try:
        assert ProgressPage(handle).read() == SlotPlace(phase="compile")
    finally:
        os.close(handle)


def test_the_other_side_reads_what_was_written_last():
    handle = new_page()
    writer, reader = ProgressPage(handle), ProgressPage(handle)
    os.close(handle)
    place = SlotPlace(2, 1 << 40, "fetch", 5, 320_000, 65_536, 1 << 33, 9)
    writer.write(SlotPlace(2, 7))
    writer.write(place)
    assert reader.read() == place


def test_a_reader_never_sees_half_of_a_write():
    handle = new_page()
    writer, reader = ProgressPage(handle), ProgressPage(handle)
    os.close(handle)
    is_over = threading.Event()

    def write():
        for number in range(20_000):
            writer.write(SlotPlace(number, number, "run", number, number, number, number, number))
        is_over.set()

    thread = threading.Thread(target=write)
    thread.start()
    while not is_over.is_set():
        place = reader.read()
        assert place is None or len({place.epoch, place.number, place.batch, place.rows, place.steps}) == 1
    thread.join()


def test_a_page_whose_writer_died_while_it_wrote_is_not_believed():
    handle = new_page()
    os.pwrite(handle, (7).to_bytes(8, "little"), 0)
    assert ProgressPage(handle).read() is None
    os.close(handle)
