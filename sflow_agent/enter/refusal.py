"""The error of this package, which both ways raise."""


class CannotEnterError(Exception):
    """The rank is gone, or nothing can be run beside it; the text says why, and what to do instead."""
