"""Evaluates `success` conditions after exit status 0: files, JSON documents and patterns. Pure.

Files are read through `Files`, which the caller provides (`local_files`). The agent calls it for a task, the
controller for the whole run.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import NamedTuple

from protocol.messages.facts import ExitCause
from protocol.messages.rank_spec import RequiredFile, RequiredJson, Success
from protocol.text.ansi import LINE_END, text_of_line
from protocol.text.json_expression import JsonExpressionError, json_expression
from protocol.text.line_pattern import LinePattern
from protocol.text.process_labels import LabelRemover, Labels

MAX_JSON_BYTES = 64 * 1024 * 1024
BLOCK_BYTES = 1024 * 1024
LINE_BYTES = 64 * 1024
"""A longer line is searched in pieces of this size."""
SHOWN_CHARACTERS = 300
_HINT = "required by the task's own `success`"


class Files(NamedTuple):
    """Reads files. All methods may raise OSError; none writes."""

    matching: Callable[[str], Iterable[tuple[str, int]]]
    """Returns (path, size) of the regular files that a path or pattern means."""
    read: Callable[[str, int], bytes]
    """Returns a file's content, at most so many bytes."""
    blocks: Callable[[str], Iterator[bytes]]
    """Yields a file's content from its beginning."""


class PrintedLog(NamedTuple):
    """A log in which patterns are searched."""

    path: str
    labels: Labels = "none"
    """Who has put process numbers before its lines: they are not searched."""


def is_pattern(path: str) -> bool:
    """Return whether a path may mean several files."""
    return any(character in path for character in "*?[")


def missing(success: Success, logs: Sequence[PrintedLog], files: Files) -> ExitCause | None:
    """Return the first condition that does not hold: files, then JSON, then patterns; None when all hold.

    A required pattern must be in one of the logs, a forbidden one in none.
    """
    for required in success.files:
        text = _file_missing(required, files)
        if text is not None:
            return ExitCause(word="no_output", text=text, hint=_HINT)
    for document in success.json:
        text = _json_wrong(document, files)
        if text is not None:
            return ExitCause(word="success", text=text, hint=_HINT)
    if success.require or success.forbid:
        return _patterns_wrong(success, logs, files)
    return None


def _file_missing(required: RequiredFile, files: Files) -> str | None:
    try:
        found = list(files.matching(required.path))
    except OSError as error:
        return f"{required.path}, which it must write, cannot be read: {error.strerror or error}"
    if not found:
        what = "no file matches" if is_pattern(required.path) else "there is no"
        return f"{what} {required.path}, which it must write"
    largest, size = max(found, key=lambda one: one[1])
    if size >= required.min_bytes:
        return None
    if size == 0:
        return f"{largest}, which it must write, is empty"
    return f"{largest} has {size} bytes, but needs at least {required.min_bytes}"


def _json_wrong(required: RequiredJson, files: Files) -> str | None:
    from protocol.text.json_documents import documents  # few tasks have such conditions

    try:
        content = files.read(required.path, MAX_JSON_BYTES + 1)
        if len(content) > MAX_JSON_BYTES:
            return f"{required.path} is larger than {MAX_JSON_BYTES >> 20} MiB, the limit for checks"
        found = documents(content)
    except FileNotFoundError:
        return f"there is no {required.path}, which it must write"
    except OSError as error:
        return f"{required.path} cannot be read: {error.strerror or error}"
    except (ValueError, RecursionError) as error:
        return f"{required.path} is not a JSON document: {error}"
    for number, document in enumerate(found, 1):
        try:
            holds, why = json_expression(required.where).holds(document)
        except JsonExpressionError as error:
            holds, why = False, f'"{required.where}" {error}'
        if not holds:
            which = f"document {number} of {required.path}" if len(found) > 1 else required.path
            return f"{which} does not fulfil `{required.where}`: {why}"
    return None


# ---------------------------------------------------------------------- patterns


def _patterns_wrong(success: Success, logs: Sequence[PrintedLog], files: Files) -> ExitCause | None:
    wanted = {pattern: LinePattern(pattern) for pattern in success.require}
    forbidden = [(pattern, LinePattern(pattern)) for pattern in success.forbid]
    for log in logs:
        try:
            for number, offset, line in _printed_lines(files.blocks(log.path), log.labels):
                for pattern, regex in forbidden:
                    if regex.is_in(line):
                        return ExitCause(
                            word="success",
                            text=f"its log has a line that `{pattern}` forbids: {line.strip()[:SHOWN_CHARACTERS]}",
                            hint=_HINT,
                            line=line.strip()[:SHOWN_CHARACTERS],
                            line_number=number,
                            offset=offset,
                        )
                for pattern in [pattern for pattern, regex in wanted.items() if regex.is_in(line)]:
                    del wanted[pattern]
                if not wanted and not forbidden:
                    return None
        except OSError as error:
            return ExitCause(
                word="success", text=f"its log {log.path} cannot be read: {error.strerror or error}"
            )
    if wanted:
        pattern, regex = next(iter(wanted.items()))
        text = regex.problem or f"no line of its log matches `{pattern}`"
        return ExitCause(word="success", text=text, hint=_HINT)
    problem = next((regex.problem for _, regex in forbidden if regex.problem), "")
    return ExitCause(word="success", text=problem, hint=_HINT) if problem else None


def _printed_lines(blocks: Iterator[bytes], labels: Labels) -> Iterator[tuple[int, int, str]]:
    """Yield (number, offset, text) of each line as its process printed it."""
    remover = LabelRemover(labels)
    number, offset = 0, 0
    for number, (offset, raw) in enumerate(_lines(blocks), 1):
        line = remover.line(raw)
        if line is not None:
            yield number, offset, text_of_line(line)
    for line in remover.rest():
        yield number, offset, text_of_line(line)


def _lines(blocks: Iterator[bytes]) -> Iterator[tuple[int, bytes]]:
    """Yield (offset, content) of each line, however the blocks are cut."""
    offset, rest = 0, b""
    for block in blocks:
        rest += block
        # A return at the very end may be half of a pair of both.
        position = 0
        for end in LINE_END.finditer(rest, 0, len(rest) - rest.endswith(b"\r")):
            yield offset + position, rest[position : end.start()]
            position = end.end()
        while len(rest) - position > LINE_BYTES:
            yield offset + position, rest[position : position + LINE_BYTES]
            position += LINE_BYTES
        offset, rest = offset + position, rest[position:]
    if rest:
        yield offset, rest.rstrip(b"\r")
