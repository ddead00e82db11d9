"""A lazy pattern is the compiled one, from its first use on."""

import re

import pytest

from protocol.text.lazy_pattern import lazy_pattern


def test_nothing_is_compiled_before_the_first_use_and_once_after_it(monkeypatch: pytest.MonkeyPatch) -> None:
    compiled: list[object] = []
    real = re.compile

    def count(source: str, flags: int = 0) -> "re.Pattern[str]":
        compiled.append(source)
        return real(source, flags)

    monkeypatch.setattr(re, "compile", count)
    pattern = lazy_pattern(r"a(b)?", re.IGNORECASE)
    assert compiled == []
    assert pattern.fullmatch("AB") is not None
    assert pattern.sub("x", "ab a") == "x x"
    assert compiled == [r"a(b)?"]


def test_it_has_the_methods_and_attributes_of_a_compiled_pattern() -> None:
    lazy, compiled = (
        lazy_pattern(rb"(?P<key>\w)=\d", re.MULTILINE),
        re.compile(rb"(?P<key>\w)=\d", re.MULTILINE),
    )
    text = b"a=1 b=2"
    assert lazy.pattern == compiled.pattern
    assert lazy.groupindex == compiled.groupindex
    assert lazy.flags == compiled.flags
    assert lazy.findall(text) == compiled.findall(text)
    assert lazy.split(text) == compiled.split(text)
    assert [one.span() for one in lazy.finditer(text)] == [(0, 3), (4, 7)]
    assert lazy.subn(b"", text) == compiled.subn(b"", text)


def test_a_pattern_that_is_not_valid_fails_at_its_first_use() -> None:
    pattern = lazy_pattern("(")
    with pytest.raises(re.error):
        pattern.match("")
