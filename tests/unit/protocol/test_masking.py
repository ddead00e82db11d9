"""Values of secrets in texts, data and streams: S6."""

import csv
import io
import json
import os
import re
import shlex
import subprocess
from collections.abc import Callable
from pathlib import Path
from urllib.parse import quote, quote_plus

import msgspec
import pytest
import yaml
from jinja2.utils import htmlsafe_json_dumps

from protocol.text.masking import Mask, parts_of
from sflow_agent.logs.splicing import Pending, move_masked, write_masked
from sflow_ctl.plan.secrets import Secrets

VALUES = [
    "hunter2",
    "pa\"ss'wo\\rd",
    "tëst-värde",
    "a b&c=d/e",
    "line one is long\nline two is long",
    "$(x)`y`",
]


@pytest.mark.parametrize("value", VALUES)
def test_s6_a_value_is_masked_in_the_forms_that_others_give_it(value: str) -> None:
    mask = Mask([("TOKEN", value)])
    row = io.StringIO()
    csv.writer(row).writerow([value, "x"])
    forms = {
        "plain": value,
        "json": json.dumps({"v": value}),
        "msgspec": msgspec.json.encode({"v": value}).decode(),
        "shell": shlex.quote(value),
        "csv": row.getvalue(),
        "url": f"http://h/?t={quote(value, safe='')}",
        "tojson": str(htmlsafe_json_dumps({"v": value})),
        "repr": repr({"v": value}),
        "yaml": yaml.safe_dump({"v": value}, default_style="'", width=1000, allow_unicode=True),
    }
    for name, form in forms.items():
        if name == "yaml" and "\n" in value:
            continue  # documents are masked before they are written
        masked = mask.text(f"before {form} after")
        assert "***TOKEN***" in masked, name
        assert not any(part in masked for part in value.split("\n")), name
        assert mask.raw(form.encode()) == mask.text(form).encode(), name


def bash(script: str, value: str) -> str:
    """Return what a script prints of `VALUE`."""
    done = subprocess.run(
        ["bash", "-c", script], env={"VALUE": value}, capture_output=True, text=True, check=True
    )
    return done.stdout + done.stderr


FORMS: dict[str, Callable[[str], str]] = {
    "form": quote_plus,
    "lower case": lambda value: re.sub("%[0-9A-F]{2}", lambda one: one[0].lower(), quote(value, safe="")),
    "encodeURIComponent": lambda value: quote(value, safe="!'()*"),
    "encodeURI": lambda value: quote(value, safe=";,/?:@&=+$!'()*#"),
    "php": lambda value: json.dumps(value).replace("/", "\\/"),
    "printf %q": lambda value: bash('printf "%q" "$VALUE"', value),
    "declare": lambda value: bash("declare -p VALUE", value),
    "set -x": lambda value: bash('set -x; : "$VALUE"', value),
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(
    "value", ["a b/c+d=e&f", "p'q r/$(x)!y", 'say "so"/now', "back\\slash two", "Plain-1.2/3"]
)
def test_s6_more_forms_of_urls_and_shells_are_masked(form: str, value: str) -> None:
    masked = Mask([("TOKEN", value)]).text(f"before {FORMS[form](value)} after")
    assert "***TOKEN***" in masked
    assert not {*re.findall(r"\w{2,}", value)} & {*re.findall(r"\w{2,}", masked.replace("TOKEN", ""))}


def test_s6_data_is_masked_wherever_it_is() -> None:
    mask = Mask([("A", "hunter2"), ("B", "12345")])
    data = {"hunter2": ["x hunter2", {"k": ("hunter2", 12345, 1.5, None, True)}]}
    assert mask.data(data) == {"***A***": ["x ***A***", {"k": ["***A***", "***B***", 1.5, None, True]}]}


def test_s6_the_longest_value_wins_and_short_ones_are_left() -> None:
    mask = Mask([("SHORT", "abc"), ("A", "secret"), ("B", "secret-and-more")])
    assert mask.text("abc secret secret-and-more") == "abc ***A*** ***B***"
    assert not Mask([("X", "1"), ("Y", "")])


def test_s6_a_registry_knows_what_is_secret() -> None:
    secrets = Secrets()
    secrets.learn("TOKEN", "unknown-name")
    secrets.declare(["TOKEN", "PIN", "HF_TOKEN"], {"HF_TOKEN": "from-environment", "OTHER": "other-value"})
    secrets.learn("TOKEN", {"user": "someone", "keys": ["first-key", "second-key"]})
    secrets.learn("TOKEN", "${{ variables.OTHER }}")
    secrets.learn("PIN", 12)
    text = "unknown-name someone first-key second-key from-environment other-value ${{ variables.OTHER }} 12"
    assert secrets.mask.text(text) == (
        "unknown-name ***TOKEN*** ***TOKEN*** ***TOKEN*** ***HF_TOKEN*** other-value ${{ variables.OTHER }} 12"
    )
    assert secrets.too_short() == ["PIN"]
    assert list(parts_of({"a": [1, True, None, "x"]})) == ["1", "x"]


@pytest.mark.parametrize("size", [1, 2, 3, 5, 7, 64])
def test_s6_a_value_is_masked_however_a_stream_is_cut(tmp_path: Path, size: int) -> None:
    mask = Mask([("TOKEN", "hunter2-hunter3"), ("OTHER", "abcdabce")])
    data = b"hunter2-hunter3 hunter2-hunter2-hunter3\nabcdabcdabce hunt\xff hunter2-"
    source, sink = os.pipe()
    os.set_blocking(source, False)
    file = os.open(tmp_path / "log", os.O_WRONLY | os.O_CREAT, 0o600)
    pending = Pending()
    try:
        for start in range(0, len(data), size):
            os.write(sink, data[start : start + size])
            _, is_at_end, lost = move_masked(source, file, 1 << 20, pending, mask)
            assert not is_at_end
            assert lost is None
        os.close(sink)
        moved, is_at_end, lost = move_masked(source, file, 1 << 20, pending, mask)
        assert (moved, is_at_end, lost, pending.head, pending.backlog) == (0, True, None, b"", b"")
    finally:
        os.close(source)
        os.close(file)
    shown = (tmp_path / "log").read_bytes()
    assert shown == b"***TOKEN*** hunter2-***TOKEN***\nabcd***OTHER*** hunt\xff hunter2-"


def test_s6_a_log_that_cannot_be_written_is_reported() -> None:
    with open("/dev/full", "wb", buffering=0) as full:  # noqa: PTH123
        pending = Pending()
        lost = write_masked(full.fileno(), pending, b"x hunter2\n", Mask([("A", "hunter2")]))
    assert lost is not None
    assert "No space left" in lost.reason
    assert lost.is_held
    assert pending.backlog == b"x ***A***\n"


def test_disk_full_masked_output_is_written_once_there_is_room(tmp_path: Path) -> None:
    mask, pending = Mask([("A", "hunter2")]), Pending()
    with open("/dev/full", "wb", buffering=0) as full:  # noqa: PTH123
        write_masked(full.fileno(), pending, b"x hunter2\n", mask)
    with (tmp_path / "log").open("wb", buffering=0) as log:
        assert write_masked(log.fileno(), pending, b"more", mask) is None
    assert (tmp_path / "log").read_bytes() == b"x ***A***\nmore"
