"""Imports of our modules in place of Python's: the same modules, and Python wherever anything is unusual."""

import builtins
import importlib.util
import py_compile
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest

from protocol.machine import code_cache, code_cache_writer, quick_import
from protocol.machine.code_cache import CodeCache
from protocol.machine.code_cache_writer import write
from protocol.machine.quick_import import QuickImport

SOURCES = {
    "quick/__init__.py": "NAME = 'quick'\n",
    "quick/inner.py": "from quick.other import VALUE\nimport quick.other\nNAME = __name__\n",
    "quick/other.py": "VALUE = 7\n",
    "quick/broken.py": "import quick.other\nraise ValueError('broken')\n",
    "quick/circle.py": "from quick.square import SIDE\nRADIUS = 1\n",
    "quick/square.py": "from quick.circle import RADIUS\nSIDE = 2\n",
    "quick/replaced.py": "import sys, types\nsys.modules[__name__] = types.SimpleNamespace(NAME='another')\n",
}
NAMES = [path.removesuffix(".py").removesuffix("/__init__").replace("/", ".") for path in SOURCES]


@pytest.fixture
def python(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names that are left to Python; the modules above are in a cache, compiled, and none of them is imported."""
    for path, text in SOURCES.items():
        (tmp_path / path).parent.mkdir(exist_ok=True)
        (tmp_path / path).write_text(text)
        py_compile.compile(str(tmp_path / path))
    monkeypatch.syspath_prepend(tmp_path)
    for module in (code_cache, code_cache_writer):
        monkeypatch.setattr(module, "home", lambda: str(tmp_path))
    monkeypatch.setattr(quick_import, "OURS", ("quick",))
    monkeypatch.setattr(quick_import, "_thread", SimpleNamespace(_count=lambda: 0))
    for name in NAMES:
        monkeypatch.delitem(sys.modules, name, raising=False)
    original, left = builtins.__import__, list[str]()

    def noted(name: str, *rest: object) -> ModuleType:
        if name.startswith(("quick", "json")):
            left.append(name)
        return original(name, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(builtins, "__import__", noted)
    return left


@pytest.fixture
def quick(python: list[str], tmp_path: Path) -> Iterator[QuickImport]:
    """In the place of Python's `__import__`."""
    sources = dict(
        zip(NAMES, ((f"{tmp_path}/{path}", path.endswith("__init__.py")) for path in SOURCES), strict=True)
    )
    write(f"{tmp_path}/cache", sources)
    found = QuickImport(CodeCache(f"{tmp_path}/cache"))
    python.clear()
    found.begin()
    yield found
    found.end()
    for name in NAMES:
        sys.modules.pop(name, None)


def run(statement: str) -> dict[str, object]:
    """Return the names that a statement has made."""
    names: dict[str, object] = {}
    exec(statement, names)
    return names


def test_modules_are_as_python_would_have_made_them(
    quick: QuickImport, python: list[str], tmp_path: Path
) -> None:
    inner = run("from quick.inner import NAME, VALUE")
    assert (inner["NAME"], inner["VALUE"]) == ("quick.inner", 7)
    assert python == ["quick.other"]  # `import quick.other` binds the package: Python finds both there
    ours = {name: sys.modules[name] for name in ("quick", "quick.inner", "quick.other")}
    quick.end()
    for name in NAMES:
        sys.modules.pop(name, None)
    run("from quick.inner import NAME")
    for name, module in ours.items():
        theirs = sys.modules[name]
        assert set(module.__dict__) == set(theirs.__dict__)
        for attribute in ("__file__", "__cached__", "__package__", "__path__"):
            assert getattr(module, attribute, None) == getattr(theirs, attribute, None), attribute
        ours_spec, their_spec = module.__spec__, theirs.__spec__
        assert ours_spec is not None
        assert their_spec is not None
        for attribute in ("name", "origin", "cached", "parent", "has_location", "submodule_search_locations"):
            assert getattr(ours_spec, attribute) == getattr(their_spec, attribute), attribute
    assert ours["quick"].inner is ours["quick.inner"]
    assert ours["quick.inner"].__file__ == f"{tmp_path}/quick/inner.py"


def test_what_raises_is_not_left_among_the_modules(quick: QuickImport) -> None:
    with pytest.raises(ValueError, match="broken"):
        run("from quick.broken import NAME")
    assert "quick.broken" not in sys.modules
    assert "quick.other" in sys.modules


def test_an_import_in_a_circle_is_said_as_python_says_it(quick: QuickImport) -> None:
    with pytest.raises(ImportError, match=r"partially initialized module 'quick\.circle'.*circular import"):
        run("from quick.circle import RADIUS")


def test_a_module_may_put_another_one_in_its_place(quick: QuickImport) -> None:
    assert run("from quick.replaced import NAME")["NAME"] == "another"


@pytest.mark.parametrize(
    ("statement", "left"),
    [
        ("import json", ["json"]),
        ("from quick import other", ["quick"]),
        ("import quick.inner", ["quick.other", "quick.inner"]),
        ("from quick.other import *", ["quick.other"]),
    ],
)
def test_other_imports_are_left_to_python(
    quick: QuickImport, python: list[str], statement: str, left: list[str]
) -> None:
    run(statement)
    assert [name for name in python if name in left] == left


def test_a_module_without_an_entry_that_counts_is_left_to_python(
    quick: QuickImport, python: list[str], tmp_path: Path
) -> None:
    (tmp_path / "quick/other.py").write_text("VALUE = 'changed'\n")
    importlib.invalidate_caches()
    assert run("from quick.other import VALUE")["VALUE"] == "changed"
    assert python == ["quick.other"]
    with pytest.raises(ModuleNotFoundError, match=r"quick\.none"):
        run("from quick.none import VALUE")


def test_with_a_second_thread_all_imports_are_python_s(
    quick: QuickImport, python: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(quick_import, "_thread", SimpleNamespace(_count=lambda: 1))
    assert run("from quick.other import VALUE")["VALUE"] == 7
    assert python == ["quick.other"]
    assert builtins.__import__ is not quick
