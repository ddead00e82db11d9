"""A node that has a run directory of its own: files go to the controller's, and come from there, whole and unchanged."""

import hashlib
import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from protocol.ids import AttemptId
from protocol.messages.facts import CheckpointFound, InputsChecked, OutputsFound
from protocol.messages.handover import (
    CheckpointRules,
    ExpectedFile,
    ExpectedInput,
    FileSelection,
    OutputRule,
)
from protocol.messages.orders import CheckInputs, FindCheckpoint, FindOutputs
from protocol.messages.packets import FileAnswer, FileGet, FilePut
from sflow_ctl.runtime.handover.file_store import FileStore
from tests.integration.agent.fake_controller import FakeController, spec

Make = Callable[..., FakeController]
UNSHARE = ("unshare", "--map-root-user", "--mount")


def _can_mount() -> bool:
    if shutil.which("unshare") is None:
        return False
    return (
        subprocess.run([*UNSHARE, "mount", "-t", "tmpfs", "none", "/mnt"], capture_output=True).returncode
        == 0
    )


pytestmark = pytest.mark.skipif(not _can_mount(), reason="a mount namespace cannot be made here")


def start(controller: FakeController, **changes: int) -> FakeController:
    """Start an agent that sees an empty file system at the run directory."""
    inside = f'mount -t tmpfs none "{controller.directory}" && exec "$@"'
    return controller.start(None, (*UNSHARE, "sh", "-c", inside, "sh"), **changes).welcome()


def write(controller: FakeController, script: str) -> str:
    """Have a task write files in its directory on the node; return the path of that."""
    directory = f"{controller.directory}/t"
    controller.spawn(spec("t", "sh", "-ec", f"mkdir -p {directory}; cd {directory}; {script}"))
    assert controller.exited("t").exit_code == 0
    return directory


def outputs(controller: FakeController, directory: str, *rules: OutputRule) -> OutputsFound:
    controller.order(
        FindOutputs(
            attempt=AttemptId("t", 1), written_by=1, directory=directory, rules=rules, counts_all=True
        )
    )
    controller.until(lambda: controller.said(OutputsFound), "its outputs", within_s=30)
    return controller.said(OutputsFound)[0]


def checked(controller: FakeController, *files: ExpectedFile) -> InputsChecked:
    given = ExpectedInput(name="model", source="train.outputs.model", files=files)
    controller.order(CheckInputs(attempt=AttemptId("t", 1), inputs=(given,)))
    controller.until(lambda: controller.said(InputsChecked), "the check", within_s=30)
    return controller.said(InputsChecked)[0]


def rule(name: str, *globs: str, kind: str = "file") -> OutputRule:
    return OutputRule(name=name, kind=kind, selection=FileSelection(globs=globs))  # type: ignore[arg-type]


def test_outputs_are_in_the_controllers_directory_before_they_are_reported(make_controller: Make) -> None:
    controller = start(make_controller())
    script = (
        "mkdir ckpt none; head -c 3000001 /dev/urandom > ckpt/step_7.pt; : > ckpt/empty; chmod 640 ckpt/*"
    )
    directory = write(controller, script)
    assert not Path(directory).exists()
    found = outputs(
        controller,
        directory,
        rule("model", "ckpt/*.pt"),
        rule("all", "ckpt/*", kind="manifest"),
        rule("nothing", "none", kind="dir"),
    )
    assert found.problem == ""
    model = found.outputs[0]
    copy = Path(model.path)
    assert hashlib.sha256(copy.read_bytes()).hexdigest() == model.sha256
    status = copy.stat()
    assert (status.st_size, status.st_mtime_ns) == (3000001, model.files[0].mtime_ns)
    assert status.st_mode & 0o777 == 0o640
    assert Path(directory, "ckpt/empty").read_bytes() == b""
    assert '"ckpt/step_7.pt"' not in Path(found.outputs[1].path).read_text()
    assert model.sha256 in Path(found.outputs[1].path).read_text()
    assert Path(directory, "none").is_dir()
    assert sorted(one.name for one in Path(directory, "ckpt").iterdir()) == ["empty", "step_7.pt"]


