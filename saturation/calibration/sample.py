"""A sample of calibration texts: token ids, and the settings to draw them again."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, fields, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from ..atomic import located, writing


@dataclass(frozen=True)
class Sample:
    """Calibration texts as token ids, and their origin.

    Attributes
    ----------
    ids
        Token ids of each text, with the tokenizer's special tokens and without padding.
    source, format
        Source of the texts, and format of the examples.
    seed, budget
        Seed of the draw, and the real tokens requested; `tokens` is the number drawn.
    shots
        Questions with answers in each text; None: as many as fit, or one where the format has only one.
    length
        Most tokens of a text.
    whole
        Whether every example is whole.
    examples
        Ids of the examples in each text.
    revision
        Revision of a set of the hub; "" where there is none.
    content
        Hash of the examples of the source, or of the model that wrote them.
    """

    ids: tuple[tuple[int, ...], ...]
    source: str
    format: str
    seed: int
    budget: int
    shots: int | None = None
    length: int = 0
    whole: bool = True
    examples: tuple[tuple[str, ...], ...] = ()
    revision: str = ""
    content: str = ""

    @property
    def tokens(self) -> int:
        """Number of real tokens."""
        return sum(map(len, self.ids))

    def __len__(self) -> int:
        return len(self.ids)

    @cached_property
    def digest(self) -> str:
        """Hash of the token ids, equal for equal texts of any source."""
        return hashlib.blake2b(json.dumps(self.ids).encode(), digest_size=16).hexdigest()

    @property
    def name(self) -> str:
        """Source and format, for tables and figures."""
        shots = f" {self.shots}" if self.shots and self.format in ("icl", "cot") else ""
        return f"{self.source} ({self.format}{shots})"

    def about(self) -> dict[str, Any]:
        """All fields except the texts, in a form that JSON can hold, for a report."""
        kept = {
            field.name: getattr(self, field.name) for field in fields(self) if field.name not in ("ids", "examples")
        }
        return {**kept, "tokens": self.tokens, "texts": len(self), "digest": self.digest}

    def head(self, texts: int) -> Sample:
        """The first `texts` texts."""
        return replace(self, ids=self.ids[:texts], examples=self.examples[:texts])

    def save(self, path: str | Path) -> None:
        """Write the sample as JSON, whole or not at all; OSError where that fails."""
        with writing(path, "the calibration texts") as part:
            part.write_text(json.dumps(asdict(self), ensure_ascii=False), encoding="utf-8")

    @classmethod
    def load(cls, path: str | Path) -> Sample:
        """Read a sample that `save` wrote; ValueError for a file of another kind."""
        try:
            given = json.loads(located(path).read_text(encoding="utf-8"))
            ids = tuple(map(tuple, given.pop("ids")))
            return cls(ids=ids, examples=tuple(map(tuple, given.pop("examples"))), **given)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise ValueError(
                f"expected calibration texts as Sample.save writes them, but {path} holds something else "
                f"({type(error).__name__}: {error}); draw them again"
            ) from error
