#!/bin/sh
# google-re2 1.1.20251105: patterns that Python's re accepts as well, and that find other text there, without an error.
#
#   pattern        text       re       re2
#   a{,2}          aab        aa       nothing (it looks for the five characters a{,2})
#   [[:digit:]]+   a12:]      :]       12
#   \w+            grün       grün     gr (ASCII letters only)
#   \d+            ٣4         ٣4       4  (ASCII digits only)
#
# The package has the interface of re, so it looks as if one could try it first and fall back to re for the patterns that it refuses.
# These are not refused. Such a program has to look for these spellings itself.
set -e
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m pip install -q --disable-pip-version-check --target "$folder" google-re2==1.1.20251105
PYTHONPATH="$folder" python3 -W ignore - <<'PYTHON'
import re

import re2

CASES = [
    (r"a{,2}", "aab", "aa", None),
    (r"[[:digit:]]+", "a12:]", ":]", "12"),
    (r"\w+", "grün", "grün", "gr"),
    (r"\d+", "٣4", "٣4", "4"),
]
for pattern, text, by_re, by_re2 in CASES:
    found = [match.group() if match else None for match in (re.search(pattern, text), re2.search(pattern, text))]
    print(f"google-re2 1.1.20251105: {pattern} in {text!r}: re {found[0]!r}, re2 {found[1]!r}")
    assert found == [by_re, by_re2]
PYTHON
