"""Placeholders that are left in a file: each is an error that names the field and says what to write."""

from pathlib import Path

import pytest

from protocol.errors import SpecError
from sflow_ctl.format.loader import load_documents
from sflow_ctl.format.rules.placeholders import placeholder_in

FILE = """\
version: "0.1"
variables: {model: {value: <your model>, description: a directory of weights}, other: TODO}
backends: {c: {type: slurm, partition: CHANGE_ME, account: YOUR_ACCOUNT, time: 10, nodes: 1, gpus_per_node: 0}}
workflow:
  name: w
  tasks:
    - name: t
      script: |
        # CHANGE_ME is fine in a comment
        run <fill me in>
"""


def test_every_placeholder_is_named_with_what_to_write(tmp_path: Path) -> None:
    file = tmp_path / "w.yaml"
    file.write_text(FILE)
    with pytest.raises(SpecError) as raised:
        load_documents([file])
    found = {(one.where or "").rpartition("  ")[2]: one for one in raised.value.findings}
    assert {one.code for one in found.values()} == {"unfilled-placeholder"}
    assert set(found) == {
        "variables.model.value", "variables.other", "backends.c.partition", "backends.c.account",
        "workflow.tasks[0].script[0]",
    }  # fmt: skip
    assert found["variables.model.value"].hint == "a directory of weights"
    assert "--set other=VALUE" in str(found["variables.other"].hint)
    assert found["backends.c.partition"].hint == "Slurm partition of the job; sinfo -o '%P %G' lists them"
    assert "CHANGE_ME" in found["backends.c.partition"].what
    assert found["workflow.tasks[0].script[0]"].what.startswith("<fill me in> in ")


def test_what_is_given_on_the_command_line_is_no_longer_open(tmp_path: Path) -> None:
    file = tmp_path / "w.yaml"
    file.write_text(
        'version: "0.1"\nvariables: {a: CHANGE_ME}\nworkflow: {name: w, tasks: [{name: t, script: echo}]}\n'
    )
    load_documents([file], ["a=1"])
    with pytest.raises(SpecError):
        load_documents([file])


@pytest.mark.parametrize(
    "text", ["", "cat < file > other", "MEMORY", "RENAME_MEMBER", "<a> and <b>", "TODO later", "change me"]
)
def test_other_texts_are_fine(text: str) -> None:
    assert placeholder_in(text) is None
