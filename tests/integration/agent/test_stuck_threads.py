"""Work that never returns delays no other, however few threads its lane has."""

import select
import threading
import time
from collections.abc import Iterator

import pytest

from sflow_agent.descriptors import Descriptors
from sflow_agent.worker import Lane, Workers
from tests.support import wait_until


@pytest.fixture
def descriptors() -> Iterator[Descriptors]:
    with select.epoll() as epoll:
        yield Descriptors(epoll)


def test_r15_reads_that_do_not_return_hold_no_thread_of_others(descriptors: Descriptors) -> None:
    workers, answers = Workers(descriptors), threading.Event()
    done: list[object] = []
    try:
        for number in range(20):  # ten times what the lane has
            workers.run(f"stuck {number}", answers.wait, done.append, workers.reading)
        workers.run("quick", lambda: 7, done.append, workers.reading)

        def look() -> bool:
            descriptors.poll(0.0)
            return 7 in done

        wait_until(look, "the quick one", 30)
        assert done == [7]
    finally:
        answers.set()

    def all_done() -> bool:
        descriptors.poll(0.0)
        return len(done) == 21

    wait_until(all_done, "the others")


class Leisurely(Workers):
    """Its threads take their time once they have said what they found."""

    def _finish(self, key: object, result: object) -> None:
        super()._finish(key, result)
        if threading.current_thread() is not threading.main_thread():
            time.sleep(0.05)


def test_work_that_follows_a_result_at_once_has_a_place(descriptors: Descriptors) -> None:
    workers, lane, done = Leisurely(descriptors), Lane("measurements", threads=1, queued=0), list[object]()

    def again(result: object) -> None:
        done.append(result)
        if len(done) < 5:
            workers.run("one", lambda: 7, again, lane)

    workers.run("one", lambda: 7, again, lane)

    def look() -> bool:
        descriptors.poll(0.0)
        return len(done) == 5

    wait_until(look, "five results")
    assert done == [7] * 5
