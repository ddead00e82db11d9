"""Explains libyaml's messages about syntax, with the mistake that is behind most of them. `yaml_source` reports them."""

from typing import TYPE_CHECKING

from protocol.errors import Finding
from sflow_ctl.format.field_lookup import dotted
from sflow_ctl.format.yaml_values import unquoted

if TYPE_CHECKING:
    from sflow_ctl.format.yaml_source import PathKey, Source

_QUOTE = "put the whole value in quotes"
_OTHER = "check indentation and quoting; a value with `: ` or ` #` in it needs quotes"
_EXPLANATIONS = (
    (
        "did not find expected '-' indicator",
        "this line is indented otherwise than the entries of the list above it",
        "give it the indentation of its neighbours; each entry begins with `- `",
    ),
    (
        "did not find expected key",
        "this line does not belong to the mapping above it",
        "give it the indentation of its neighbours, and write `key: value`; text after a closing quote needs quotes, too",
    ),
    (
        "mapping values are not allowed",
        "a second `: ` in one value, or a key that is indented further than its neighbours",
        f"{_QUOTE}, or correct the indentation",
    ),
    (
        "block sequence entries are not allowed",
        "a list cannot begin with `- ` here",
        "begin the list on the next line, or write [a, b]",
    ),
    (
        "found undefined alias",
        "`*` at the beginning of a value refers to an anchor, and there is none of that name",
        _QUOTE,
    ),
    (
        "but found another document",
        "a second document begins here",
        "put it into a file of its own: -f merges files",
    ),
    (
        "could not find expected ':'",
        "a key without `: ` after it",
        "write `key: value`, or quote text of several lines",
    ),
    (
        "found unknown escape character",
        "a backslash in double quotes begins an escape that does not exist",
        "use single quotes",
    ),
    ("found character that cannot start any token", "a value cannot begin with this character", _QUOTE),
    (
        "did not find expected ',' or",
        "a list or mapping in brackets is not closed, or has text in it that needs quotes",
        _OTHER,
    ),
    ("did not find expected node content", "something in brackets that is not a value", _OTHER),
)


def begins_earlier(problem: str) -> bool:
    """Return whether the mistake is where the construct begins, which libyaml notices a line later."""
    return "could not find expected ':'" in problem


def explain_syntax(problem: str, line: str) -> tuple[str, str]:
    """Return what is wrong, empty if libyaml's own words must do, and what to do. `line` is the one with the problem."""
    if (
        "{{" in line
        and any(one in line for one in "[{")
        and "did not find expected" in problem
        and "'-'" not in problem
    ):
        why = "braces of an expression are read as a mapping inside brackets"
        return why, 'put it in quotes: ["echo ${{ NAME }}"], replicas: "${{ COUNT }}"'
    for words, why, hint in _EXPLANATIONS:
        if words in problem:
            return why, hint
    return "", _OTHER


def sheet_problem(name: str) -> Finding | None:
    """Return the finding about a sheet that is given as a workflow; None for another file."""
    if not name.endswith(".csv"):
        return None
    what = f"{name} is a sheet, not a workflow file"
    hint = f"name the workflow in its columns, and give the sheet to run, batch or compose: -b {name}"
    return Finding("sheet-as-workflow", what, name, hint)


def nameless(source: "Source", path: "tuple[PathKey, ...]", has_name: bool) -> Finding:
    """Return the finding about an entry of a list without a name, or with one that is not text."""
    if has_name:
        place = (*path, "name")
        text = unquoted(source.node(place))
        what = "the name is not text" if not text else f"the name {text} is not text, but a value of YAML"
        return Finding(
            "wrong-type",
            what,
            f"{source.where(place)}  {dotted(place)}",
            "put it in quotes" if text else "give it a name in text",
        )
    where = f"{source.where(path)}  {dotted(path)}"
    return Finding("missing-key", '"name" is missing', where, "give every entry of a list a `name:`")
