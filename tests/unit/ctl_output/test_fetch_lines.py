"""The progress of artifacts as lines."""

import pytest

from sflow_ctl.cli.terminal.fetch_lines import FetchLines
from sflow_ctl.runtime.artifacts.transfer import Progress, bytes_text


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (1000, "1.0 kB"),
        (99_450, "99.5 kB"),
        (999_499, "999 kB"),
        (999_500, "1.0 MB"),
        (2_345_000_000, "2.3 GB"),
        (7.5e12, "7.5 TB"),
        (2e15, "2000.0 TB"),
    ],
)
def test_sizes(count: float, text: str) -> None:
    assert bytes_text(count) == text


def test_without_a_terminal_each_artifact_gets_one_line(
    capsys: pytest.CaptureFixture[str],
) -> None:
    lines = FetchLines(is_terminal=False)
    model = Progress("MODEL", "http://h/m", total_bytes=4_000_000)
    image = Progress("IMAGE", "docker://i", is_warning=True, outcome="is not looked for")
    lines.show([model, image])
    model.received_bytes = 1_000_000
    lines.show([model, image])
    image.is_done = True
    lines.show([model, image])
    model.received_bytes, model.elapsed_s, model.is_done = 4_000_000, 2.0, True
    lines.show([model, image])
    lines.close()
    assert capsys.readouterr().out.splitlines() == [
        "Fetching 2 artifacts: MODEL, IMAGE",
        "! artifact IMAGE is not looked for",
        "✓ artifact MODEL: 4.0 MB from http://h/m in 2.0 s (2.0 MB/s)",
    ]


def test_a_terminal_has_one_line_that_is_drawn_again(capsys: pytest.CaptureFixture[str]) -> None:
    lines = FetchLines(is_terminal=True)
    model = Progress("MODEL", "http://h/m", received_bytes=1_000_000, total_bytes=4_000_000)
    other = Progress("OTHER", "hf://o/m", note="again in 2 s, no connection")
    lines.show([model, other])
    shown = capsys.readouterr().out
    assert "\n" not in shown
    assert shown.startswith("\r\x1b[K⇣ 0 B/s")
    assert "MODEL 1.0 MB/4.0 MB 25%" in shown
    assert "OTHER 0 B again in 2 s, no connection" in shown
    model.received_bytes, model.is_done, model.elapsed_s = 4_000_000, True, 1.0
    lines.show([model, other])
    shown = capsys.readouterr().out
    assert shown.startswith("\r\x1b[K✓ artifact MODEL")
    assert shown.count("\n") == 1
    lines.close()
    assert capsys.readouterr().out == "\r\x1b[K"


def test_an_uncounted_artifact_has_no_size() -> None:
    assert Progress("M", "hf://o/m", elapsed_s=0.5).sentence() == "artifact M from hf://o/m in 0.5 s"
