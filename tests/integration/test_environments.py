"""Environments in real runs: real modules, a real virtual environment, conda's scripts, failures, what replicas share."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.support import sflow_ctl

MODULES = Path("/usr/share/modules/init/bash")
needs_modules = pytest.mark.skipif(not MODULES.exists(), reason="needs the package environment-modules")


def run(
    folder: Path, environments: str, tasks: str, **env: str
) -> tuple[subprocess.CompletedProcess[str], dict[str, Any]]:
    """Return the process and the summary of a run with id R."""
    text = f'version: "0.1"\nenvironments:\n{environments}workflow:\n  name: w\n  tasks:\n{tasks}'
    (folder / "w.yaml").write_text(text)
    done = sflow_ctl("run", "w.yaml", "--run-id", "R", cwd=folder, env={**os.environ, **env})
    return done, json.loads((folder / "sflow_output/R/.sflow/summary.json").read_text())


def log(folder: Path, task: str) -> str:
    return (folder / f"sflow_output/R/{task}/{task}.log").read_text()


def lines(folder: Path, task: str) -> list[str]:
    """Return what the script of a task printed."""
    return [line for line in log(folder, task).splitlines() if not line.startswith("[environment ")]


def reason(summary: dict[str, Any], task: str) -> tuple[str, str]:
    found = next(one for one in summary["tasks"] if one["name"] == task)
    return found["reason_word"], found["reason"]


def test_files_variables_and_lines_come_in_order_and_quotes_are_safe(tmp_path: Path) -> None:
    (tmp_path / "a b").mkdir()
    (tmp_path / "a b/it's.sh").write_text(
        'export FROM_FILE="$1|$#|$WORD" PATH="/opt/first:$PATH"\ndeclare -x DECLARED=yes\n'
        'greet() { echo "hello $1"; }; export -f greet\nset -eu\numask 027\n'
    )
    done, _ = run(
        tmp_path,
        """  e:
    source: {path: "a b/it's.sh", args: ["one 'two' $X"]}
    env: {QUOTED: "it's \\"$HOME\\" `ls`", FROM_FILE2: 0x10}
    before: ["export LAST=\\"$QUOTED|$FROM_FILE\\"", "cd /"]
""",
        """    - name: t
      environment: e
      variables: {WORD: "w w"}
      script: ['printf "%s\\n" "$FROM_FILE" "$QUOTED" "$LAST" "$DECLARED" "${PATH%%:*}" "$FROM_FILE2" "$(umask)" "$PWD"',
               'greet "$SFLOW_TASK_NAME"; false; echo "$UNSET"; env | grep -c -e __sflow -e SFLOW_ENVIRONMENT']
""",
    )
    given, quoted = "one 'two' $X|1|w w", 'it\'s "$HOME" `ls`'
    expected = [
        given,
        quoted,
        f"{quoted}|{given}",
        "yes",
        "/opt/first",
        "0x10",
        "0027",
        "/",
        "hello t",
        "",
        "0",
    ]
    assert lines(tmp_path, "t") == expected, done.stdout + done.stderr


def test_replicas_of_a_node_set_up_what_they_share_once(tmp_path: Path) -> None:
    (tmp_path / "e.sh").write_text(
        'echo x >> count; echo "seen: ${SFLOW_TASK_NAME-hidden} ${N-hidden} $M"; sleep 0.3; export FOUND="$M"\n'
    )
    done, _ = run(
        tmp_path,
        "  e: {source: e.sh, before: ['echo x >> before']}\n  each: {source: e.sh, each_time: true}\n",
        """    - name: t
      environment: e
      replicas: {variables: [N]}
      script: ['echo "$SFLOW_TASK_NAME $N $FOUND"']
    - {name: other, depends_on: [t], environment: e, script: ['echo "$FOUND"']}
    - {name: changed, depends_on: [other], environment: e, variables: {M: new}, script: ['echo "$FOUND"']}
    - {name: again, depends_on: [changed], replicas: 2, environment: each, script: ['echo "$FOUND"']}
