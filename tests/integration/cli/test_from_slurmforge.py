"""An experiment of slurmforge 0.x that is converted and runs: sweep, checkpoints, evaluation; and what `init` refuses."""

from pathlib import Path

from tests.support import sflow_ctl

EXPERIMENT = """\
project: p
experiment_name: e
output: {batch_name: first}
model: {name: m, script: train.py}
run: {args: {lr: 1e-4, fast: true}}
artifacts: {checkpoint_globs: ["checkpoints/**/*.pt"]}
sweep: {enabled: true, shared_axes: {run.args.lr: [1e-3, 1e-4]}}
eval: {enabled: true, script: eval.py}
"""
TRAIN = """\
import argparse, os, sys
parser = argparse.ArgumentParser()
parser.add_argument("--lr")
parser.add_argument("--fast", action="store_true")
parser.add_argument("--resume_from_checkpoint", default="")
args = parser.parse_args()
folder = os.environ["AI_INFRA_CHECKPOINT_DIR"]
assert args.fast and args.resume_from_checkpoint == os.environ["AI_INFRA_RESUME_FROM_CHECKPOINT"]
if not args.resume_from_checkpoint:
    open(f"{folder}/step_100.pt", "w").write(args.lr)
    sys.exit(3)
open(f"{folder}/step_200.pt", "w").write(open(args.resume_from_checkpoint).read())
"""
EVAL = """\
import argparse, json, os
parser = argparse.ArgumentParser()
parser.add_argument("--run_args_json")
args = json.loads(parser.parse_args().run_args_json)
path = os.environ["AI_INFRA_PRIMARY_CHECKPOINT"]
assert path.endswith("step_200.pt") and float(open(path).read()) == args["lr"]
print("evaluated", args)
"""


def test_a_converted_experiment_trains_resumes_and_evaluates_each_cell(tmp_path: Path) -> None:
    for name, text in {"experiment.yaml": EXPERIMENT, "train.py": TRAIN, "eval.py": EVAL}.items():
        (tmp_path / name).write_text(text)
    done = sflow_ctl("init", "--from-slurmforge", "experiment.yaml", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "Try it: sflow-ctl validate" in done.stdout
    assert "warning[not-as-it-was]: output.batch_name: " in done.stderr
    assert "where: experiment.yaml:3:10" in done.stderr
    done = sflow_ctl("run", "--set", "tasks.train.retries=1", "--run-id", "r", cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    for lr in ("0.001", "0.0001"):
        assert f"'lr': {lr}" in done.stdout
    assert done.stdout.count("continues from ") + done.stderr.count("continues from ") == 2


def test_what_init_cannot_convert_is_refused_and_nothing_is_written(tmp_path: Path) -> None:
    (tmp_path / "models.yaml").write_text("models: []\n")
    for words, said in (
        (("--from-slurmforge", "models.yaml"), "error[not-slurmforge]: a registry of models"),
        (("--from-slurmforge", "no.yaml"), "the experiment no.yaml does not exist"),
        (("sweep", "--from-slurmforge", "models.yaml"), "error[conflicting-options]"),
    ):
        done = sflow_ctl("init", *words, cwd=tmp_path)
        assert done.returncode == 2
        assert said in done.stderr
    assert not (tmp_path / "sflow.yaml").exists()
