"""Files of slurmforge, both generations, as workflows of ours."""

from pathlib import Path
from typing import Any

import pytest

from protocol.errors import SpecError
from sflow_ctl.format.slurmforge.convert import Converted, convert
from sflow_ctl.format.slurmforge.flags import Flag, command, switches
from sflow_ctl.format.slurmforge.job import clock, slurm_seconds
from sflow_ctl.format.yaml_source import read_source, value_of

ZERO = """\
project: lab
experiment_name: one
cluster: {partition: gpu, account: me, time_limit: "02:00:00", nodes: 1, gpus_per_node: 2, cpus_per_task: 4, mem: 32G}
resources: {max_available_gpus: 4}
model: {name: m, script: src/train.py}
run:
  args: {lr: 1e-4, use_amp: true, layers: [1, 2], batch-size: 8, skipped: null}
"""
ONE = """\
project: lab
experiment: one
stages:
  train:
    entry: {type: python_script, script: train.py, args: {lr: 0.1, fast: true, tag: [a, b c]}}
    resources: {partition: gpu, account: me, gpus_per_node: 1, time_limit: "01:00:00", mem: 16G}
    outputs: {checkpoint: {kind: file, discover: {globs: ["checkpoints/**/*.pt"]}}}
"""


def converted(tmp_path: Path, text: str, **files: str) -> Converted:
    file = tmp_path / "experiment.yaml"
    file.write_text(text)
    source, problems = read_source(file)
    assert source is not None
    assert not problems
    return convert(source, {name.replace("__", "."): content for name, content in files.items()}.get)


def document(tmp_path: Path, text: str, **files: str) -> dict[str, Any]:
    found: dict[str, Any] = value_of(converted(tmp_path, text, **files).text)
    return found


def left(tmp_path: Path, text: str) -> list[str]:
    return [one.key for one in converted(tmp_path, text).left]


def test_arguments_become_variables_that_the_script_finds_in_its_environment(tmp_path: Path) -> None:
    found = document(tmp_path, ZERO)
    assert found["variables"] == {
        "lr": 1e-4,
        "use_amp": True,
        "layers": [1, 2],
        "batch_size": 8,
        "skipped": None,
    }
    (task,) = found["workflow"]["tasks"]
    assert '--lr "$lr" --use_amp "${use_amp,,}" --layers "$layers" --batch-size "$batch_size"' in task[
        "script"
    ].replace("\\\n  ", "")
    assert "skipped" not in task["script"]


def test_a_flag_without_a_value_is_known_from_the_script(tmp_path: Path) -> None:
    script = 'p.add_argument("--use-amp", action="store_true")'
    text = ZERO.replace("src/train.py", "train.py")
    (task,) = document(tmp_path, text, train__py=script)["workflow"]["tasks"]
    assert '[ "$use_amp" != True ] || args+=(--use-amp)' in task["script"]


def test_the_cluster_becomes_a_job_with_room_for_several_runs_at_once(tmp_path: Path) -> None:
    swept = f"{ZERO}sweep: {{enabled: true, shared_axes: {{run.args.lr: [1e-3, 1e-4, 1e-5]}}}}\n"
    found = document(tmp_path, swept)
    backend = found["backends"]["cluster"]
    assert (backend["nodes"], backend["gpus_per_node"]) == (2, 2), "4 GPUs at once, 2 for each run"
    assert backend["time"] == "04:00:00", "two rounds of two hours"
    assert (backend["cpus_per_task"], backend["mem"]) == (4, "32G")
    assert found["sweep"] == {"axes": {"lr": [1e-3, 1e-4, 1e-5]}, "gpu_budget": 4}
    (task,) = found["workflow"]["tasks"]
    assert task["timeout"] == "02:00:00"
    assert task["resources"] == {"nodes": 1, "gpus": 2, "cpus": 4, "memory": "32G"}
    assert task["launcher"] == {"type": "torchrun", "nproc": 2}


def test_cells_keep_the_order_of_slurmforge(tmp_path: Path) -> None:
    """It sorts shared and own axes together by their paths; our names sort otherwise."""
    swept = f"""{ZERO}eval: {{enabled: true, script: e.py, args: {{a: 1}}}}
sweep:
  enabled: true
  max_runs: 7
  shared_axes: {{run.args.lr: [1e-3, 1e-4], eval.args.zeta: [1, 2]}}
  cases: [{{name: c, set: {{run.args.use_amp: false}}, axes: {{run.args.alpha: [1, 2]}}}}]
"""
    sweep = document(tmp_path, swept)["sweep"]
    assert sweep["order"] == "declared"
    assert "axes" not in sweep, "an own axis varies more slowly than a shared one"
    assert list(sweep["cases"][0]["axes"]) == ["zeta", "alpha", "lr"]
    assert sweep["cases"][0]["set"] == {"use_amp": False}
    assert sweep["max_runs"] == 7


