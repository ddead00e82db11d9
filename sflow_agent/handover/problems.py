"""Why an output or an input cannot be used."""


class HandoverError(Exception):
    """Says what is wrong with an output or an input, as a sentence, and the remedy."""

    def __init__(
        self, text: str, hint: str = "", *, is_missing: bool = False, is_unclear: bool = False
    ) -> None:
        super().__init__(text)
        self.hint = hint
        self.is_missing = is_missing
        """It is not there at all."""
        self.is_unclear = is_unclear
        """Several files may be meant: one that need not be there is left out."""
