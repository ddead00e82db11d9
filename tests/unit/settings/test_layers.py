"""Settings in layers: the later wins key by key, lists are replaced, and every value knows where it is from."""

import typing
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from protocol.errors import Finding, FleetError
from sflow_ctl.cli.options import setting_options
from sflow_ctl.cli.options.given import NAMES
from sflow_ctl.format import schema
from sflow_ctl.format.loader import DocumentError, load_documents
from sflow_ctl.format.yaml_source import dump
from sflow_ctl.runtime.files.settings_files import job_fields, run_settings, settings_files, settings_layers
from sflow_ctl.runtime.fleet.job_fleet import JOB_ORPHAN_GRACE_S
from sflow_ctl.runtime.fleet.local_fleet import LOCAL_ORPHAN_GRACE_S
from sflow_ctl.runtime.peers.peer import LinkTimes
from sflow_ctl.settings import COMMAND_LINE, DEFAULT, Effective
from tests.documents.blocks import ROOT

WORKFLOW = 'version: "0.1"\nworkflow: {name: w, tasks: [{name: t, script: [x]}]}\n'
TEXTS = st.sampled_from(["a", "b", "c"])
VALUES: dict[str, st.SearchStrategy[Any]] = {
    "partition": TEXTS,
    "interface": TEXTS,
    "headroom": st.integers(1, 99),
    "preamble": st.lists(TEXTS, max_size=3),
    "launch_flags": st.lists(st.sampled_from(["--network=x", "--hint=y"]), max_size=2),
    "container_engine": st.sampled_from(["docker", "podman"]),
}
LAYERS = st.fixed_dictionaries({}, optional={name: st.none() | values for name, values in VALUES.items()})
OPTIONS = st.fixed_dictionaries({}, optional=VALUES)


def found(folder: Path, site: Any, user: Any, workflow: Any, said: dict[str, Any]) -> Effective:
    """Return the effective settings of these four layers; None is no file."""
    environ = {"SFLOW_SITE_FILE": "", "XDG_CONFIG_HOME": str(folder)}
    if site is not None:
        environ["SFLOW_SITE_FILE"] = str(folder / "site.yaml")
        (folder / "site.yaml").write_text(site if isinstance(site, str) else dump(site))
    (folder / "sflow").mkdir(exist_ok=True)
    config = folder / "sflow" / "config.yaml"
    config.unlink(missing_ok=True)
    if user is not None:
        config.write_text(user if isinstance(user, str) else dump(user))
    (folder / "w.yaml").write_text(WORKFLOW + ("" if workflow is None else dump({"settings": workflow})))
    return settings_layers(said, environ).of(load_documents([folder / "w.yaml"]))


def refused(folder: Path, text: str) -> dict[str, Finding]:
    """Return the problems of a site's file, with their places."""
    with pytest.raises(FleetError) as caught:
        found(folder, text, None, None, {})
    assert caught.value.exit_status == 2
    return {
        (finding.where or "").removeprefix(f"{folder}/site.yaml:"): finding
        for finding in caught.value.findings
    }


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.none() | LAYERS, st.none() | LAYERS, st.none() | LAYERS, OPTIONS)
def test_the_last_layer_with_a_value_wins(
    tmp_path: Path, site: Any, user: Any, workflow: Any, said: dict[str, Any]
) -> None:
    effective = found(tmp_path, site, user, workflow, said)
    files = {"site.yaml": site, "sflow/config.yaml": user, "w.yaml": workflow}
    for field in schema.SiteFile.__struct_fields__:
        speakers = [name for name, layer in files.items() if layer is not None and field in layer]
        if field in said:
            expected, origin = said[field], COMMAND_LINE
        elif speakers:
            expected, origin = files[speakers[-1]][field], f"{tmp_path}/{speakers[-1]}:"
        else:
            expected, origin = None, DEFAULT
        default = getattr(schema.SiteFile(), field)
        assert getattr(effective.settings, field) == (default if expected is None else expected)
        assert effective.origin(field).startswith(origin)


def test_an_origin_is_the_line_of_the_value(tmp_path: Path) -> None:
    site = "# ours\ninterface: ib0\npreamble:\n  - one\n  - two\n"
    effective = found(tmp_path, site, "\nheadroom: 2m\n", None, {})
    assert effective.origin("interface") == f"{tmp_path}/site.yaml:2:12"
    assert effective.origin("headroom") == f"{tmp_path}/sflow/config.yaml:2:11"
    assert effective.place("preamble", 1) == f"{tmp_path}/site.yaml:5:5  preamble[1]"


