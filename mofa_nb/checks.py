"""Guards: every message says what was expected, what came, and what to do."""

from __future__ import annotations


class InputError(ValueError):
    """A user's input cannot be used; the message is one sentence with the remedy."""
