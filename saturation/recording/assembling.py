"""Assembly of a Trace from the parts of a recording, one part per forward pass."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache
from importlib.metadata import version
from itertools import groupby, pairwise
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor
from transformers import PreTrainedModel

from ..anatomy import Block, unwrapped
from ..similarity import distance_and_growth
from ..trace import Trace
from .text_pieces import CUT, Pieces
from .token_rows import Rows, token_ids


@dataclass(frozen=True, eq=False)
class Part:
    """Results of one or several passes: their rows, the sums [4, layer, token] per measure, and the skip mask."""

    rows: tuple[Rows, ...]
    sums: dict[str, Tensor]
    skipped: np.ndarray | None  # bool [token, layer]

    def mask(self, layers: int) -> np.ndarray:
        """The skip mask, bool [token, layer]."""
        return np.zeros((sum(map(len, self.rows)), layers), bool) if self.skipped is None else self.skipped


def on_host(parts: Sequence[Part]) -> list[Part]:
    """Move parts from the device to the host with one copy per measure; parts on the host stay as they are."""
    found: list[Part] = []
    for far, group in groupby(parts, _far):
        own = list(group)
        found += [_brought(own)] if far else own
    return found


def _far(part: Part) -> bool:
    """Whether any tensor of a part is on a device."""
    held = (*part.sums.values(), *(rows.ids for rows in part.rows if rows.ids is not None))
    return any(tensor.device.type != "cpu" for tensor in held)


def _brought(parts: list[Part]) -> Part:
    """Consecutive parts joined into one on the host, without padding."""
    passes = [rows for part in parts for rows in part.rows]
    rows = [
        replace(one, ids=None if one.ids is None else torch.from_numpy(ids), index=None)
        for one, ids in zip(passes, token_ids(passes), strict=True)
    ]
    sums = {}
    for measure, first in parts[0].sums.items():
        joined = torch.cat([part.sums[measure].to(first.device) for part in parts], dim=-1)  # [4 or 2, layer, token]
        sums[measure] = joined.cpu()
    skipped = None
    if any(part.skipped is not None for part in parts):
        layers = next(iter(sums.values())).shape[1]
        skipped = np.concatenate([part.mask(layers) for part in parts])
    return Part(tuple(rows), sums, skipped)


def assemble(
    parts: Sequence[Part],
    model: PreTrainedModel,
    blocks: Sequence[Block],
    tokenizer: Any,
    provenance: dict[str, Any],
) -> Trace:
    """Build one Trace of all parts, sorted by sequence and position, without tokens after the end of a sequence."""
    parts = on_host(parts)
    tokens, order = tokens_of([rows for part in parts for rows in part.rows], model, tokenizer)
    skipped = np.concatenate([np.zeros((0, len(blocks)), bool), *(part.mask(len(blocks)) for part in parts)])
    measured = {
        name: _measured(parts, name, len(blocks))[:, :, order] for name in (parts[0].sums if parts else ("ffn",))
    }
    return Trace(
        tokens=tokens.iloc[order].drop(columns="generated").reset_index(drop=True),
        skipped=skipped[order],
        **_columns(measured, skipped[order]),
        **described(model, blocks, provenance),
    )


def described(model: PreTrainedModel, blocks: Sequence[Block], provenance: dict[str, Any]) -> dict[str, Any]:
    """Fields of a Trace or a Harm that describe the model: name, revision, dtype, and provenance with versions.

    Where some layers have no feed-forward block, `ffn_layers` lists the numbers of those that have one.
    """
    config = model.config
    numbers = [block.number for block in blocks]
    hybrid = {"ffn_layers": numbers} if numbers != list(range(len(numbers))) else {}
    return {
        "model": called(model),
        "revision": getattr(config, "_commit_hash", None),
        "dtype": str(next(model.parameters()).dtype).removeprefix("torch."),
        "provenance": {**_versions(), **hybrid, **provenance},
    }


def called(model: PreTrainedModel) -> str:
    """Name of a model in traces: where it was loaded from, else its type."""
    return getattr(model.config, "_name_or_path", "") or model.config.model_type


def tokens_of(rows: Sequence[Rows], model: PreTrainedModel, tokenizer: Any = None) -> tuple[pd.DataFrame, np.ndarray]:
    """All rows as one frame with a column `generated`, and the order of these rows in a Trace.

    The order leaves out decode steps of a finished sequence that ran because others in its batch went on.
    """

    def joined(arrays: list[np.ndarray], kind: type) -> np.ndarray:
        return np.concatenate([np.zeros(0, dtype=kind), *arrays]).astype(kind)

    ids = joined(token_ids(rows), np.int32)
    generated = joined([r.generated for r in rows], np.int32)
    tokens = pd.DataFrame(
        {
            "sequence": joined([r.sequence for r in rows], np.int32),
            "position": joined([r.position for r in rows], np.int32),
            "phase": pd.Categorical.from_codes((generated > 0).astype(int), categories=["prefill", "decode"]),
            "token_id": ids,
            "text": "",
            "generated": generated,
        }
    )
    stepped = joined([np.full(len(r), r.stepped) for r in rows], bool)
    order = np.lexsort((tokens["position"], tokens["sequence"]))
    tokens["text"] = texts(ids, tokenizer, tokens["sequence"].to_numpy(), order)
    ended = pd.Series((stepped & np.isin(ids, end_ids(model)))[order])
    return tokens, order[~ended.groupby(tokens["sequence"].to_numpy()[order]).cummax().to_numpy(dtype=bool)]


def texts(ids: np.ndarray, tokenizer: Any, sequence: np.ndarray, order: np.ndarray) -> list[str]:
    """The text of each token, its leading space included; empty without a tokenizer.

    A character whose bytes are spread over several tokens goes to the last of them; `order` is the reading order.
    """
    if tokenizer is None:
        return [""] * len(ids)
    found = _alone(ids, tokenizer)
    cut = np.array([CUT in text for text in found], dtype=bool)[order]
    for run in _runs(cut, sequence[order]):
        places = order[run]
        for place, piece in zip(places.tolist(), Pieces(tokenizer).of(ids[places].tolist()), strict=True):
            found[place] = piece
    return found


def _runs(marked: np.ndarray, sequence: np.ndarray) -> list[slice]:
    """Runs of at least two consecutive marked tokens in one sequence."""
    apart = np.flatnonzero((np.diff(sequence) != 0) | np.diff(marked)) + 1
    ends = [0, *apart.tolist(), len(marked)]
    return [slice(a, b) for a, b in pairwise(ends) if b - a > 1 and marked[a]]


def _alone(ids: np.ndarray, tokenizer: Any) -> list[str]:
    """The text of each token, decoded by itself."""
    known = {}
    for number in np.unique(ids).tolist():
        piece = tokenizer.convert_ids_to_tokens(number) if number >= 0 else None
        text = tokenizer.convert_tokens_to_string([piece]) if piece is not None else ""
        known[number] = " " + text if piece and piece.startswith("▁") and text[:1] != " " else text
    return [known[number] for number in ids.tolist()]


def end_ids(model: PreTrainedModel) -> list[int]:
    """Ids of the tokens that end a text, from the model's generation config."""
    ends = getattr(getattr(unwrapped(model), "generation_config", None), "eos_token_id", None)
    return [] if ends is None else [ends] if isinstance(ends, int) else list(ends)


