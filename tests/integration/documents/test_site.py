"""The documents as HTML: they build without a warning, and open from a file system without a network."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.documents.blocks import ROOT

_LOADED = re.compile(
    r'<(?:script|img|iframe)[^>]*\ssrc="?(https?://[^">\s]+)|<link[^>]*\shref="?(https?://[^">\s]+)'
)


def test_the_site_builds_and_loads_nothing_from_the_network(tmp_path: Path) -> None:
    pytest.importorskip("mkdocs")
    pytest.importorskip("material")
    site = tmp_path / "site"
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(site)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    pages = list(site.rglob("*.html"))
    assert len(pages) > 40
    loaded = {
        (page.name, "".join(match))
        for page in pages
        for match in _LOADED.findall(page.read_text(encoding="utf-8"))
    }
    assert not loaded, f"the page loads this from the network: {loaded}"
