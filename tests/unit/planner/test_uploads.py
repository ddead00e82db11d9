"""What is planned of `storage`, `uploads` and `upload_all`, and what is refused."""

from pathlib import Path

import pytest

from protocol.errors import SpecError
from protocol.messages.uploads import FileUpload, StorageTarget
from sflow_ctl.plan.model import Plan
from sflow_ctl.planner.show.text import plan_text
from tests.unit.planner.planning import findings_of, plan_of

S3 = "storage: [{name: res, type: s3, bucket: b, prefix: runs/}]"


def uploads(entry: str, storage: str = S3, more: str = "", task: str = "") -> str:
    return (
        f"{storage}\nvariables: {{X: 7}}\nworkflow:\n  name: w\n{more}  tasks:\n"
        f"    - name: t\n      script: [echo]\n{task}      uploads: [{entry}]\n"
    )


def only(plan: Plan) -> FileUpload:
    (task,) = plan.tasks
    (upload,) = task.uploads
    return upload


def test_every_field_of_a_bucket_may_be_an_expression(tmp_path: Path) -> None:
    storage = (
        'storage: [{name: res, type: s3, bucket: "b-${{ variables.X }}", prefix: "p/${{ X }}/", region: "r${{ X }}", '
        'endpoint_url: "http://h:${{ X }}", storage_class: "C${{ X }}", addressing_style: virtual}]'
    )
    plan = plan_of(tmp_path, uploads("{target: res, from: a}", storage))
    assert plan.storage == (
        StorageTarget(
            name="res",
            type="s3",
            bucket="b-7",
            prefix="p/7/",
            region="r7",
            endpoint_url="http://h:7",
            storage_class="C7",
            addressing_style="virtual",
        ),
    )


def test_a_relative_directory_is_in_the_workspace(tmp_path: Path) -> None:
    plan = plan_of(
        tmp_path, uploads("{target: d, from: a}", "storage: {d: {type: directory, path: 'keep/${{ X }}'}}")
    )
    assert plan.storage[0].path == "/ws/keep/7"


def test_names_of_the_task_and_its_environment(tmp_path: Path) -> None:
    entry = (
        '{target: res, from: "${{ task.output_dir }}/${{ env.SFLOW_TASK_NAME }}.csv", '
        'to: "${{ task.name }}/${{ task.backend }}/${{ task.assigned_nodes[0] }}/${{ X }}/", on_error: fail}'
    )
    upload = only(plan_of(tmp_path, uploads(entry)))
    assert upload == FileUpload(
        target="res", pattern="/out/run/t/t.csv", to="t//localhost/7/", on_error="fail"
    ) or upload.to.startswith("t/")
    assert upload.pattern == "/out/run/t/t.csv"
    assert upload.to.endswith("/localhost/7/")


@pytest.mark.parametrize(
    ("to", "label"),
    [
        ("", "t_0"),
        (", to: x/", "t_0"),
        (', to: "${{ task.name }}/"', ""),
        (", to: '${{ task[\"name\"] }}.csv'", ""),
        (', to: "${{ replica.index }}.csv"', ""),
        (', to: "${{ task.output_dir | length }}/"', "t_0"),
    ],
)
def test_the_files_of_replicas_have_names_of_their_own(tmp_path: Path, to: str, label: str) -> None:
    text = uploads(f"{{target: res, from: a.csv{to}}}", task="      replicas: {count: 2}\n")
    plan = plan_of(tmp_path, text)
    assert plan.tasks[0].uploads[0].label == label
    assert ("upload-names" in [one.code for one in plan.warnings]) == bool(label)


def test_outputs_of_earlier_tasks_are_filled_in_at_the_start(tmp_path: Path) -> None:
    text = (
        f"{S3}\nworkflow:\n  name: w\n  tasks:\n"
        "    - {name: a, script: [echo], outputs: [{pattern: 'r = {r}'}]}\n"
        "    - name: t\n      depends_on: [a]\n      script: [echo]\n"
        '      uploads: [{target: res, from: x, to: "${{ task.a.outputs.r }}/"}]\n'
    )
    task = plan_of(tmp_path, text).tasks[1]
    assert task.uploads[0].to == "${{ task.a.outputs.r }}/"
    assert [one.placeholder for one in task.deferred] == ["${{ task.a.outputs.r }}"]


