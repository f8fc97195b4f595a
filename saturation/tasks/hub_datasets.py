"""Tasks from the Hugging Face hub, or from any folder or file that `datasets` opens."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from itertools import islice
from typing import Any

from .calibration_presets import HUB
from .hub_presets import HubSet
from .published import Fields
from .task import Example, Task
from .text_files import filled


def hub(
    source: str | HubSet,
    *,
    split: str | None = None,
    config: str | None = None,
    columns: Mapping[str, str] | None = None,
    template: str | None = None,
    score: str | None = None,
    examples: int | None = None,
    max_new_tokens: int | None = None,
    streaming: bool | None = None,
    **options: Any,
) -> Task:
    """Read a task from the hub, or from any folder or file that `datasets` opens.

    Parameters
    ----------
    source
        One of `HUB`; or a `HubSet`; or the name of a data set, a folder or a format ("json" with ``data_files=``),
        for which `columns` and `score` must be given.
    split, config, columns, template, score, max_new_tokens, streaming
        Replace those of the `HubSet`.
    examples
        Number of examples to take from the start; with streaming no more is read.
    **options
        For `datasets.load_dataset`, such as ``data_files=`` or ``revision=``.

    Returns
    -------
    Task

    Raises
    ------
    ImportError
        Where the package `datasets` is not installed.
    ValueError
        Where the data set, its split or a column is missing (the message lists what there is); for an empty split.
    """
    known = _known(source, columns, score)
    given: dict[str, Any] = {
        "split": split,
        "config": config,
        "columns": columns,
        "template": template,
        "score": score,
        "max_new_tokens": max_new_tokens,
        "streaming": streaming,
    }
    chosen = replace(known, **{name: value for name, value in given.items() if value is not None})
    if chosen.streaming and examples is None:
        raise ValueError(
            f"expected examples= for {chosen.name}, which is read row by row and may have no end in sight, got none; "
            "say how many to take, or give streaming=False"
        )
    rows = _rows(chosen, options)
    fields = chosen.shape(_fields(chosen, rows))
    found = tuple(_example(chosen, number, one) for number, one in enumerate(islice(fields, examples)))
    if not found:
        raise ValueError(
            f"expected examples in split {chosen.split!r} of {chosen.name}, got none; name another split, or check "
            "that examples= is at least 1"
        )
    name = source if isinstance(source, str) else source.name
    return Task(name, chosen.score, found, chosen.max_new_tokens, source=_where(chosen))


def _known(source: str | HubSet, columns: Mapping[str, str] | None, score: str | None) -> HubSet:
    if isinstance(source, HubSet):
        return source
    if source in HUB:
        return HUB[source]
    if columns is None or score is None:
        raise ValueError(
            f"expected one of the ready sets {', '.join(HUB)}, or columns= and score= for another, got {source!r} "
            "without both; say which column holds what, and how answers are scored"
        )
    return HubSet(source, score, columns, template="{prompt}")


def _rows(chosen: HubSet, options: Mapping[str, Any]) -> Iterable[dict[str, Any]]:
    try:
        from datasets import exceptions, load_dataset
    except ImportError:
        raise ImportError("expected the package datasets, which opens the hub; pip install 'saturation[hub]'") from None
    try:
        return load_dataset(chosen.name, chosen.config, split=chosen.split, streaming=chosen.streaming, **options)
    except (OSError, ValueError, exceptions.DatasetsError) as error:
        told = (str(error) or type(error).__name__).splitlines()[0]
        raise ValueError(
            f"expected {_where(chosen)} to be a data set that can be reached, but opening it gave "
            f"{type(error).__name__}: {told}; correct the name, the config or the split, or give a local file"
        ) from error


def _where(chosen: HubSet) -> str:
    return f"{'/'.join(filter(None, (chosen.name, chosen.config)))} [{chosen.split}]"


def _fields(chosen: HubSet, rows: Iterable[dict[str, Any]]) -> Iterator[Fields]:
    for row in rows:
        yield {name: _column(chosen, row, path) for name, path in chosen.columns.items()}


def _column(chosen: HubSet, row: dict[str, Any], path: str) -> Any:
    value: Any = row
    for part in path.split("."):
        if not isinstance(value, Mapping) or part not in value:
            there = ", ".join(value) if isinstance(value, Mapping) else f"a {type(value).__name__}"
            raise ValueError(
                f"expected a column {path!r} in {_where(chosen)}, but found no {part!r} among {there}; name the right "
                "one with columns="
            )
        value = value[part]
    return value


_TEXT = {"id", "kind", "text", "stop", "after", "reasoning"}
_TEXTS = {"answers", "references", "choices", "turns", "replies"}


def _example(chosen: HubSet, number: int, fields: Fields) -> Example:
    kept: dict[str, Any] = {"id": f"{number}", "stop": chosen.stop}
    for name, value in fields.items():
        if name in _TEXT:
            kept[name] = str(value)
        elif name in _TEXTS:
            kept[name] = (value,) if isinstance(value, str) else tuple(map(str, value))
        elif name == "correct":
            kept[name] = int(value)
    if chosen.score == "conversation" and "prompt" not in fields:
        first, *later = kept.get("turns", ("",))
        return Example(**{**kept, "prompt": first, "turns": tuple(later)})
    return Example(prompt=_prompt(chosen, fields), **kept)


def _prompt(chosen: HubSet, fields: Fields) -> str:
    if chosen.score == "text" and "prompt" not in fields and chosen.template in ("", "{prompt}"):
        return ""
    try:
        return filled(chosen.template, fields)
    except KeyError as missing:
        raise ValueError(
            f"expected field {missing} for the template of {chosen.name}, got {', '.join(fields)}; name its column "
            "with columns="
        ) from None
