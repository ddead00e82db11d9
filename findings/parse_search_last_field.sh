#!/bin/sh
# parse 1.22.4: an untyped field at the end of a pattern gets one character from search(), and the whole text from parse().
#
#   parse("model = {model}",  "model = llama-70b")       {'model': 'llama-70b'}
#   search("model = {model}", "INFO model = llama-70b")  {'model': 'l'}
#
# The field becomes a non-greedy group, and search() has nothing behind it that would make the group longer. A typed field stops where
# the type's own pattern does, also within a number: "{loss:d}" finds 12 in "12.75". So values that are searched for within a line need
# a check of what follows the match.
set -e
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m pip install -q --disable-pip-version-check --target "$folder" parse==1.22.4
PYTHONPATH="$folder" python3 - <<'PYTHON'
import parse

whole = parse.parse("model = {model}", "model = llama-70b").named
found = parse.search("model = {model}", "INFO model = llama-70b").named
number = parse.search("loss = {loss:d}", "step 3 loss = 12.75").named
print(f"parse {parse.__version__}: {whole} {found} {number}")
assert (whole, found, number) == ({"model": "llama-70b"}, {"model": "l"}, {"loss": 12})
PYTHON