def test_the_archive_has_the_name_of_the_run(tmp_path: Path) -> None:
    more = "  upload_all: {target: res}\n"
    plan = plan_of(tmp_path, uploads("{target: res, from: a}", more=more))
    assert plan.upload_all == FileUpload(target="res", pattern="", to="run.zip")
    more = '  upload_all: {target: res, to: "${{ workflow.name }}/${{ X }}/${{ workflow.run_id }}.zip", on_error: fail}\n'
    plan = plan_of(tmp_path, uploads("{target: res, from: a}", more=more))
    assert plan.upload_all is not None
    assert plan.upload_all.to == "w/7/run.zip"
    assert "as one archive to s3://b/runs/w/7/run.zip; the run fails if that fails" in plan_text(plan)


@pytest.mark.parametrize(
    ("storage", "entry", "code", "field"),
    [
        (S3, "{target: res, from: a, to: \"${{ '..' }}/x\"}", "unsafe-path", "to"),
        (S3, "{target: res, from: \"${{ '' }}\"}", "wrong-value", "from"),
        (S3, '{target: res, from: "${{ nothing }}"}', "undefined-name", ""),
        (S3.replace("bucket: b", "bucket: \"${{ '' }}\""), "{target: res, from: a}", "missing-key", "bucket"),
        (S3.replace("runs/", "../x"), "{target: res, from: a}", "unsafe-path", "prefix"),
        (
            S3.replace("prefix: runs/", "endpoint_url: minio:9000"),
            "{target: res, from: a}",
            "wrong-value",
            "endpoint_url",
        ),
        (
            S3.replace("prefix: runs/", 'endpoint_url: "http://me:pw@minio:9000"'),
            "{target: res, from: a}",
            "wrong-value",
            "endpoint_url",
        ),
    ],
)
def test_what_no_upload_can_have_is_refused(
    tmp_path: Path, storage: str, entry: str, code: str, field: str
) -> None:
    (found,) = findings_of(tmp_path, uploads(entry, storage))
    assert found.code == code
    assert found.where is not None
    assert field in found.where


@pytest.mark.parametrize(
    ("storage", "text"),
    [
        ("storage: [{name: res, type: s3}]", "of type s3 has no bucket"),
        ("storage: [{name: res, type: directory}]", "of type directory has no path"),
        ("storage: [{name: res, type: s3, bucket: b, path: /x}]", "which has no path"),
        ("storage: [{name: res, type: directory, path: /x, region: r}]", "which has no region"),
        (
            "storage: [{name: res, type: s3, bucket: b}, {name: res, type: s3, bucket: c}]",
            "Duplicate storage target",
        ),
        ("storage: [{name: other, type: s3, bucket: b}]", 'unknown storage target "res"'),
    ],
)
def test_targets_have_the_fields_of_their_type(tmp_path: Path, storage: str, text: str) -> None:
    with pytest.raises(SpecError) as error:
        plan_of(tmp_path, uploads("{target: res, from: a}", storage))
    assert any(text in finding.what for finding in error.value.findings)


def test_a_pattern_needs_a_folder(tmp_path: Path) -> None:
    with pytest.raises(SpecError) as error:
        plan_of(tmp_path, uploads('{target: res, from: "*.txt", to: all.txt}'))
    assert "must end with '/'" in error.value.findings[0].what


def test_two_tasks_that_upload_to_one_key_are_a_warning(tmp_path: Path) -> None:
    text = (
        f"{S3}\nworkflow:\n  name: w\n  tasks:\n"
        "    - {name: a, script: [echo], uploads: [{target: res, from: out.csv}]}\n"
        "    - {name: b, script: [echo], uploads: [{target: res, from: x/out.csv}, {target: res, from: out.csv, to: b/}]}\n"
        "    - {name: c, script: [echo], replicas: {count: 2}, uploads: [{target: res, from: out.csv}]}\n"
    )
    found = [one for one in plan_of(tmp_path, text).warnings if one.code == "shared-key"]
    assert [one.what for one in found] == [
        'tasks "a" and "b" both upload to s3://b/runs/out.csv: the last one to end replaces the other'
    ]