def test_a_wrong_option_is_named_as_it_is_typed(tmp_path: Path) -> None:
    with pytest.raises(FleetError) as caught:
        found(tmp_path, None, None, None, {"lost_after": "soon", "launch_flags": ["--ntasks=3"]})
    assert [one.where for one in caught.value.findings] == ["--lost-after", "--launch-flag"]


def test_several_workflow_files_are_one_layer(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(WORKFLOW + "settings: {headroom: 1, interface: a}\n")
    (tmp_path / "b.yaml").write_text("settings:\n  headroom: 2\n")
    loaded = load_documents([tmp_path / "a.yaml", tmp_path / "b.yaml"])
    effective = settings_layers({}, {"SFLOW_SITE_FILE": ""}).of(loaded)
    assert (effective.settings.headroom, effective.settings.interface) == (2, "a")
    assert effective.origin("headroom") == f"{tmp_path}/b.yaml:2:13"
    assert "settings:\n  headroom: 2\n  interface: a\n" in loaded.composed_yaml()


def test_all_problems_of_a_file_are_reported_at_once_with_their_place(tmp_path: Path) -> None:
    text = (
        "partiton: gpu\naccount: 12\nheadroom: soon\nlost_after: 0\nlaunch_flags: [--ntasks=3, --network=x]\n"
        'output_dir: runs\ncontainer_engine: dockr\ninterface: "${{ IF }}"\nqos: ""\n'
    )
    problems = refused(tmp_path, text)
    assert {place: problem.code for place, problem in problems.items()} == {
        "1:11  partiton": "unknown-key",
        "2:10  account": "wrong-type",
        "3:11  headroom": "wrong-value",
        "4:13  lost_after": "wrong-value",
        "5:16  launch_flags[0]": "launch-flag",
        "6:13  output_dir": "wrong-value",
        "7:19  container_engine": "wrong-value",
        "8:12  interface": "wrong-value",
        "9:6  qos": "wrong-value",
    }
    assert problems["1:11  partiton"].hint == 'did you mean "partition"?'
    assert problems["7:19  container_engine"].hint == 'did you mean "docker"?'


def test_both_files_are_checked_before_the_report(tmp_path: Path) -> None:
    with pytest.raises(FleetError) as caught:
        found(tmp_path, "headrom: 1\n", "interfce: x\n", None, {"headroom": "never"})
    assert [finding.hint for finding in caught.value.findings] == [
        'did you mean "headroom"?',
        'did you mean "interface"?',
        "e.g. 90, 90s or 2m",
    ]


@pytest.mark.parametrize("text", ["", "# nothing yet\n", "{}\n"])
def test_an_empty_file_has_no_settings(tmp_path: Path, text: str) -> None:
    assert found(tmp_path, text, text, None, {}).settings == schema.SiteFile()


@pytest.mark.parametrize("text", ["[1]\n", "{\n", "a: 1\na: 2\n", "text\n", "\0"])
def test_a_file_that_is_not_a_mapping_is_refused(tmp_path: Path, text: str) -> None:
    assert all(place for place in refused(tmp_path, text))


@pytest.mark.parametrize(
    ("written", "codes"),
    [
        ("{validation: {default: strict}}", ["wrong-value"]),
        ("{validation: {rules: 5}}", ["wrong-type"]),
        ("{validation: 7}", ["wrong-type"]),
        ("{max_running: abc}", ["wrong-type"]),
        ("{telemetry: {interval: 1s}}", ["unknown-key"]),
        ("{lost_after: []}", ["wrong-type"]),
        ("{nothing: 1}", ["unknown-key"]),
    ],
)
def test_a_workflows_setting_of_a_wrong_type_is_an_error_of_the_file(
    tmp_path: Path, written: str, codes: list[str]
) -> None:
    """It is left out where the rest of the document is planned to find out what else is wrong."""
    path = tmp_path / "w.yaml"
    path.write_text(
        f'version: "0.1"\nsettings: {written}\nworkflow: {{name: w, tasks: [{{name: t, script: [x]}}]}}\n'
    )
    with pytest.raises(DocumentError) as caught:
        load_documents([path])
    assert [one.code for one in caught.value.findings] == codes
    assert caught.value.rest is not None
    layers = settings_layers({}, {"SFLOW_SITE_FILE": "", "XDG_CONFIG_HOME": str(tmp_path)})
    assert layers.of(caught.value.rest).settings.max_running is None


def test_a_workflow_has_no_output_directory(tmp_path: Path) -> None:
    with pytest.raises(FleetError, match="output_dir"):
        found(tmp_path, None, None, {"output_dir": "/x"}, {})


def test_only_a_named_missing_file_is_an_error(tmp_path: Path) -> None:
    environ = {"XDG_CONFIG_HOME": str(tmp_path)}
    assert str(tmp_path) not in str(settings_files(environ))
    with pytest.raises(FleetError, match="does not exist"):
        settings_layers({}, {**environ, "SFLOW_SITE_FILE": str(tmp_path / "none.yaml")})
    with pytest.raises(FleetError, match="is a directory"):
        settings_layers({}, {**environ, "SFLOW_SITE_FILE": str(tmp_path)})


def test_a_relative_configuration_home_does_not_count(tmp_path: Path) -> None:
    (tmp_path / ".config" / "sflow").mkdir(parents=True)
    (tmp_path / ".config" / "sflow" / "config.yaml").write_text("{}")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HOME", str(tmp_path))
        for home in ({}, {"XDG_CONFIG_HOME": ""}, {"XDG_CONFIG_HOME": "here"}):
            files = settings_files({"SFLOW_SITE_FILE": "", **home})
            assert files == [tmp_path / ".config" / "sflow" / "config.yaml"]


def test_directories_are_those_of_the_user(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SCRATCH", "/scratch/me")
    monkeypatch.setenv("HOME", "/home/me")
    effective = found(tmp_path, {"output_dir": "$SCRATCH/runs", "log_spool": "~/spool"}, None, None, {})
    used = run_settings(effective, Path("/w"))
    assert (used.output_dir, used.log_spool) == (Path("/scratch/me/runs"), Path("/home/me/spool"))
    monkeypatch.delenv("SCRATCH")
    with pytest.raises(FleetError, match="its variable is not set"):
        run_settings(effective, Path("/w"))
    said = found(tmp_path, None, None, None, {"output_dir": "/x/$SCRATCH"})
    assert run_settings(said, Path("/w")).output_dir == Path("/x/$SCRATCH")
    assert run_settings(found(tmp_path, None, None, None, {}), Path("/w")).output_dir == Path(
        "/w/sflow_output"
    )


def test_durations_are_seconds(tmp_path: Path) -> None:
    effective = found(
        tmp_path, {"headroom": "2m", "join_within": "0-00:01:30"}, None, {"lost_after": 1.5}, {}
    )
    used = run_settings(effective, Path("/w"))
    assert (used.headroom_s, used.join_within_s, used.lost_after_s) == (120, 90, 1.5)
    assert used.orphan_grace_s is None


def test_fields_of_a_job_that_a_layer_has_need_not_be_in_a_backend(tmp_path: Path) -> None:
    assert job_fields(found(tmp_path, {"account": "a"}, None, None, {})) == {"account"}
    assert job_fields(found(tmp_path, {"account": "a"}, {"account": None}, None, {"partition": "p"})) == {
        "partition"
    }


def test_options_are_settings_and_offer_what_they_take() -> None:
    kinds = typing.get_type_hints(schema.SiteFile)
    assert set(NAMES) <= kinds.keys()
    assert typing.get_args(kinds["container_engine"]) == setting_options.ENGINES
    assert schema.CHOICES["engine"] == setting_options.ENGINES


def test_clusters_f10_the_documents_promise_the_graces_of_the_program() -> None:
    """A killed controller's tasks live for this long: longer than a node may be silent, so that a short cut loses nothing."""
    local, job = f"{LOCAL_ORPHAN_GRACE_S:g}", f"{JOB_ORPHAN_GRACE_S:g}"
    promises = {
        "reference/cli.md": f"Default: {local} s, in a Slurm job {job} s.",
        "reference/format.md": f"Default: {local} seconds, in a Slurm job {job}.",
        "site.md": f"Default: {local} seconds, in a Slurm job {job}.",
        "decisions/ends.md": f"{job} s in Slurm jobs, {local} s elsewhere",
    }
    for page, promise in promises.items():
        assert promise in (ROOT / "docs" / page).read_text(encoding="utf-8"), page
    assert LinkTimes().lost_after_s < JOB_ORPHAN_GRACE_S == 60


@pytest.mark.parametrize("rules", ["{fixed-port: nope}", "{unknown-args: off, fixed-port: nope}"])
def test_a_wrong_word_is_shown_where_it_is(tmp_path: Path, rules: str) -> None:
    """Msgspec does not say which entry of a mapping is meant."""
    path = tmp_path / "w.yaml"
    path.write_text(
        f'version: "0.1"\nsettings: {{validation: {{rules: {rules}}}}}\n'
        "workflow: {name: w, tasks: [{name: t, script: [x]}]}\n"
    )
    with pytest.raises(DocumentError) as caught:
        load_documents([path])
    (finding,) = caught.value.findings
    assert finding.what == '"nope" is not one of error, warn, off'
    column = path.read_text().splitlines()[1].index("nope") + 1
    assert (finding.where or "").startswith(f"{path}:2:{column}")
