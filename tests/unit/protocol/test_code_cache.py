"""The file that modules' code is taken from: when it is used, when Python does without it, and when it is made anew."""

import importlib.util
import os
import py_compile
import sys
from importlib.machinery import SourceFileLoader
from pathlib import Path
from types import ModuleType

import pytest

from protocol.machine import code_cache, code_cache_writer
from protocol.machine.code_cache import CodeCache
from protocol.machine.code_cache_writer import fill_gaps, write

NAMES = ("cached_one", "cached_package", "cached_package.inner")


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An installation with two modules and a package, compiled; none of them is imported."""
    package = tmp_path / "cached_package"
    package.mkdir()
    for path in (tmp_path / "cached_one.py", package / "__init__.py", package / "inner.py"):
        path.write_text(f'NAME = "{path.stem}"\n')
        py_compile.compile(str(path))
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(code_cache, "home", lambda: str(tmp_path))
    monkeypatch.setattr(code_cache_writer, "home", lambda: str(tmp_path))
    monkeypatch.setattr(sys, "dont_write_bytecode", False)
    for name in NAMES:
        monkeypatch.delitem(sys.modules, name, raising=False)
    return tmp_path


def made(root: Path) -> CodeCache:
    """Write a cache of all three modules, and open it."""
    sources = {
        "cached_one": (f"{root}/cached_one.py", False),
        "cached_package": (f"{root}/cached_package/__init__.py", True),
        "cached_package.inner": (f"{root}/cached_package/inner.py", False),
    }
    write(f"{root}/cache", sources)
    return CodeCache(f"{root}/cache")


def imported(cache: CodeCache, name: str, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.setattr(sys, "meta_path", [cache, *sys.meta_path])
    importlib.invalidate_caches()
    return importlib.import_module(name)


def test_modules_are_imported_without_their_files(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache = made(root)
    opened: list[str] = []
    monkeypatch.setattr(SourceFileLoader, "get_data", lambda _self, path: opened.append(path))
    inner = imported(cache, "cached_package.inner", monkeypatch)
    assert (inner.NAME, opened) == ("inner", [])
    assert inner.__file__ == f"{root}/cached_package/inner.py"
    assert inner.__cached__ == importlib.util.cache_from_source(inner.__file__)
    assert inner.__package__ == "cached_package"
    assert list(sys.modules["cached_package"].__path__) == [f"{root}/cached_package"]
    assert imported(cache, "cached_one", monkeypatch).NAME == "cached_one"
    assert not cache.is_outdated


def test_a_changed_source_is_imported_as_it_is_now(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache = made(root)
    (root / "cached_one.py").write_text('NAME = "changed"\n')
    assert imported(cache, "cached_one", monkeypatch).NAME == "changed"
    assert cache.is_outdated


def test_a_removed_source_is_not_imported(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache = made(root)
    (root / "cached_one.py").unlink()
    with pytest.raises(ModuleNotFoundError):
        imported(cache, "cached_one", monkeypatch)


@pytest.mark.parametrize("kept", [0, 5, 60, -1])
def test_a_damaged_file_does_no_harm(kept: int, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made(root)
    whole = (root / "cache").read_bytes()
    (root / "cache").write_bytes(whole[:kept])
    cache = CodeCache(f"{root}/cache")
    assert imported(cache, "cached_package.inner", monkeypatch).NAME == "inner"


def test_code_of_zeroes_is_made_anew(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As after a crash of the machine: the file's data had not been written."""
    made(root)
    whole = (root / "cache").read_bytes()
    (root / "cache").write_bytes(whole[:-10] + bytes(10))
    cache = CodeCache(f"{root}/cache")
    assert imported(cache, "cached_package.inner", monkeypatch).NAME == "inner"
    assert cache.is_outdated


