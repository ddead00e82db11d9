"""What looks like a secret although no file declares it: by the name of a variable, by a name before it, or by its form.

For files about a run that are sent to other people: bundles and reports.
"""

from protocol.text.lazy_pattern import lazy_pattern

_SECRET = (
    r"(?:token|secret|password|passwd|api[_-]?key|access[_-]?key(?:[_-]?id)?|credentials?|private[_-]?key)"
)
_SECRET_NAME = lazy_pattern(rf"(?i){_SECRET}$")
_ENDS = ("token", "secret", "password", "passwd", "key", "id", "credential", "credentials")
"""One of these is at the end of every name, in small letters, that the pattern before matches. To compile that takes longer."""
_NAMED = lazy_pattern(
    rf"(?i)([\w.-]*{_SECRET})\b"
    r"(\\?[\"']?\s*[:=]\s*\\?[\"']?)([^\s\"',}\\]{4,})"
)
"""A name that says it is of a secret, and a value after it."""
_BY_FORM = lazy_pattern(
    r"\b(?:hf_[A-Za-z0-9]{16,}|sk-[A-Za-z0-9_-]{16,}|gh[pousr]_[A-Za-z0-9]{20,}|AKIA[A-Z0-9]{16}|xox[abprs]-[\w-]{10,}"
    r"|eyJ[\w-]{10,}\.[\w-]{10,}\.[\w-]{5,})"
    r"|(?<=://)[^\s/:@\"']+:[^\s/@\"']+(?=@)|(?i:(?<=bearer ))[\w.~+/=-]{8,}"
)
"""Values that are known by their form: tokens of hubs and clouds, a password in a URL, a bearer's token."""


_SIGNS = (
    *("token", "secret", "passw", "key", "credential", "://", "bearer "),
    *("hf_", "sk-", "ghp_", "gho_", "ghu_", "ghs_", "ghr_", "akia", "xox", "eyj"),
)
"""One of these is in every text, in small letters, in which a pattern finds something. To compile the patterns takes longer than
most runs take to make their report."""


def masked_by_form(text: str) -> str:
    """Return a text without what looks like a secret: by a name before it, or by its form."""
    small = text.lower()
    if not any(sign in small for sign in _SIGNS):
        return text
    return _BY_FORM.sub("***", _NAMED.sub(r"\1\2***", text))


def is_name_of_secret(name: str) -> bool:
    """Return whether the name of a variable says that its value is secret."""
    small = name.lower()
    if not small.endswith(_ENDS) or (small.endswith("id") and "key" not in small):
        return False
    return _SECRET_NAME.search(name) is not None
