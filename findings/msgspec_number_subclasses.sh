#!/bin/sh
# msgspec 0.22.0: convert() takes a subclass of int for int, but refuses a subclass of float for float; the encoders refuse both.
#
#   convert(Count(2), int)      2
#   convert(Ratio(1.5), float)  ValidationError: Expected `float`, got `Ratio`
#   json.encode, msgpack.encode of either: TypeError
#
# Parsers that keep the source text of a number make such subclasses (so that 1.10 can be written back as 1.10). The integers then pass
# a schema and the floats do not; and the accepted integer is converted to a plain int, so a Struct made by convert() can be encoded
# where the value that went in cannot.
set -e
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m pip install -q --disable-pip-version-check --target "$folder" msgspec==0.22.0
PYTHONPATH="$folder" python3 - <<'PYTHON'
import msgspec


class Count(int):
    """An integer with its source text."""


class Ratio(float):
    """A float with its source text."""


def outcome(function, *arguments):
    """Return the result's type and value, or the name of the error."""
    try:
        value = function(*arguments)
    except (TypeError, msgspec.ValidationError) as error:
        return type(error).__name__
    return type(value).__name__, value


seen = {
    "convert(Count(2), int)": outcome(msgspec.convert, Count(2), int),
    "convert(Ratio(1.5), float)": outcome(msgspec.convert, Ratio(1.5), float),
    "json.encode(Count(2))": outcome(msgspec.json.encode, Count(2)),
    "json.encode(Ratio(1.5))": outcome(msgspec.json.encode, Ratio(1.5)),
    "msgpack.encode(Count(2))": outcome(msgspec.msgpack.encode, Count(2)),
    "msgpack.encode(Ratio(1.5))": outcome(msgspec.msgpack.encode, Ratio(1.5)),
}
for call, result in seen.items():
    print(f"msgspec {msgspec.__version__}: {call}: {result}")
assert list(seen.values()) == [("int", 2), "ValidationError", "TypeError", "TypeError", "TypeError", "TypeError"]
PYTHON
