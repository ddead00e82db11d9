"""Signatures: log lines that explain why their program ended. Pure: text of files in, checked records out.

Those for all workflows are in `signatures.toml` beside this file; a workflow's own travel in the `Welcome`.
"""

import re

import msgspec

from protocol.diagnosis.reasons import SIGNATURE_WORDS, WORDS
from protocol.text.lazy_pattern import lazy_pattern

_WORD = lazy_pattern(r"[a-z][a-z0-9_]{0,31}")
LINE = "line"
"""The field of a sentence that is the whole matched line."""


class Signature(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """A regular expression that explains an end, and the sentence about it."""

    name: str
    reason: str
    pattern: str
    """Searched in each line."""
    text: str = "{line}"
    """The sentence. Fields are the expression's named groups, and `line`."""
    hint: str = ""
    """The remedy."""
    contains: tuple[str, ...] = ()
    """In small letters: one of these is in every line that matches, so a log without them need not be searched."""


class _File(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    signature: list[Signature]


def read_signatures(text: str) -> tuple[Signature, ...]:
    """Return the signatures of a TOML file. Raises: ValueError naming the invalid one."""
    signatures = tuple(msgspec.toml.decode(text, type=_File).signature)
    for signature in signatures:
        problem = problem_of(signature)
        if problem is not None:
            raise ValueError(f'signature "{signature.name}": {problem[1]}')
    return signatures


def problem_of(signature: Signature) -> tuple[str, str] | None:
    """Return (field, what is wrong with it), or None."""
    try:
        groups = set(re.compile(signature.pattern).groupindex)
    except re.error as error:
        return "pattern", f'"{signature.pattern}" is not a regular expression: {error}'
    if not signature.pattern:
        return "pattern", "the pattern is empty"
    if re.search(signature.pattern, "") is not None:
        return "pattern", f'"{signature.pattern}" matches every line'
    if not _WORD.fullmatch(signature.reason):
        return "reason", f'"{signature.reason}" is not a word: small letters, digits and _, at most 32'
    if signature.reason in WORDS and signature.reason not in SIGNATURE_WORDS:
        return "reason", f'"{signature.reason}" cannot be found in a log'
    import string  # few workflows have signatures

    try:
        fields = {name for _, name, _, _ in string.Formatter().parse(signature.text) if name is not None}
    except ValueError as error:
        return "text", f'"{signature.text}" is not a sentence with fields: {error}'
    unknown = fields - groups - {LINE}
    if unknown:
        known = ", ".join(sorted(groups | {LINE}))
        return "text", f'"{{{min(unknown)}}}" is not a named group of the pattern; there are {known}'
    return None


def sentence(signature: Signature, groups: dict[str, str | None], line: str) -> str:
    """Return the signature's text for a match; a group that did not match is a question mark."""
    values = {name: value if value is not None else "?" for name, value in groups.items()}
    return signature.text.format_map({**values, LINE: line})