def test_what_cells_ask_of_slurm_is_in_their_resources_and_the_job_is_large_enough(tmp_path: Path) -> None:
    axes = 'cluster.gpus_per_node: [1, 4], cluster.time_limit: ["01:00:00", "03:00:00"]'
    found = document(tmp_path, f"{ZERO}sweep: {{enabled: true, shared_axes: {{{axes}}}}}\n")
    (task,) = found["workflow"]["tasks"]
    assert task["resources"]["gpus"] == "${{ gpus_per_node }}"
    assert task["timeout"] == "${{ time_limit }}"
    assert found["backends"]["cluster"]["gpus_per_node"] == 4
    assert found["backends"]["cluster"]["time"] == "12:00:00"


def test_a_path_that_no_cell_can_change_is_left_with_its_place_and_reason(tmp_path: Path) -> None:
    swept = f"{ZERO}sweep: {{enabled: true, shared_axes: {{run.args.lr: [1, 2], launcher.mode: [ddp, single]}}}}\n"
    (one,) = [one for one in converted(tmp_path, swept).left if "launcher.mode" in one.key]
    assert one.line.endswith("experiment.yaml:8")
    assert "cannot be changed by a cell" in one.reason


def test_every_key_is_taken_or_left_with_a_reason(tmp_path: Path) -> None:
    text = f"{ZERO}nonsense: {{a: 1}}\nnotify: {{enabled: true, email: me@x.org, when: afternotok, colour: red}}\n"
    found = {one.key: one.reason for one in converted(tmp_path, text).left}
    assert "knows no such key" in found["nonsense.a"]
    assert "knows no such key" in found["notify.colour"]
    head = converted(tmp_path, text).text.partition("version:")[0]
    assert all(line.startswith("#") for line in head.strip().splitlines())
    assert "experiment.yaml:8  nonsense.a: 1" in head


def test_mail_is_sent_when_slurmforge_would_send_it(tmp_path: Path) -> None:
    text = f"{ZERO}notify: {{enabled: true, email: me@x.org, when: afternotok}}\n"
    assert document(tmp_path, text)["workflow"]["notify"] == [{"mail": ["me@x.org"], "when": "afternotok"}]


def test_the_evaluation_waits_for_the_training_of_its_cell_and_gets_its_checkpoint(tmp_path: Path) -> None:
    text = f"{ZERO}eval: {{enabled: true, script: e.py, args: {{lr: 3}}, train_outputs: {{checkpoint_policy: best}}}}\n"
    found = document(tmp_path, text)
    train, task = found["workflow"]["tasks"]
    checkpoint = {"name": "checkpoint", "path": ["checkpoints/**"], "required": False, "select": "best"}
    assert train["outputs"] == [checkpoint]
    given = {"from": "train.outputs.checkpoint", "env": "AI_INFRA_PRIMARY_CHECKPOINT"}
    assert task["inputs"] == {"checkpoint": given}
    assert 'export AI_INFRA_BEST_CHECKPOINT="$AI_INFRA_PRIMARY_CHECKPOINT"' in task["script"]
    assert "launcher" in task, "as the training: launch_mode inherit"
    assert '--lr "$eval_lr"' in task["script"], "an argument of the same name has a variable of its own"
    assert task["files"]["run_args.json"].startswith("${{ {'lr': lr,")
    assert '--run_args_json "$(cat "$SFLOW_TASK_FILES_DIR/run_args.json")"' in task["script"]


def test_modules_and_an_environment_are_set_up_before_each_stage(tmp_path: Path) -> None:
    text = f"{ZERO}env: {{modules: [cuda/12], venv_activate: source /v/bin/activate, conda_activate: c, extra_env: {{A: 1}}}}\n"
    found = document(tmp_path, text)
    assert found["environments"] == {"default": {"modules": ["cuda/12"], "conda": "c", "venv": "/v"}}
    assert found["workflow"]["tasks"][0]["environment"] == "default"
    assert found["variables"]["A"] == "1"
    found = document(tmp_path, text.replace("/v/bin/activate", "setup.sh"))
    assert found["environments"]["default"]["source"] == ["setup.sh"]


def test_a_further_attempt_continues_from_a_checkpoint_as_slurmforges_rerun_does(tmp_path: Path) -> None:
    text = f"{ZERO}artifacts: {{checkpoint_globs: ['checkpoints/**/*.pt']}}\n"
    (task,) = document(tmp_path, text)["workflow"]["tasks"]
    assert task["checkpoint"] == {
        "inject": {"env": "AI_INFRA_RESUME_FROM_CHECKPOINT", "arg": "--resume_from_checkpoint"},
        "globs": ["**/*.pt"],
    }
    assert task["script"].endswith("${{ checkpoint.args }}\n")
    elsewhere = text.replace("checkpoints/**/*.pt", "saved/*.pt")
    assert "globs" not in document(tmp_path, elsewhere)["workflow"]["tasks"][0]["checkpoint"]
    assert "artifacts.checkpoint_globs" in left(tmp_path, elsewhere)


