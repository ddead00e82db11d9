"""Values of secrets in whole runs: nowhere in what is shown or recorded, and on no command line. S6."""

import json
import os
import stat
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.support import command, sflow_ctl

TOKEN, HF_TOKEN = "hunter2-sw0rd'fish", "hf_from_the_environment"
ENVIRONMENT = {"HF_TOKEN": HF_TOKEN}


def write(
    folder: Path, *tasks: Mapping[str, Any], name: str = "w.yaml", token: str = TOKEN, **sections: Any
) -> None:
    document = {
        "version": "0.1",
        "secrets": ["TOKEN", "HF_TOKEN"],
        "variables": {"TOKEN": token, "URL": "http://u:${{ variables.TOKEN }}@h/"},
        **sections,
        "workflow": {"name": "w", "tasks": list(tasks)},
    }
    (folder / name).write_text(json.dumps(document))


SHOW = 'echo "$TOKEN $HF_TOKEN"; printf "%s" "${TOKEN:0:5}"; sleep 0.1; echo "${TOKEN:5}"; echo "$URL"'
PRINTS = {
    "name": "prints",
    "script": [
        SHOW,
        "echo ${{ variables.TOKEN | tojson }}",
        'echo "rate = $TOKEN"',
        "echo '{\"v\": \"'$HF_TOKEN'\"}' > v.json",
    ],
    "outputs": [{"pattern": "rate = {rate}"}, {"json": "v", "name": "v", "source": "../../../v.json"}],
}


def found_in(folder: Path, *values: str) -> list[str]:
    """Return the files below a folder that hold one of the values."""
    return sorted(
        str(path.relative_to(folder))
        for path in folder.rglob("*")
        if path.is_file() and any(value.encode() in path.read_bytes() for value in values)
    )


def test_s6_no_value_is_shown_or_recorded(tmp_path: Path) -> None:
    write(
        tmp_path,
        PRINTS,
        {"name": "fails", "script": [SHOW, "sleep 4", "echo fatal: $TOKEN >&2; exit 3"]},
        {
            "name": "service",
            "script": ["sleep 600"],
            "probes": {
                "readiness": {"exec": {"command": "echo no $TOKEN; exit 1"}, "timeout": 30, "interval": 1}
            },
            "stop": {"command": "echo bye $TOKEN; exit 1"},
        },
    )
    done = sflow_ctl("run", "w.yaml", "--run-id", "r", cwd=tmp_path, env=ENVIRONMENT)
    shown = done.stdout + done.stderr
    run = tmp_path / "sflow_output/r"
    assert "***TOKEN***" in shown
    assert "***HF_TOKEN***" in shown
    for arguments in (
        ("status", "r"),
        ("status", "r", "--json"),
        ("attach", "r"),
        ("logs",),
        ("logs", "prints"),
        ("plan", "w.yaml"),
        ("plan", "w.yaml", "--json"),
        ("visualize", "w.yaml", "--show-variables"),
    ):
        again = sflow_ctl(*arguments, cwd=tmp_path)
        shown += again.stdout + again.stderr
    assert "hunter2-sw0rd" not in shown
    assert HF_TOKEN not in shown
    assert found_in(run, "hunter2-sw0rd", HF_TOKEN) == []
    assert (run / "prints/prints.log").read_text().splitlines() == [
        "***TOKEN*** ***HF_TOKEN***",
        "***TOKEN***",
        "http://u:***TOKEN***@h/",
        "***TOKEN***",
        "rate = ***TOKEN***",
    ]
    plan = json.loads((run / ".sflow/plan.json").read_text())
    assert plan["variables"]["TOKEN"] == "***TOKEN***"
    assert plan["secrets"] == ["TOKEN", "HF_TOKEN"]


@pytest.mark.parametrize("given", [("--set", f"TOKEN={TOKEN}-set"), (f"--set=TOKEN={TOKEN}-set",)])
def test_s6_a_value_of_the_command_line_is_not_recorded(tmp_path: Path, given: tuple[str, ...]) -> None:
    write(tmp_path, PRINTS)
    done = sflow_ctl("run", "w.yaml", "--run-id", "r", *given, cwd=tmp_path, env=ENVIRONMENT)
    assert done.returncode == 0, done.stderr
    assert "hunter2-sw0rd" not in done.stdout + done.stderr
    assert found_in(tmp_path / "sflow_output/r", "hunter2-sw0rd") == []


