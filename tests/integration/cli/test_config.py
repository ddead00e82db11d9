"""`config show`, and the effect of a site's and a user's files on commands."""

import json
from pathlib import Path

import pytest

from tests.support import sflow_ctl

WORKFLOW = """
version: "0.1"
settings: {headroom: 2m}
operators: {box: {type: container, image: alpine}, own: {type: container, image: alpine, engine: docker}}
workflow:
  name: w
  tasks: [{name: a, script: ["true"]}]
"""
SITE = (
    "interface: ib0\nheadroom: 30\npreamble:\n  - |\n    one\n    two\n  - three\ncontainer_engine: podman\n"
)


@pytest.fixture
def env(tmp_path: Path) -> dict[str, str]:
    """With a site's and a user's file."""
    (tmp_path / "site.yaml").write_text(SITE)
    (tmp_path / "config" / "sflow").mkdir(parents=True)
    (tmp_path / "config" / "sflow" / "config.yaml").write_text("output_dir: $RUNS/of-mine\n")
    (tmp_path / "w.yaml").write_text(WORKFLOW)
    return {
        "SFLOW_SITE_FILE": str(tmp_path / "site.yaml"),
        "XDG_CONFIG_HOME": str(tmp_path / "config"),
        "RUNS": str(tmp_path / "runs"),
    }


def test_its_output_is_an_equivalent_site_file(tmp_path: Path, env: dict[str, str]) -> None:
    shown = sflow_ctl("config", "show", cwd=tmp_path, env=env)
    assert shown.returncode == 0, shown.stderr
    (tmp_path / "again.yaml").write_text(shown.stdout)
    other = {"SFLOW_SITE_FILE": str(tmp_path / "again.yaml"), "XDG_CONFIG_HOME": str(tmp_path)}
    again = sflow_ctl("config", "show", cwd=tmp_path, env=other)
    assert again.stdout == shown.stdout
    assert "- |\n  one\n  two\n- three\n" in shown.stdout


def test_origins(tmp_path: Path, env: dict[str, str]) -> None:
    words = ("config", "show", "w.yaml", "--interface", "eth1", "--origin")
    lines = sflow_ctl(*words, cwd=tmp_path, env=env).stdout.splitlines()
    assert "interface: eth1  # command line" in lines
    assert "headroom: 2m  # w.yaml:3:22" in lines
    assert f"preamble:  # {tmp_path}/site.yaml:4:3" in lines
    assert f"output_dir: $RUNS/of-mine  # {tmp_path}/config/sflow/config.yaml:1:13" in lines
    assert "lost_after: 30  # default" in lines
    told = json.loads(sflow_ctl(*words, "--json", cwd=tmp_path, env=env).stdout)
    assert told["headroom"] == {"value": "2m", "origin": "w.yaml:3:22"}
    plain = json.loads(sflow_ctl("config", "show", "--json", cwd=tmp_path, env=env).stdout)
    assert plain["headroom"] == 30
    assert plain["preamble"] == ["one\ntwo\n", "three"]


def test_runs_go_where_the_user_wants_and_are_found_there(tmp_path: Path, env: dict[str, str]) -> None:
    (tmp_path / "site.yaml").write_text("")
    done = sflow_ctl("run", "w.yaml", "--run-id", "r", cwd=tmp_path, env=env)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "runs" / "of-mine" / "r" / ".sflow/summary.json").exists()
    for command in ("status", "logs", "attach"):
        looked = sflow_ctl(command, cwd=tmp_path, env=env)
        assert looked.returncode == 0, looked.stderr
    elsewhere = sflow_ctl("status", "--output-dir", "here", cwd=tmp_path, env=env)
    assert elsewhere.returncode != 0
    assert "no runs in here" in elsewhere.stderr


def test_a_container_that_names_no_engine_has_the_sites(tmp_path: Path, env: dict[str, str]) -> None:
    tasks = "  tasks: [{name: a, operator: box, script: [x]}, {name: b, operator: own, script: [x]}]\n"
    (tmp_path / "w.yaml").write_text(WORKFLOW.replace('  tasks: [{name: a, script: ["true"]}]\n', tasks))
    plan = json.loads(sflow_ctl("plan", "w.yaml", "--json", cwd=tmp_path, env=env).stdout)
    assert [task["container"]["engine"] for task in plan["tasks"]] == ["podman", "docker"]


@pytest.mark.parametrize(
    "command", [("run", "w.yaml"), ("plan", "w.yaml"), ("status",), ("batch", "w.yaml"), ("config", "show")]
)
def test_a_mistake_in_the_sites_file_ends_every_command_that_uses_it(
    command: tuple[str, ...], tmp_path: Path, env: dict[str, str]
) -> None:
    (tmp_path / "site.yaml").write_text("interfce: ib0\nlaunch_flags: [--ntasks=1]\n")
    done = sflow_ctl(*command, cwd=tmp_path, env=env)
    assert done.returncode == 2
    assert f"where: {tmp_path}/site.yaml:1:11  interfce" in done.stderr
    assert 'did you mean "interface"?' in done.stderr
    assert "would break the one step" in done.stderr
    assert not (tmp_path / "runs").exists()


def test_an_unreadable_file_is_reported(tmp_path: Path, env: dict[str, str]) -> None:
    (tmp_path / "site.yaml").write_bytes(b"account: \xff\n")
    done = sflow_ctl("config", "show", cwd=tmp_path, env=env)
    assert done.returncode == 2
    assert f"settings file {tmp_path}/site.yaml is not UTF-8" in done.stderr
    assert f"where: {tmp_path}/site.yaml:1:10" in done.stderr
