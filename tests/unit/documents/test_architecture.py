"""The architecture page stays short, and its words are those that the code uses."""

import re

from tests.documents.blocks import ROOT

PAGE = ROOT / "docs" / "architecture.md"
MAX_LINES = 150
MAX_TRIP_FILES = 12
_PATH = re.compile(r"`((?:protocol|sflow_agent|sflow_ctl)/[a-z0-9_/]+(?:\.py)?)`")


def test_it_is_short() -> None:
    assert len(PAGE.read_text(encoding="utf-8").splitlines()) <= MAX_LINES


def test_a_trip_passes_through_few_files() -> None:
    trips = PAGE.read_text(encoding="utf-8").split("## ")
    counts = {
        trip.splitlines()[0]: len(set(_PATH.findall(trip))) for trip in trips if trip.startswith("Trip")
    }
    assert len(counts) == 3
    assert max(counts.values()) <= MAX_TRIP_FILES, counts
