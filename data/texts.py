"""Texts that the scripts of this folder measure on: bundled ones, or WikiText-2 where it is at hand."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from saturation.tasks import bundled

LONG = 1000  # characters; shorter paragraphs of WikiText-2 are left out
MOST = 512  # tokens of a paragraph that are read


def held_out(kind: str, tokenizer: Any, count: int, *, skip: int = 0) -> list[list[int]]:
    """Token ids of some texts, those of "bundled" (validation) or "wikitext" (long paragraphs of the test file).

    Raises
    ------
    OSError
        Where WikiText-2 is asked for and SATURATION_REAL_DATA does not name a folder that has it.
    """
    if kind == "bundled":
        texts = [example.text for example in bundled("validation")]
    else:
        texts = paragraphs(wikitext())
    return [tokenizer(text).input_ids[:MOST] for text in texts[skip : skip + count]]


def wikitext() -> Path:
    """The test file of WikiText-2, in the folder of real data."""
    folder = os.environ.get("SATURATION_REAL_DATA")
    path = Path(folder or ".") / "wikitext-2" / "test.txt"
    if folder is None or not path.is_file():
        raise OSError(
            "expected the test file of WikiText-2 as wikitext-2/test.txt in the folder that SATURATION_REAL_DATA "
            f"names, got {folder!r}; set it, or measure on --texts bundled"
        )
    return path


def paragraphs(path: Path) -> list[str]:
    """The long paragraphs of a WikiText file, headings left out."""
    lines = (line.strip() for line in path.read_text(encoding="utf-8").splitlines())
    return [line for line in lines if len(line) > LONG and not line.startswith("=")]
