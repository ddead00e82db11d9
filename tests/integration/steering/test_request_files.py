"""Request files that are not what they should be, and more requests than a run takes: each has its answer."""

import os
import select
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from sflow_ctl.core.commands import AnswerRequest
from sflow_ctl.core.requests import Pause, RequestAnswer
from sflow_ctl.runtime.operating.desk import MAX_WAITING, RequestDesk
from sflow_ctl.runtime.operating.request_files import MAX_BYTES, RequestFiles, answer_path, request_path
from sflow_ctl.runtime.record import layout
from sflow_ctl.runtime.viewing.messages import Ask, ToOperatorMessage, ViewerRefused
from tests.support import wait_until

IDS = [f"{number:032x}" for number in range(8)]


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[RequestDesk]:
    """A desk whose files are watched in `tmp_path`."""
    (tmp_path / layout.REQUESTS).mkdir(parents=True)
    made = RequestDesk()
    with RequestFiles(tmp_path, made):
        yield made
    os.close(made.fileno)


def a_request(number: int) -> Ask:
    return Ask(id=IDS[number], by="op on here", action=Pause())


def answer(directory: Path, number: int) -> RequestAnswer:
    path = answer_path(directory, IDS[number])
    wait_until(path.exists, f"request {number} is answered")
    return msgspec.json.decode(path.read_bytes(), type=RequestAnswer)


def test_files_that_are_no_requests_are_answered_with_an_error(desk: RequestDesk, tmp_path: Path) -> None:
    good = msgspec.json.encode(a_request(0))
    request_path(tmp_path, IDS[1]).write_bytes(b"{nonsense")
    request_path(tmp_path, IDS[2]).write_bytes(good)  # the name of another one
    request_path(tmp_path, IDS[3]).write_bytes(good + b" " * MAX_BYTES)
    (tmp_path / "elsewhere").write_bytes(good)
    request_path(tmp_path, IDS[4]).symlink_to(tmp_path / "elsewhere")
    os.mkfifo(request_path(tmp_path, IDS[5]))
    request_path(tmp_path, IDS[6]).write_bytes(b'{"type":"ask","id":"x","by":"x","action":{"action":"fly"}}')
    (tmp_path / layout.REQUESTS / "other.request.json").write_bytes(good)
    errors = [answer(tmp_path, number).error for number in range(1, 7)]
    another_version = "the controller does not understand the request: it is of another version of sflow-ctl"
    assert errors == [
        another_version,
        "its file has the name of another request",
        f"its file is longer than {MAX_BYTES} bytes",
        "its file cannot be read: Too many levels of symbolic links",
        "its file is not a file of the run's user",
        another_version,
    ]
    assert desk.arrived() == []
    assert not request_path(tmp_path, IDS[1]).exists()


def test_a_request_is_taken_once_and_its_answer_is_the_loops(desk: RequestDesk, tmp_path: Path) -> None:
    request_path(tmp_path, IDS[0]).write_bytes(msgspec.json.encode(a_request(0)))
    assert select.select([desk.fileno], [], [], 30)[0]
    (event,) = desk.arrived()
    assert (event.id, event.by, event.action) == (IDS[0], "op on here", Pause())
    assert not answer_path(tmp_path, IDS[0]).exists()
    desk.answer(AnswerRequest(id=IDS[0], by=event.by, action=Pause(), answer=RequestAnswer(text="paused")))
    desk.send()
    assert answer(tmp_path, 0) == RequestAnswer(text="paused")
    wait_until(lambda: not request_path(tmp_path, IDS[0]).exists(), "the request is removed")
    assert desk.arrived() == []


def test_requests_without_an_answer_get_the_end_of_the_run(tmp_path: Path) -> None:
    (tmp_path / layout.REQUESTS).mkdir(parents=True)
    made = RequestDesk()
    with RequestFiles(tmp_path, made):
        request_path(tmp_path, IDS[0]).write_bytes(msgspec.json.encode(a_request(0)))
        assert select.select([made.fileno], [], [], 30)[0]
    assert answer(tmp_path, 0).error == "the run has ended"
    os.close(made.fileno)


def test_more_requests_than_the_limit_are_refused() -> None:
    made = RequestDesk()
    said: list[ToOperatorMessage] = []
    for _ in range(MAX_WAITING + 1):
        made.take(a_request(0), said.append)
    (refused,) = said
    assert isinstance(refused, ViewerRefused)
    assert refused.code == "too-many-requests"
    assert len(made.arrived()) == MAX_WAITING
    os.close(made.fileno)
