"""The text of each token of a growing text, without decoding the whole text each time."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

CUT = "�"  # replaces bytes that are not a character, or not yet a whole one
_LONGEST = 32  # most tokens decoded for the next piece; beyond that the first of them are dropped
_KEPT = 8  # tokens that stay, since the text of a token depends on the few before it


class Pieces:
    """Text pieces of one growing text; a character whose bytes are spread over several tokens goes to the last.

    A token's piece is the text that decoding adds when the token is added. Only the last tokens are decoded for that,
    from a place where their text is the end of the whole text.
    """

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer
        self._found: list[str] = []  # pieces of all tokens but the last, whose character may be incomplete
        self._first = 0  # token at which decoding begins
        self._before = ""  # text from there on that has pieces already

    def of(self, ids: Sequence[int]) -> list[str]:
        """A piece for each token; `ids` begins with the ids of the previous call."""
        for end in range(len(self._found) + 1, len(ids)):
            self._add(ids, end)
        last = [self._text(ids, self._first, len(ids))[len(self._before) :]] if ids else []
        return [*self._found, *last]

    def _add(self, ids: Sequence[int], end: int) -> None:
        whole = self._text(ids, self._first, end).rstrip(CUT)
        self._found.append(whole[len(self._before) :])
        self._before = max(self._before, whole, key=len)
        if end - self._first >= _LONGEST:
            later = self._text(ids, end - _KEPT, end)
            if later and self._before.endswith(later):
                self._first, self._before = end - _KEPT, later

    def _text(self, ids: Sequence[int], first: int, end: int) -> str:
        return self._tokenizer.decode(ids[first:end], skip_special_tokens=True)