variables: {N: {value: 1, domain: [1, 2, 3, 4, 5, 6, 7, 8]}, M: m}
""",
    )
    assert done.returncode == 0, done.stdout
    assert (tmp_path / "before").read_text().count("x") == 10
    # By all of t, by other, which sees the variable N as well, by changed, and by each of again.
    assert (tmp_path / "count").read_text().count("x") == 5
    for task in (tmp_path / "sflow_output/R").glob("t_*"):
        assert lines(tmp_path, task.name)[-1].startswith(f"{task.name} "), task
        assert lines(tmp_path, task.name)[-1].endswith(" m")
    assert lines(tmp_path, "other")[-1] == "m"
    assert lines(tmp_path, "changed")[-1] == "new"
    assert "seen: hidden hidden m" in done.stdout
    assert "seen: again_0 1 m" in done.stdout


@needs_modules
def test_modules_of_the_node_are_loaded(tmp_path: Path) -> None:
    (tmp_path / "mods/tool").mkdir(parents=True)
    (tmp_path / "mods/tool/1.0").write_text(
        "#%Module\nprepend-path PATH /opt/tool/bin\nsetenv TOOL_HOME /opt/tool\n"
    )
    bare = {"PATH": os.environ["PATH"], "HOME": os.environ["HOME"]}
    done, summary = run(
        tmp_path,
        "  good: {modules: [purge, use mods, tool/1.0]}\n  bad: {modules: [use mods, tool/1.0, tool/99]}\n",
        """    - {name: t, environment: good, script: ['echo $TOOL_HOME ${PATH%%:*}; module list -t 2>&1 | tail -n 1']}
    - {name: u, depends_on: [t], environment: bad, retries: 3, script: ['touch ran']}
""",
        **bare,
    )
    assert lines(tmp_path, "t") == ["/opt/tool /opt/tool/bin", "tool/1.0"], done.stdout
    word, text = reason(summary, "u")
    assert word == "bootstrap"
    assert text.startswith(
        'environment "bad" could not be set up: `module load tool/99` failed with status 1: ERROR: '
    )
    assert "task u did not begin" in done.stdout + done.stderr
    assert "[environment bad] failed with status 1: module load tool/99" in log(tmp_path, "u")
    assert not (tmp_path / "ran").exists()
    assert next(one for one in summary["tasks"] if one["name"] == "u")["attempts"] == 1


def test_a_virtual_environment_is_that_of_scripts_and_of_python(tmp_path: Path) -> None:
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", "my env"], cwd=tmp_path, check=True)
    done, _ = run(
        tmp_path,
        "  e: {venv: my env/}\n",
        """    - {name: t, environment: e, script: ['python -c "import sys; print(sys.prefix)"']}
    - {name: u, environment: e, operator: py, script: ['import sys; print(sys.prefix)']}
    - name: server
      environment: e
      script: [sleep 60]
      probes: {readiness: {exec: {command: 'python -c "import sys; print(sys.prefix)" > probe'}, interval: 0.1}}
    - {name: client, depends_on: [server], script: ['true']}
