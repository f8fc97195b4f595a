"""What each token adds to a text that grows, without decoding the whole text for each of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

CUT = "�"  # stands for bytes that are no character, or not yet
_LONGEST = 32  # tokens decoded for the next piece before their beginning is dropped
_KEPT = 8  # tokens that stay: what a tokenizer does with a token depends on the few before it


class Pieces:
    """The texts of the tokens of one growing text; a character whose bytes several tokens hold comes with the last.

    A token's piece is what decoding adds when the token is added. Only the last tokens are decoded for that, from a
    place where their text is the end of the whole text.
    """

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer
        self._found: list[str] = []  # of all tokens but the last, whose bytes may wait for more
        self._first = 0  # token that the decoding begins at
        self._before = ""  # text from there on, as far as it has pieces

    def of(self, ids: Sequence[int]) -> list[str]:
        """A piece for each token; `ids` begins with those of the call before."""
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
