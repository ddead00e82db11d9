"""Work that never returns delays no other, however few threads its lane has."""

import select
import threading
from collections.abc import Iterator

import pytest

from sflow_agent.descriptors import Descriptors
from sflow_agent.worker import Workers
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