@pytest.mark.parametrize("operator", ["bash", "python"])
def test_s6_a_script_with_a_value_is_on_no_command_line(tmp_path: Path, operator: str) -> None:
    """Every user of a node can read command lines; variables and files are the user's own."""
    line = {"bash": "true '{}'; test $# = 0", "python": "x = {!r}; assert len(x) == 17"}[operator]
    lists = "cat /proc/[0-9]*/cmdline 2>/dev/null | tr '\\0' '\\n' > cmdlines || true"
    script = line.format("${{ variables.TOKEN }}")
    if operator == "python":
        script += f"; import subprocess; subprocess.run({lists!r}, shell=True)"
    else:
        script = f"{script} && {lists}"
    write(
        tmp_path,
        {"name": "t", "operator": "o", "script": [script]},
        token="hunter2-sw0rdfish",
        operators={"o": {"type": operator}},
    )
    done = sflow_ctl("run", "w.yaml", "--run-id", "r", cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    seen = (tmp_path / "cmdlines").read_text()
    assert "SFLOW_TASK_SCRIPT" in seen
    assert "hunter2-sw0rdfish" not in seen


def test_s6_a_command_line_that_cannot_be_without_it_is_a_warning(tmp_path: Path) -> None:
    write(
        tmp_path,
        {"name": "t", "script": ["true"], "stop": {"command": ["bye", "${{ variables.TOKEN }}"]}},
        {"name": "d", "script": ["true"], "log": "direct"},
    )
    done = sflow_ctl("plan", "w.yaml", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "[secret-on-command-line]" in done.stdout + done.stderr
    assert "[secret-in-direct-log]" in done.stdout + done.stderr


def test_s6_a_mistake_in_a_secret_does_not_show_it(tmp_path: Path) -> None:
    for variables in (
        {"TOKEN": {"type": "integer", "value": TOKEN}},
        {"TOKEN": f"{TOKEN}", "X": {"type": "integer", "value": "${{ variables.TOKEN }}"}},
        {"TOKEN": TOKEN, "X": "${{ variables.TOKEN.nothing }} ${{ variables.TOKEN | int / 0 }}"},
    ):
        write(tmp_path, {"name": "t", "script": ["true"], "timeout": f"{TOKEN}"}, variables=variables)
        for options in ((), ("--debug",)):
            done = sflow_ctl(*options, "plan", "w.yaml", cwd=tmp_path)
            assert done.returncode == 2, done.stdout
            assert "hunter2-sw0rd" not in done.stdout + done.stderr


def test_s6_a_resume_asks_for_the_value_and_runs_only_what_is_left(tmp_path: Path) -> None:
    again = {"name": "again", "script": ["test -e go && echo $TOKEN"], "depends_on": ["once"]}
    write(tmp_path, {"name": "once", "script": ["echo $TOKEN; echo x >> count"]}, again)
    assert sflow_ctl("run", "w.yaml", "--run-id", "r", cwd=tmp_path).returncode == 1
    (tmp_path / "go").touch()
    refused = sflow_ctl("run", "--resume", "r", cwd=tmp_path)
    assert refused.returncode == 2
    assert "error[secret-missing]" in refused.stderr
    assert "--set TOKEN=" in refused.stderr
    done = sflow_ctl("run", "--resume", "r", "--set", "TOKEN=another-value", cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert (tmp_path / "count").read_text() == "x\n"
    assert "another-value" not in done.stdout + done.stderr
    assert found_in(tmp_path / "sflow_output/r", "another-value", "hunter2-sw0rd") == []


def test_s6_a_resume_from_the_file_has_the_value(tmp_path: Path) -> None:
    write(tmp_path, {"name": "t", "script": ["test -e go"]})
    assert sflow_ctl("run", "w.yaml", "--run-id", "r", cwd=tmp_path).returncode == 1
    (tmp_path / "go").touch()
    done = sflow_ctl("run", "w.yaml", "--resume", "r", cwd=tmp_path)
    assert done.returncode == 0, done.stderr


BATCH = ("-N", "1", "-p", "p", "-A", "a")


def test_s6_batch_scripts_and_composed_files_are_private(tmp_path: Path) -> None:
    write(tmp_path, {"name": "t", "script": ["true"]})
    old = os.umask(0)
    try:
        made = sflow_ctl("batch", "w.yaml", *BATCH, "--set", f"TOKEN={TOKEN}", "-o", "j.sh", cwd=tmp_path)
        sflow_ctl("compose", "w.yaml", "-o", "c.yaml", cwd=tmp_path)
        (tmp_path / "s.csv").write_text(f"sflow_config_file,TOKEN\nw.yaml,{TOKEN}\n")
        bulk = sflow_ctl("batch", "w.yaml", *BATCH, "-b", "s.csv", "--output-dir", "out", cwd=tmp_path)
    finally:
        os.umask(old)
    assert made.returncode == 0, made.stderr
    assert bulk.returncode == 0, bulk.stderr
    assert "hunter2-sw0rd" not in made.stdout + made.stderr + bulk.stdout + bulk.stderr
    assert "hunter2-sw0rd" not in (tmp_path / "j.sh").read_text()
    assert "hunter2-sw0rd" in (tmp_path / "j.yaml").read_text(), "the job needs it"
    modes = {
        name: oct(stat.S_IMODE((tmp_path / name).stat().st_mode)) for name in ("j.sh", "j.yaml", "c.yaml")
    }
    assert modes == {"j.sh": "0o700", "j.yaml": "0o600", "c.yaml": "0o600"}
    (folder,) = (tmp_path / "out").glob("bulk_input*")
    assert "hunter2-sw0rd" not in (folder / "results.csv").read_text()
    assert {oct(stat.S_IMODE(path.stat().st_mode)) for path in folder.iterdir()} == {"0o700", "0o600"}


def test_s6_a_script_that_would_show_a_value_in_ps_is_refused(tmp_path: Path) -> None:
    write(tmp_path, {"name": "t", "script": ["true"]})
    done = sflow_ctl("batch", "w.yaml", *BATCH, "--set", f"TOKEN={TOKEN}", cwd=tmp_path)
    assert done.returncode == 2
    assert "error[secret-on-command-line]" in done.stderr
    assert "-o FILE" in done.stderr
    assert "hunter2-sw0rd" not in done.stdout + done.stderr


def test_s6_what_a_run_is_started_from_keeps_its_values(tmp_path: Path) -> None:
    write(tmp_path, {"name": "t", "script": ["true"]})
    piped = subprocess.run(
        command("compose", "w.yaml"), cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert "hunter2-sw0rd" in piped.stdout
