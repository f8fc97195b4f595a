"""Sources of calibration text: bundled kinds, tasks, files, sets of the hub, controls, or the model itself."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from ..atomic import located
from ..tasks import PUBLISHED, Example, Task, bundled, hub, names, published, read
from ..tasks.text_files import text_of

HERE = Path(__file__).resolve().parents[2] / "data" / "calibration"
MIXTURE, GENERATED = "mixture", "generated"
CONTROLS = {
    "dots": "a full stop, again and again",
    "random-letters": "words of random letters",
    "random-tokens": "tokens of the vocabulary at random",
}
_FROM_HUB = 5_000  # examples read of a set of the hub by default


@dataclass(frozen=True)
class Source:
    """A source of examples for calibration text.

    Attributes
    ----------
    name
        For tables.
    task
        The examples; None for controls, the mixture and generated text, which only have a name.
    revision
        Branch, tag or commit of a set of the hub; "" where none was given.
    """

    name: str
    task: Task | None = None
    revision: str = ""

    @property
    def content(self) -> str:
        """Hash of the examples, independent of their location."""
        if self.task is None:
            return ""
        told = json.dumps([asdict(example) for example in self.task], ensure_ascii=False)
        return hashlib.blake2b(told.encode(), digest_size=16).hexdigest()


def kinds() -> list[str]:
    """Names of the bundled kinds of calibration text."""
    return sorted(path.stem for path in HERE.glob("*.jsonl"))


def open_source(given: str | Path | Task | Source | Sequence[str], **options: Any) -> Source:
    """Resolve a source by its name or content.

    Parameters
    ----------
    given
        A bundled kind (`kinds()`) or "mixture", which takes the same share of each; "generated", text that the model
        under study writes itself; one of `CONTROLS`; a bundled task; a task; a list of texts; a .jsonl file in the form
        of `tasks.read`; a .txt file, whose paragraphs are parted by blank lines; a published set with its file, such
        as "wikitext-2=wiki.train.raw"; or a set of the hub, such as "hub:gsm8k".
    **options
        For `tasks.hub`: `split` ("train" unless given), `revision`, `examples` (5,000 at most unless given),
        `columns` and so on.

    Returns
    -------
    Source

    Raises
    ------
    ValueError
        For an unknown name (the message lists the known ones), or options for a source that is no set of the hub.
    OSError
        For a file that cannot be read.
    """
    if not (isinstance(given, str) and given.startswith("hub:")) and options:
        raise ValueError(
            f"expected options such as {next(iter(options))}= only for a set of the hub, got them for {given!r}; leave "
            "them out, or name the set as hub:NAME"
        )
    if isinstance(given, Source):
        return given
    if isinstance(given, Task):
        return Source(given.name, given)
    if isinstance(given, (str, Path)):
        return _named(str(given), options)
    return Source("texts", _texts("texts", list(given)))


def _named(name: str, options: dict[str, Any]) -> Source:
    kind, equals, path = name.partition("=")
    if name in kinds():
        return Source(name, read(HERE / f"{name}.jsonl"))
    if name in (MIXTURE, GENERATED, *CONTROLS):
        return Source(name)
    if name.startswith("hub:"):
        asked = {"split": "train", "examples": _FROM_HUB, **options}
        return Source(name, hub(name.removeprefix("hub:"), **asked), revision=str(options.get("revision") or ""))
    if name.endswith(".jsonl"):
        task = read(name)
        return Source(task.name, task)
    if equals and kind in PUBLISHED:
        return Source(kind, published(kind, path))
    if name.endswith(".txt") or located(name).is_file():
        text = text_of(name, "a file of texts")
        return Source(Path(name).stem, _texts(name, [part.strip() for part in text.split("\n\n") if part.strip()]))
    if name in names():
        return Source(name, bundled(name))
    there = ", ".join((*kinds(), MIXTURE, GENERATED, *CONTROLS))
    raise ValueError(
        f"expected a source of calibration texts among {there}, a bundled task, a .jsonl or .txt file, a published set "
        f"with its file such as wikitext-2=wiki.train.raw, or hub:NAME, got {name!r}; name one of these"
    )


def _texts(name: str, texts: list[str]) -> Task:
    """Plain texts as a task."""
    if strange := [text for text in texts if not isinstance(text, str) or not text.strip()]:
        raise ValueError(f"expected texts that are not empty, got {strange[0]!r} among them; remove it")
    examples = tuple(Example(id=f"{number}", text=text) for number, text in enumerate(texts))
    return replace(Task("texts", "text", examples, source=name), name=Path(name).stem)