operators: {py: {type: python}}
""",
    )
    assert done.returncode == 0, done.stdout
    assert lines(tmp_path, "t") == lines(tmp_path, "u") == [str(tmp_path / "my env")]
    assert (tmp_path / "probe").read_text().strip() == str(tmp_path / "my env")


CONDA_SH = """export CONDA_EXE='{root}/bin/conda'
export CONDA_SHLVL=0
conda() {{
    [ "$1" = activate ] || return 2
    if [ ! -d "{root}/envs/$2" ]; then
        echo "EnvironmentNameNotFound: Could not find conda environment: $2" >&2; return 1
    fi
    export CONDA_PREFIX="{root}/envs/$2" CONDA_DEFAULT_ENV="$2" CONDA_SHLVL=1 PATH="{root}/envs/$2/bin:$PATH"
    local hook; for hook in "$CONDA_PREFIX"/etc/conda/activate.d/*.sh; do [ -r "$hook" ] && . "$hook"; done; return 0
}}
"""
"""The shape of what conda installs as etc/profile.d/conda.sh: a function that is there only after this has been read."""


def test_a_conda_environment_is_activated_with_its_hooks(tmp_path: Path) -> None:
    root = tmp_path / "conda"
    for name in ("bin", "etc/profile.d", "envs/train/bin", "envs/train/etc/conda/activate.d"):
        (root / name).mkdir(parents=True)
    (root / "etc/profile.d/conda.sh").write_text(CONDA_SH.format(root=root))
    (root / "envs/train/etc/conda/activate.d/x.sh").write_text("export HOOK=ran\n")
    done, summary = run(
        tmp_path,
        "  e: {conda: train}\n  f: {conda: missing}\n",
        """    - {name: t, environment: e, script: ['echo $CONDA_DEFAULT_ENV $HOOK ${PATH%%:*}']}
    - {name: u, depends_on: [t], environment: f, script: ['true']}
""",
        CONDA_EXE=str(root / "bin/conda"),
    )
    assert lines(tmp_path, "t") == [f"train ran {root}/envs/train/bin"], done.stdout
    word, text = reason(summary, "u")
    assert word == "bootstrap"
    assert text.endswith("Could not find conda environment: missing (exit status 121)")


@pytest.mark.parametrize(
    ("environment", "line", "output"),
    [
        ("{source: gone.sh}", "source gone.sh", "./gone.sh does not exist on this node, or cannot be read"),
        ("{source: leaves.sh}", "source leaves.sh", "leaving"),
        ("{source: status.sh}", "source status.sh", ""),
        ("{venv: gone}", "source gone/bin/activate", "there is no virtual environment"),
        (
            "{before: ['true', 'echo why; false | true; (exit 3); echo no']}",
            "echo why; false | true; (exit 3); echo no",
            "why",
        ),
        ("{before: ['if']}", "if", "syntax error"),
        ("{before: [exit 0]}", None, ""),
    ],
)
def test_a_line_that_fails_is_named_with_its_output(
    tmp_path: Path, environment: str, line: str | None, output: str
) -> None:
    (tmp_path / "leaves.sh").write_text("echo leaving; exit 7\n")
    (tmp_path / "status.sh").write_text("set -e; export A=1; return 4\n")
    task = "    - {name: t, environment: e, script: ['touch ran']}\n"
    done, summary = run(tmp_path, f"  e: {environment}\n", task)
    assert done.returncode == 1, done.stdout
    assert not (tmp_path / "ran").exists()
    word, text = reason(summary, "t")
    assert word == "bootstrap"
    assert line is None or f"`{line}` failed with status" in text
    assert output in text
    assert "[environment e] failed with status" in log(tmp_path, "t").splitlines()[-1]


def test_replicas_that_waited_for_a_failed_set_up_fail_with_it(tmp_path: Path) -> None:
    (tmp_path / "e.sh").write_text("echo x >> count; sleep 1; echo broken; return 1\n")
    task = "    - {name: t, replicas: 6, on_failure: continue, environment: e, script: ['true']}\n"
    done, summary = run(tmp_path, "  e: {source: e.sh}\n", task)
    assert (tmp_path / "count").read_text().count("x") == 1, done.stdout
    assert {reason(summary, f"t_{number}")[0] for number in range(6)} == {"bootstrap"}
    assert all("status 1: broken" in reason(summary, f"t_{number}")[1] for number in range(6))


def test_a_later_attempt_sets_it_up_anew(tmp_path: Path) -> None:
    (tmp_path / "e.sh").write_text("[ -e second ] || { touch second; return 1; }; export FOUND=1\n")
    task = "    - {name: t, retries: {count: 1, interval: 0.1, reasons: [bootstrap]}, environment: e, script: ['echo $FOUND']}\n"
    done, _ = run(tmp_path, "  e: {source: e.sh}\n", task)
    assert done.returncode == 0, done.stdout
    assert lines(tmp_path, "t") == ["1"]


def test_a_status_of_the_script_is_its_own(tmp_path: Path) -> None:
    done, summary = run(
        tmp_path, "  e: {before: 'true'}\n", "    - {name: t, environment: e, script: [exit 121]}\n"
    )
    assert done.returncode == 1
    assert reason(summary, "t")[0] == "exit"


@pytest.mark.skipif(shutil.which("flock") is None, reason="needs flock")
def test_without_flock_each_process_sets_up_its_own(tmp_path: Path) -> None:
    programs = tmp_path / "programs"
    programs.mkdir()
    for name in ("bash", "env", "sleep", "touch", "true", "python3", "sh"):
        (programs / name).symlink_to(shutil.which(name) or name)
    (tmp_path / "e.sh").write_text("echo x >> count; export FOUND=1\n")
    task = "    - {name: t, replicas: 3, environment: e, script: ['echo $FOUND']}\n"
    done, _ = run(tmp_path, "  e: {source: e.sh}\n", task, PATH=str(programs))
    assert done.returncode == 0, done.stdout + done.stderr
    assert (tmp_path / "count").read_text().count("x") == 3
    assert lines(tmp_path, "t_0") == ["1"]
