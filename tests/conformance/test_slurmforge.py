"""Configurations that slurmforge writes itself, both generations, as workflows of ours that can be planned, and one that runs.

Needs the packages: each is installed into an environment of its own, so this runs where `SFLOW_REFERENCE` or `CI` is set.
"""

import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from protocol.errors import FleetError
from sflow_ctl.format.slurmforge.convert import Converted, convert
from sflow_ctl.format.yaml_source import read_source
from sflow_ctl.plan.model import Plan
from tests.conformance.reference.comparison import planned_here
from tests.conformance.reference.install import NotInstalledError, environment
from tests.support import sflow_ctl

ZERO, ONE = "0.2.2", "1.2.3"
KINDS = ("script", "command", "registry", "adapter")
TEMPLATES = ("train-eval", "train-only", "eval-checkpoint")
FILLED_IN = {
    "partition: ~": "partition: gpu",
    "account: ~": "account: lab",
    "time_limit: ~": 'time_limit: "02:00:00"',
    "script: ~": "script: train.py",
    "command: ~": 'command: "python train.py --epochs 1"',
    "registry_file: ~": "registry_file: models.yaml",
}
SWEEP = """\
sweep:
  enabled: true
  max_runs: 5
  shared_axes: {run.args.lr: [1e-4, 5e-5]}
  cases:
    - {name: small, set: {run.args.batch_size: 8}}
    - {name: large, set: {run.args.batch_size: 64}, axes: {run.args.epochsize: [10, 20]}}
"""


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a directory with every configuration that the two packages write."""
    if not (os.environ.get("SFLOW_REFERENCE") or os.environ.get("CI")):
        pytest.skip(
            f"set SFLOW_REFERENCE=1 to convert what slurmforge {ZERO} and {ONE} write: they are installed for it"
        )
    folder = tmp_path_factory.mktemp("slurmforge")
    try:
        zero, one = (environment(version, "slurmforge").with_name("sforge") for version in (ZERO, ONE))
    except NotInstalledError as error:
        if os.environ.get("CI"):
            raise
        pytest.skip(str(error))
    for kind in KINDS:
        for profile in ("starter", "hpc"):
            _sforge(zero, "init", kind, "--profile", profile, "--out", folder / "zero" / f"{kind}-{profile}")
    listed = _sforge(zero, "examples", "list")
    for name in re.findall(r"^  (\w+)\s{2,}\S", listed, re.MULTILINE):
        target = folder / "examples" / name / "experiment.yaml"
        target.parent.mkdir(parents=True, exist_ok=True)
        _sforge(zero, "examples", "export", name, "--out", target, "--force")
    registry = (folder / "examples" / "model_registry" / "experiment.yaml").read_text()
    for name in ("registry_starter", "registry_hpc"):
        (folder / "examples" / name / "models.yaml").write_text(registry)
    for template in TEMPLATES:
        _sforge(one, "init", "--template", template, "--output", folder / "one" / template)
    return folder


def _sforge(program: Path, *words: str | Path) -> str:
    done = subprocess.run(
        [program, *map(str, words)],
        capture_output=True,
        text=True,
        check=True,
        stdin=subprocess.DEVNULL,
        timeout=120,
    )
    return done.stdout


def _converted(file: Path) -> Converted:
    source, problems = read_source(file)
    assert source is not None
    assert not problems

    def read(name: str) -> str | None:
        path = file.parent / name
        return path.read_text() if path.is_file() else None

    return convert(source, read)


def _files(written: Path) -> Iterator[Path]:
    for file in sorted(written.glob("*/*/experiment.yaml")):
        if file.parent.name != "model_registry":
            yield file


def _plan(folder: Path, text: str) -> Plan | FleetError:
    (folder / "sflow.yaml").write_text(text)
    return planned_here(["-f", str(folder / "sflow.yaml")], folder)


def _filled_in(file: Path) -> Path:
    text = file.read_text()
    for old, new in FILLED_IN.items():
        text = text.replace(old, new)
    if "stages:" in text:
        text = text.replace("      partition: gpu\n", "      partition: gpu\n      account: lab\n")
    filled = file.with_name("filled_in.yaml")
    filled.write_text(text)
    return filled


def test_what_is_left_open_in_a_sample_is_named_and_nothing_else_is_wrong(written: Path) -> None:
    files = list(_files(written))
    assert len(files) >= 8 + 10 + 3
    for file in files:
        converted = _converted(file)
        plan = _plan(file.parent, converted.text)
        codes = {one.code for one in plan.findings} if isinstance(plan, FleetError) else set()
        assert codes == ({"unfilled-placeholder"} if converted.to_fill_in else set()), (file, plan)


def test_every_sample_that_is_filled_in_is_a_workflow_that_can_be_planned(written: Path) -> None:
    for file in _files(written):
        converted = _converted(_filled_in(file))
        assert not converted.to_fill_in, file
        assert not [one.text for one in converted.left if "knows no such key" in one.reason]
        plan = _plan(file.parent, converted.text)
        assert isinstance(plan, Plan), plan
        assert plan.tasks


def test_a_sweep_has_the_runs_of_slurmforge(written: Path) -> None:
    folder = written / "zero" / "script-starter"
    file = _filled_in(folder / "experiment.yaml")
    file.write_text(f"{file.read_text()}\n{SWEEP}")
    plan = _plan(folder, _converted(file).text)
    assert isinstance(plan, Plan), plan
    sforge = environment(ZERO, "slurmforge").with_name("sforge")
    (folder / "train.py").touch()
    theirs = _sforge(sforge, "generate", "--config", file, "--dry_run")
    assert re.search(r"\b5\b", theirs), theirs
    assert len(plan.tasks) == 5


def test_the_sample_with_training_and_evaluation_runs_here_as_it_is(written: Path) -> None:
    folder = written / "one" / "train-eval"
    (folder / "sflow.yaml").write_text(
        _converted(folder / "experiment.yaml").text.replace("CHANGE_ME", "lab")
    )
    done = sflow_ctl("run", "--nodes", "1", "--gpus-per-node", "1", "--simulate-gpus", "--quiet", cwd=folder)
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(r"^eval +completed .* 1$", done.stdout, re.MULTILINE), done.stdout