def test_more_than_the_limit_is_an_error_that_names_both_sizes(make_controller: Make) -> None:
    controller = start(make_controller(), copy_limit_bytes=1 << 20)
    directory = write(controller, "head -c 2000000 /dev/zero > big")
    found = outputs(controller, directory, rule("big", "big"))
    assert found.problem == (
        "the files of its outputs would have to be copied from this node, because it has a run directory of its own: "
        "they have 2 MB, and the limit is 1.05 MB"
    )
    assert "`copy_limit`" in found.hint
    assert not Path(directory).exists()


class Forgetful(FileStore):
    """Loses what it was sent once, as a controller that is killed, and now and then an answer."""

    def __init__(self, directory: Path) -> None:
        super().__init__(directory)
        self.pieces = 0

    def take(
        self, node: int, message: FilePut | FileGet, body: memoryview | bytes
    ) -> tuple[FileAnswer, bytes]:
        self.pieces += 1
        if self.pieces == 6:
            self.close()
        return super().take(node, message, body)


def test_a_file_is_sent_again_to_a_controller_that_has_taken_over(make_controller: Make) -> None:
    controller = make_controller()
    controller.files = forgetful = Forgetful(controller.directory)
    start(controller)
    directory = write(controller, "head -c 4000000 /dev/urandom > model")
    found = outputs(controller, directory, rule("model", "model"))
    assert found.problem == ""
    assert hashlib.sha256(Path(directory, "model").read_bytes()).hexdigest() == found.outputs[0].sha256
    assert forgetful.pieces > 4000000 // (256 << 10) + 2


def test_inputs_that_the_node_does_not_have_are_fetched_and_checked(make_controller: Make) -> None:
    controller = start(make_controller())
    source = controller.directory / "train/model"
    source.parent.mkdir()
    source.write_bytes(os.urandom(2_500_000))
    digest, size = hashlib.sha256(source.read_bytes()).hexdigest(), source.stat().st_size
    file = ExpectedFile(path=str(source), bytes=size, mtime_ns=source.stat().st_mtime_ns, sha256=digest)
    assert checked(controller, file).problem == ""
    (controller.directory / "t").mkdir()
    controller.spawn(spec("t", "sh", "-c", f"sha256sum {source}; stat -c %y {source}", stream=True))
    controller.exited("t")
    controller.until(lambda: digest.encode() in b"".join(controller.received.values()), "the digest there")


def test_an_input_that_is_nowhere_or_was_changed_is_an_error(make_controller: Make) -> None:
    controller = start(make_controller())
    there = controller.directory / "train/there"
    there.parent.mkdir()
    there.write_bytes(b"other")
    for path, why in (
        (there, "what arrived has another digest than was recorded"),
        (there.parent / "missing", "it is not in the controller's run directory either"),
        (controller.directory / ".sflow/nonce", "it is not in a task's directory"),
    ):
        controller.facts.clear()
        answer = checked(controller, ExpectedFile(path=str(path), bytes=5, sha256="00" * 32))
        whose = "its input model (from train.outputs.model) cannot be copied to this node"
        assert answer.problem == f"{whose}: {why}"


def test_a_checkpoint_for_another_node_goes_with_its_marker(make_controller: Make) -> None:
    controller = start(make_controller())
    directory = write(
        controller,
        "mkdir -p c/step_3; echo w > c/step_3/w; echo o > c/step_3/o; : > c/step_3.done; mkdir c/step_4",
    )
    rules = CheckpointRules(
        directory="c", selection=FileSelection(globs=("step_*/*",), done_marker="{dir}.done")
    )
    attempt = AttemptId("t", 2)
    controller.order(FindCheckpoint(attempt=attempt, directory=directory, rules=rules, is_for_another=True))
    controller.until(lambda: controller.said(CheckpointFound), "its checkpoint")
    (found,) = controller.said(CheckpointFound)
    assert (found.choice.problem, found.choice.step) == ("", 3)
    sent = sorted(str(path.relative_to(directory)) for path in Path(directory).rglob("*") if path.is_file())
    assert sent == ["c/step_3.done", "c/step_3/o", "c/step_3/w"]
    assert sorted(one.path for one in found.files) == [f"{directory}/{one}" for one in sent]