def test_a_command_is_run_as_it_is(tmp_path: Path) -> None:
    text = "project: p\nexperiment_name: e\nrun: {command: 'python t.py --x $HOME', command_mode: raw}\n"
    (task,) = document(tmp_path, text)["workflow"]["tasks"]
    assert task["script"].endswith("python t.py --x $HOME\n")
    assert "backend" not in task, "without a cluster it runs here"
    (task,) = document(tmp_path, text.replace("raw", "argv"))["workflow"]["tasks"]
    assert task["script"].endswith("python t.py --x '$HOME' ${{ checkpoint.args }}\n")
    swept = f"{text}sweep: {{enabled: true, shared_axes: {{run.command: [a, b c]}}}}\n"
    found = document(tmp_path, swept)
    assert found["sweep"]["axes"] == {"command": ["a", "b c"]}
    assert found["workflow"]["tasks"][0]["script"].endswith('bash -c "$command"\n')


def test_an_adapter_gets_its_arguments_as_json(tmp_path: Path) -> None:
    text = (
        "project: p\nrun: {adapter: {script: a.py, args: {m: 1}}, args: {lr: 2}, model_overrides: {d: 3}}\n"
    )
    (task,) = document(tmp_path, text)["workflow"]["tasks"]
    assert task["files"] == {
        "run_args.json": "${{ {'lr': lr} | tojson }}", "model_overrides.json": "${{ {'d': d} | tojson }}",
    }  # fmt: skip
    assert 'python3 a.py --m "$m"' in task["script"]


def test_a_model_is_found_in_its_registry_and_may_be_swept_by_name(tmp_path: Path) -> None:
    registry = "models:\n  - {name: a, script: a.py}\n  - {name: b, script: sub/b.py}\n"
    text = "project: p\nmodel: {name: b}\nmodel_registry: {registry_file: zoo/models.yaml}\nrun: {args: {x: 1}}\n"
    (task,) = document(tmp_path, text, **{"zoo/models__yaml": registry})["workflow"]["tasks"]
    assert 'python3 zoo/sub/b.py --x "$x"' in task["script"]
    swept = f"{text}sweep: {{enabled: true, shared_axes: {{model.name: [a, b]}}}}\n"
    found = document(tmp_path, swept, **{"zoo/models__yaml": registry})
    assert found["sweep"]["axes"] == {"model": ["a", "b"]}
    assert '  a) script="$SFLOW_WORKSPACE_DIR"/zoo/a.py ;;' in found["workflow"]["tasks"][0]["script"]
    assert "model_registry.registry_file" in left(tmp_path, text), "which cannot be read here"


def test_stages_become_tasks_and_inputs_are_handed_over(tmp_path: Path) -> None:
    text = f"""{ONE}  eval:
    environment: e
    runtime: r
    before: [{{name: look, run: nvidia-smi}}]
    entry: {{type: command, command: [./eval, now], args: {{deep: false}}}}
    resources: {{partition: gpu, account: me, gpus_per_node: 2, time_limit: 30, mem: 8G}}
    inputs:
      ckpt: {{source: {{kind: upstream_output, stage: train, output: checkpoint}}, inject: {{flag: ckpt, env: CKPT}}}}
      data: {{source: {{kind: external_path, path: d.bin}}, inject: {{flag: --data}}}}
    outputs: {{acc: {{kind: metric, file: m.json, json_path: $.a.b}}}}
environments: {{e: {{modules: [m], source: [{{path: s.sh, args: [x]}}], env: {{E: 1}}}}}}
runtime: {{user: {{r: {{env: {{R: v}}}}}}}}
dispatch: {{max_available_gpus: 2}}
"""
    found = document(tmp_path, text)
    train, evaluation = found["workflow"]["tasks"]
    assert '--fast; [ "$fast" != False ] || args+=(false)' in train["script"].replace(
        "args+=(--fast)", "--fast"
    )
    assert "--tag a --tag 'b c'" in train["script"]
    assert 'cd "$SFLOW_TASK_OUTPUT_DIR"' in train["script"]
    assert evaluation["inputs"] == {
        "ckpt": {"from": "train.outputs.checkpoint", "required": False, "env": "CKPT", "arg": "--ckpt"},
        "data": {"path": "d.bin", "arg": "--data"},
    }
    assert "${{ inputs.args }}" in evaluation["script"]
    assert "nvidia-smi" in evaluation["script"]
    assert 'export R="v"' in evaluation["script"]
    metric = {"name": "acc", "kind": "metric", "required": False, "path": ["m.json"], "json": "a.b"}
    assert evaluation["outputs"] == [metric]
    assert evaluation["timeout"] == "00:30:00", "a number is minutes to Slurm"
    environment = {"modules": ["m"], "source": [{"path": "s.sh", "args": ["x"]}], "env": {"E": "1"}}
    assert found["environments"] == {"e": environment}
    assert (evaluation["environment"], "environment" in train) == ("e", False)
    backend = found["backends"]["cluster"]
    assert (backend["gpus_per_node"], backend["time"]) == (2, "01:30:00")
    assert backend["mem"] == "16G"