def test_the_cache_of_another_installation_is_not_used(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made(root)
    monkeypatch.setattr(code_cache, "home", lambda: "/elsewhere")
    assert CodeCache(f"{root}/cache").entries == {}


def test_a_file_with_the_number_of_a_standard_stream_is_not_kept(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made(root)
    closed: list[int] = []
    monkeypatch.setattr(os, "open", lambda *_arguments: 1)
    monkeypatch.setattr(os, "close", closed.append)
    assert CodeCache(f"{root}/cache").entries == {}
    assert closed == [1]


def test_gaps_are_filled_once(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache = CodeCache(f"{root}/cache")
    imported(cache, "cached_package.inner", monkeypatch)
    assert cache.has_gaps()
    (root / "sflow_agent" / "core").mkdir(parents=True)
    for name in ("__init__", "__main__", "agent"):
        (root / "sflow_agent" / f"{name}.py").write_text("")
    (root / "sflow_agent" / "core" / "rank.py").write_text("")
    for name in ("agent", "core/rank"):
        py_compile.compile(f"{root}/sflow_agent/{name}.py")
    fill_gaps(cache)
    again = CodeCache(f"{root}/cache")
    assert {"cached_package", "cached_package.inner", "sflow_agent.agent", "sflow_agent.core.rank"} <= set(
        again.entries
    )
    assert "cached_one" not in again.entries, "nothing has imported it"
    assert "sflow_agent" not in again.entries, "Python has no code of it"
    before = (root / "cache").stat().st_ino
    fill_gaps(again)
    assert (root / "cache").stat().st_ino == before


def test_old_code_is_replaced_and_the_rest_is_kept(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache = made(root)
    (root / "sflow_agent").mkdir()
    (root / "cached_one.py").write_text('NAME = "changed"\n')
    imported(cache, "cached_one", monkeypatch)
    py_compile.compile(f"{root}/cached_one.py")
    assert cache.has_gaps()
    fill_gaps(cache)
    again = CodeCache(f"{root}/cache")
    assert set(again.entries) >= {*NAMES}
    monkeypatch.delitem(sys.modules, "cached_one")
    assert imported(again, "cached_one", monkeypatch).NAME == "changed"
    assert not again.is_outdated


def test_nothing_is_written_where_python_writes_no_caches(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "meta_path", [*sys.meta_path])
    monkeypatch.setattr(code_cache, "place", lambda: f"{root}/cache")
    monkeypatch.setattr(code_cache, "_installed", None)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    (root / "sflow_agent").mkdir()
    code_cache.update()  # in a process that has no cache
    code_cache.install()
    importlib.import_module("cached_one")
    code_cache.update()
    assert not (root / "cache").exists()
    monkeypatch.setattr(sys, "dont_write_bytecode", False)
    code_cache.update()
    assert "cached_one" in CodeCache(f"{root}/cache").entries


def test_a_directory_that_cannot_be_written_to_is_left_alone(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (root / "sflow_agent").mkdir()
    cache = CodeCache(f"{root}/none/cache")
    imported(cache, "cached_one", monkeypatch)
    fill_gaps(cache)
    assert not (root / "none").exists()


def test_a_disk_that_fills_leaves_the_old_cache(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made(root)
    before = (root / "cache").read_bytes()
    (root / "cached_one.py").write_text('NAME = "changed"\n')
    py_compile.compile(f"{root}/cached_one.py")

    def fail(_source: str, _target: str) -> None:
        raise OSError(28, "no space left on device")

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(OSError, match="no space"):
        made(root)
    assert (root / "cache").read_bytes() == before
    assert [path.name for path in root.glob("cache*") if path.suffix != ".py" and path.is_file()] == ["cache"]


def test_an_interpreter_without_caches_has_none_of_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    finders = [*sys.meta_path]
    monkeypatch.setattr(sys.implementation, "cache_tag", None)
    code_cache.install()
    assert sys.meta_path == finders


def test_the_file_is_beside_those_of_python() -> None:
    place = Path(code_cache.place())
    assert place.name == f"all_modules.{sys.implementation.cache_tag}.cache"
    assert place.parent == Path(code_cache.__file__).parent / "__pycache__"