def _measured(parts: Sequence[Part], name: str, layers: int) -> np.ndarray:
    """The numbers of one measure from all parts, float64 [4 or 2, layer, token]."""
    kinds = 2 if name == "magnitude" else 4
    return np.concatenate(
        [np.zeros((kinds, layers, 0)), *(part.sums[name].double().numpy() for part in parts)], axis=-1
    )


def _columns(measured: dict[str, np.ndarray], skipped: np.ndarray) -> dict[str, Any]:
    """The arrays of a Trace, float32 [token, layer]."""
    columns = {}
    with np.errstate(all="ignore"):  # Trace refuses numbers that are not finite, and names them
        for name, abcp in measured.items():
            if name == "magnitude":
                columns["magnitude"], columns["median"] = (array.T for array in abcp)
                continue
            if name == "naive":
                a, b, c, _ = abcp
                columns["naive_cosine"] = np.where(skipped, np.nan, (b / (a * c) ** 0.5).T)
                continue
            prefix = "" if name == "ffn" else f"{name}_"
            distance, growth = (array.T for array in distance_and_growth(abcp))
            if name == "ffn":
                distance, growth = (np.where(skipped, np.nan, array) for array in (distance, growth))
            columns[f"{prefix}distance"], columns[f"{prefix}growth"] = distance, growth
    return {name: np.ascontiguousarray(array, dtype=np.float32) for name, array in columns.items()}


@cache
def _versions() -> dict[str, str]:
    return {name: version(name) for name in ("torch", "transformers")}
