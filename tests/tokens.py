"""A tokenizer for tests: one word, one token; without a pad token, as many real ones are."""

from __future__ import annotations

import string
from types import SimpleNamespace

WORDS = list(string.ascii_lowercase)
FIRST = 3  # ids below are special


class Words:
    """Letters are words; the id of a letter is FIRST plus its place in the alphabet."""

    chat_template = None
    pad_token = None

    def __call__(self, text: str, add_special_tokens: bool = True) -> SimpleNamespace:
        return SimpleNamespace(input_ids=[FIRST + WORDS.index(word) for word in text.split()])

    def convert_ids_to_tokens(self, number: int) -> str:
        return f"▁{WORDS[number - FIRST]}" if FIRST <= number < FIRST + 26 else f"<{number}>"

    def convert_tokens_to_string(self, pieces: list[str]) -> str:
        return "".join(pieces).replace("▁", " ")

    def decode(self, ids, skip_special_tokens: bool = False) -> str:
        return self.convert_tokens_to_string([self.convert_ids_to_tokens(int(i)) for i in ids]).strip()
