"""Batch scripts hold any value: read back as sbatch reads it, each comes out as it went in."""

import shlex

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from protocol.errors import UsageError
from sflow_ctl.batch.memory import MEMORY_VARIABLES, without_replaced_memory
from sflow_ctl.batch.script import BatchJob, batch_script
from sflow_ctl.runtime.slurm.commands import submit_environment

LINE = st.text(st.characters(blacklist_categories=("Cc", "Cs", "Zl", "Zp", "Cn", "Co", "Cf")), min_size=1)


def job(**changes: object) -> BatchJob:
    """A job like any other, but for `changes`."""
    fields: dict[str, object] = {
        "name": "demo",
        "argv": ("/opt/python", "-I", "-m", "sflow_ctl", "run", "--file", "/w/demo.yaml"),
        "workspace_dir": "/w",
        "stdout": "/w/sflow_output/%j.out",
        "stderr": "/w/sflow_output/%j.err",
        "partition": "gpu",
        "account": "lab",
        "nodes": 2,
    }
    return BatchJob(**{**fields, **changes})  # type: ignore[arg-type]


def sbatch_words(script: str) -> list[str]:
    """The options in a script, as sbatch finds them. Source: Slurm's src/sbatch/opt.c, get_argument."""
    words = []
    for line in script.splitlines():
        if not line.startswith("#"):
            break
        if line.startswith("#SBATCH"):
            reader = shlex.shlex(line.removeprefix("#SBATCH"), posix=True)
            reader.whitespace_split = True
            reader.escapedquotes = "\"'"
            words += list(reader)
    return words


def test_the_whole_script() -> None:
    whole = job(
        time="0-01:30:00",
        gpus_per_node=4,
        dependencies=(("afterok", ("12", "13")), ("afterany", ("14",))),
        requeue="expedite",
        allocation_args=("--qos", "high prio"),
        extra_args=("--comment=x",),
    )
    assert batch_script(whole, "sflow-ctl 1.0") == (
        "#!/bin/bash\n"
        "# Made by sflow-ctl 1.0.\n"
        "#SBATCH --job-name=demo\n"
        "#SBATCH --output=/w/sflow_output/%j.out\n"
        "#SBATCH --error=/w/sflow_output/%j.err\n"
        "#SBATCH --open-mode=append\n"
        "#SBATCH --mem=0\n"
        "#SBATCH --partition=gpu\n"
        "#SBATCH --account=lab\n"
        "#SBATCH --nodes=2\n"
        "#SBATCH --time=0-01:30:00\n"
        "#SBATCH --gpus-per-node=4\n"
        "#SBATCH --dependency=afterok:12:13,afterany:14\n"
        "#SBATCH --kill-on-invalid-dep=yes\n"
        "#SBATCH --requeue=expedite\n"
        '#SBATCH --qos "high prio"\n'
        "#SBATCH --comment=x\n"
        "\n"
        "cd /w || exit 3\n"
        "# Nothing comes after the run: its exit status is the job's, and Slurm's signals reach it.\n"
        "exec /opt/python -I -m sflow_ctl run \\\n"
        "    --file /w/demo.yaml\n"
    )


def test_unset_options_are_left_to_slurm() -> None:
    words = sbatch_words(batch_script(job(nodes=None), "x"))
    assert [word.partition("=")[0] for word in words] == [
        "--job-name", "--output", "--error", "--open-mode", "--mem", "--partition", "--account",
    ]  # fmt: skip


@pytest.mark.parametrize(
    "option",
    ["--mem-per-cpu=100", "--mem-per-gpu=1G", "--mem-per-cpu 100", "--mem-per-c=100", "--qos=x --mem=200"],
)
@pytest.mark.parametrize("field", ["allocation_args", "extra_args"])
def test_public_07_memory_is_asked_for_in_one_way(option: str, field: str) -> None:
    words = sbatch_words(batch_script(job(**{field: (option,)}), "x"))
    assert "--mem=0" not in words
    assert "--mem=0" in sbatch_words(batch_script(job(extra_args=("--mem-bind=local",)), "x"))


@pytest.mark.parametrize(
    ("files", "given", "kept"),
    [
        (("--mem-per-cpu=100",), ("--mem-per-gpu 1G",), ()),
        (("--mem", "5G", "-c2", "--mem-bind=local"), ("--qos=x --mem=200",), ("-c2", "--mem-bind=local")),
        (("--mem-per-cpu 100", "--exclusive"), ("--mem=0",), ("--exclusive",)),
        (("--mem-per-cpu", "100"), ("-c2",), ("--mem-per-cpu", "100")),
    ],
)
def test_public_07_the_command_lines_memory_replaces_the_files(
    files: tuple[str, ...], given: tuple[str, ...], kept: tuple[str, ...]
) -> None:
    """Slurm refuses two of the three ways to ask for memory."""
    assert without_replaced_memory(files, given) == kept
    words = sbatch_words(batch_script(job(allocation_args=files, extra_args=given), "x"))
    assert sum(word.startswith("--mem") and not word.startswith("--mem-bind") for word in words) == 1


def test_public_06_another_jobs_variables_do_not_reach_a_new_one() -> None:
    foreign = {
        "SLURM_HET_SIZE": "2",
        "SLURM_JOB_END_TIME": "1",
        "SBATCH_MEM_PER_CPU": "9",
        "SLURM_GPUS_ON_NODE": "4",
    }
    kept = {"SLURM_CONF": "/etc/slurm.conf", "SBATCH_QOS": "high", "PATH": "/bin", "SBATCH_MEM_BIND": "local"}
    assert submit_environment({**foreign, **kept}, has_memory=True) == kept


@pytest.mark.parametrize("name", MEMORY_VARIABLES)
def test_public_07_a_users_default_of_memory_is_the_one_way_to_ask(name: str) -> None:
    assert "--mem=0" not in sbatch_words(batch_script(job(has_memory_default=True), "x"))
    assert submit_environment({name: "9"}, has_memory=False) == {name: "9"}
    assert submit_environment({name: "9"}, has_memory=True) == {}


@given(name=LINE, account=LINE, arguments=st.lists(LINE, max_size=3))
def test_directives_hold_any_line(name: str, account: str, arguments: list[str]) -> None:
    assume(all(map(str.isprintable, [name, account, *arguments])))
    script = batch_script(job(name=name, account=account, allocation_args=tuple(arguments)), "x")
    words = sbatch_words(script)
    assert f"--job-name={name}" in words
    assert f"--account={account}" in words
    assert words[len(words) - len(arguments) :] == arguments


@pytest.mark.parametrize("field", ["name", "partition", "account", "stdout", "time"])
@pytest.mark.parametrize("bad", ["a\nb", "a\x1b[0m", "a\rb"])
def test_a_directive_is_one_line(field: str, bad: str) -> None:
    with pytest.raises(UsageError, match="cannot hold"):
        batch_script(job(**{field: bad}), "x")


def test_an_extra_argument_cannot_become_a_command() -> None:
    with pytest.raises(UsageError):
        batch_script(job(extra_args=("--comment=x\nrm -r /",)), "x")