@pytest.mark.parametrize("kind", ["torchrun", "srun", "mpirun"])
def test_launchers_of_a_stage(tmp_path: Path, kind: str) -> None:
    text = ONE.replace("    resources:", f"    launcher: {{type: {kind}, args: [-x]}}\n    resources:")
    (task,) = document(tmp_path, text)["workflow"]["tasks"]
    if kind == "torchrun":
        assert task["launcher"] == {"type": "torchrun", "nproc": 1}
        assert "python3 -m torch.distributed.run -x " in task["script"]
    elif kind == "srun":
        assert task["operator"] == {"name": "srun", "type": "srun", "extra_args": ["-x"]}
    else:
        assert "mpirun -x python3" in task["script"]


def test_paths_of_runs_may_leave_out_stages(tmp_path: Path) -> None:
    runs = "runs: {type: grid, axes: {train.entry.args.lr: [1, 2], stages.train.entry.args.new: [3], project: [a]}}\n"
    found = converted(tmp_path, ONE + runs)
    assert value_of(found.text)["sweep"]["axes"] == {"lr": [1, 2], "new": [3]}
    assert "runs.axes.project" in [one.key for one in found.left]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("models: []\n", "a registry of models"),
        ("workflow: {}\n", "a workflow file already"),
        ("a: 1\n", "neither"),
    ],
)
def test_other_files_are_refused(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(SpecError, match=said):
        converted(tmp_path, text)


def test_time_limits_of_slurm() -> None:
    known = {
        "90": 5400,
        "1:30": 90,
        "01:00:00": 3600,
        "2-00": 172800,
        "1-12:30": 131400,
        "3-00:00:05": 259205,
    }
    assert {text: slurm_seconds(text) for text in known} == known
    assert slurm_seconds("CHANGE_ME") is None
    assert clock(90061) == "1-01:01:01"


def test_flags_of_every_style() -> None:
    script = """
p.add_argument("--on", action="store_true"); p.add_argument("--off", dest="is_off", action="store_false")
p.add_argument("--either", action=argparse.BooleanOptionalAction); p.add_argument("word"); p.add_argument("--v")
"""
    found = switches(script)
    assert found["on"] == ("--on", "switch")
    assert found["is-off"] == ("--off", "off_switch")
    assert found["either"] == ("--either", "both")
    assert "v" not in found
    assert switches("def (") == switches(None) == {}
    lines = command(
        ["p"],
        [
            Flag("--off", "o", "off_switch"),
            Flag("--e", "e", "both"),
            Flag("--l", "l", "each"),
            Flag("--n", "n", "value", True),
        ],
    )
    assert lines == [
        "args=()",
        '[ "$o" != False ] || args+=(--off)',
        'if [ "$e" = True ]; then args+=(--e); else args+=(--no-e); fi',
        "args+=(--l ${{ l | join(' --l ') }})",
        '[ "$n" = None ] || args+=(--n "$n")',
        'p "${args[@]}"',
    ]


def test_policies_of_0_x_become_rules_where_they_are_not_the_usual_ones(tmp_path: Path) -> None:
    usual = "validation: {cli_args: warn, topology_errors: error, resource_warnings: warn, runtime_preflight: error}\n"
    assert "settings" not in document(tmp_path, ZERO + usual)
    assert left(tmp_path, ZERO + usual) == left(tmp_path, ZERO)
    strict = document(tmp_path, f"{ZERO}validation: {{cli_args: strict, resource_warnings: off}}\n")
    rules = {"unknown-args": "error", "idle-gpus": "off", "other-node-count": "off"}
    assert strict["settings"] == {"validation": {"rules": rules}}
    lenient = f"{ZERO}validation: {{cli_args: ignore, topology_errors: off, runtime_preflight: warn}}\n"
    assert document(tmp_path, lenient)["settings"] == {"validation": {"rules": {"unknown-args": "off"}}}
    said = {"validation.topology_errors", "validation.runtime_preflight"}
    assert set(left(tmp_path, lenient)) - set(left(tmp_path, ZERO)) == said
    assert "validation.cli_args" in left(tmp_path, f"{ZERO}validation: {{cli_args: loud}}\n")
