"""The characters that our texts are drawn with, as ASCII: for a terminal whose locale is not UTF-8.

Imported only for such a terminal. The full-screen view has the same letters. Other characters are those of users, and stay.
"""

from protocol.text.lazy_pattern import lazy_pattern

_WORD_OF = {"✓": "ok:", "✗": "failed:"}
_AT_BEGIN = lazy_pattern(r"(?m)^((?:\x1b\[[0-9;]*m)*)([✓✗])(?= )")
_LINES = {
    "-": "─━═╌╍╴╶╼╾",
    "|": "│┃║▌▍▎▏▐▕▊▋▉",
    "+": "┌┐└┘├┤┬┴┼╭╮╰╯┏┓┗┛┣┫┳┻╋╔╗╚╝✓",
    "#": "█",
    " ": "\u00a0╸╺▀▁▂▃▄▅▆▇▔░▒▓▖▗▘▝▞▟▙▛▜▚",
    "*": "•●◉",
    ".": "·…",
    ">": "→▶❯",
    "<": "←◀",
    "^": "↑▲",
    "v": "↓▼⇣",
    "x": "✗×",
}
LETTER_OF = {one: letter for letter, ones in _LINES.items() for one in ones}
"""A letter for each."""
_TABLE = str.maketrans(LETTER_OF)


def in_ascii(text: str) -> str:
    """Return a text with letters for what is drawn; a line that begins with a tick or a cross begins with a word."""
    return str(_AT_BEGIN.sub(lambda found: found[1] + _WORD_OF[found[2]], text)).translate(_TABLE)
