"""Plug-ins are found by the entry points of installed packages; here packages are a few files in a folder."""

import sys
from pathlib import Path

import pytest

from protocol.plugins import ARTIFACT_SCHEMES, OPERATORS, PROBES, PluginError, find_plugin

GOOD = """
class Wraps:
    def render(self, command, instance):
        return command, {}

class Lacks:
    def exists(self, uri):
        return True

class Fails:
    def __init__(self):
        raise RuntimeError("no license")

ready = Wraps()
"""


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that packages are installed into."""
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "plugged_module", raising=False)
    (tmp_path / "plugged_module.py").write_text(GOOD)
    return tmp_path


def install(folder: Path, package: str, group: str, **entries: str) -> None:
    """Add a package with entry points."""
    metadata = folder / f"{package}-1.0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.0\n")
    lines = [f"{name} = {value}" for name, value in entries.items()]
    (metadata / "entry_points.txt").write_text("\n".join((f"[{group}]", *lines)) + "\n")


def refusal(group: str, name: str) -> tuple[str, str]:
    with pytest.raises(PluginError) as raised:
        find_plugin(group, name)
    return str(raised.value), raised.value.hint


@pytest.mark.parametrize("value", ["plugged_module:Wraps", "plugged_module:ready"])
def test_a_class_or_an_object_is_a_plug_in(installed: Path, value: str) -> None:
    install(installed, "one", OPERATORS, wraps=value)
    found = find_plugin(OPERATORS, "wraps")
    assert found.label == "wraps of one 1.0"
    assert found.plugin.render(["a"], None) == (["a"], {})


def test_a_name_that_no_package_has_lists_those_that_are_installed(installed: Path) -> None:
    install(installed, "one", PROBES, second="plugged_module:Wraps", first="plugged_module:Wraps")
    what, hint = refusal(PROBES, "third")
    assert what == 'no installed package has "third" among its probes'
    assert hint.endswith("; installed: first, second")


def test_our_own_scheme_is_one_like_others() -> None:
    assert find_plugin(ARTIFACT_SCHEMES, "s3").label.startswith("s3 of sflow-ctl ")


def test_two_packages_with_one_name_are_refused_by_name(installed: Path) -> None:
    install(installed, "one", OPERATORS, wraps="plugged_module:Wraps")
    install(installed, "two", OPERATORS, wraps="plugged_module:ready")
    what, hint = refusal(OPERATORS, "wraps")
    assert what == 'several packages have "wraps" among their operators: one 1.0, two 1.0'
    assert "uninstall" in hint


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ("plugged_module:Nothing", "AttributeError"),
        ("no_such_module:X", "No module named 'no_such_module'"),
        ("plugged_module:Fails", "RuntimeError: no license"),
    ],
)
def test_what_cannot_be_loaded_is_named_with_its_package(installed: Path, value: str, said: str) -> None:
    install(installed, "one", OPERATORS, wraps=value)
    what, hint = refusal(OPERATORS, "wraps")
    assert what.startswith("plug-in wraps of one 1.0 cannot be loaded: ")
    assert said in what
    assert hint == "reinstall one 1.0"


def test_methods_that_are_missing_are_listed(installed: Path) -> None:
    install(installed, "one", ARTIFACT_SCHEMES, half="plugged_module:Lacks")
    what, _ = refusal(ARTIFACT_SCHEMES, "half")
    assert what == "plug-in half of one 1.0 has no fetch, push"
