"""Paths of source files that the documents name exist."""

import re
from pathlib import Path

import pytest

from tests.documents.blocks import PAGES, ROOT

_PATH = re.compile(r"`((?:protocol|sflow_agent|sflow_ctl|tests)/[a-z0-9_/]+(?:\.py)?)`")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_files_that_a_page_names_exist(page: Path) -> None:
    named = set(_PATH.findall(page.read_text(encoding="utf-8")))
    assert not [path for path in named if not (ROOT / path).exists()]
