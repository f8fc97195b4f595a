"""Exact harm: KL(dense || the model without one block) of the next-token distribution, one pass per layer."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from numbers import Integral
from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformers import PreTrainedModel

from ..anatomy import UnsupportedModel, find_blocks, find_mixers, running, silenced
from ..patching import Scope, exclusive, patched
from ..policies import SINK, Action, StaticFFN
from ..progress import bar
from ..recording import Rows, Text, described, encode, tokens_of
from ..skipping import skip
from ..trace import Harm
from .chunked_logits import Reader
from .estimated_harm import estimated


def harm(
    model: PreTrainedModel,
    tokenizer: Any,
    texts: str | Sequence[Text],
    *,
    sink: int = SINK,
    attention: bool = False,
    batch_size: int = 8,
    chunk: int = 64,
    progress: bool = True,
    estimate: bool = False,
    draws: int = 1,
    seed: int = 0,
    action: Action | None = None,
) -> Harm:
    """Measure how leaving out one block changes the next-token distribution, for every token and layer.

    The harm of layer l at token t is KL(dense || without) in nats, where *without* is the model whose feed-forward
    block of layer l is left out **at every token past the sink**, in one pass per layer. So it includes the effect on
    t of leaving the block out at earlier tokens. Leaving the block out at t alone would take a pass per token and
    layer.

    Parameters
    ----------
    model, tokenizer
        As `load` gives them.
    texts
        A text, or a list of several, read teacher-forced; lists of token ids are taken as they are.
    sink
        Positions at the start of every text where all blocks run and nothing is measured.
    attention
        Measure the attention sublayer too, in as many further passes.
    batch_size
        Texts per forward pass; the numbers do not depend on it, except for the labels that an estimate draws.
    chunk
        Positions whose logits are in memory at a time.
    progress
        Show a bar where there is a terminal or a notebook.
    estimate
        True estimates harm from one backward pass instead: with labels y drawn from the model, (f . g)^2 / 2, where f
        is the block's output at token t and g the gradient of the sum of log p(y) there. That is, to second order,
        the effect of leaving the block out at t *alone* on all predictions from t on. It misses large effects.
    draws, seed
        For an estimate: labels drawn for each position, and the seed of the draw.
    action
        What runs in place of the block: None for nothing; an action of `narrow` runs some of its neurons; one of
        `stand_in` adds a constant, a multiple of the stream or a linear map.

    Returns
    -------
    Harm
        A row for every token, NaN for the sink. `record(model, tokenizer, texts)` gives a Trace with the same rows.

    Raises
    ------
    ValueError
        Without texts; for a text that is empty or too long for the model's context; where no text is longer than the
        sink; for an invalid sink, batch size, chunk or number of draws; for an estimate of attention.
    UnsupportedModel
        Where the model's feed-forward blocks, or with `attention` its attention sublayers, cannot be found.
    """
    _check(sink, {"batch_size": batch_size, "chunk": chunk, "draws": draws}, attention and estimate)
    if estimate and action is not None:
        raise ValueError("expected either action= or estimate=True, got both; the estimate is of blocks left out whole")
    rows, starts = encode(model, tokenizer, texts)
    if max(map(len, rows)) <= sink:
        raise ValueError(
            f"expected texts with tokens past the attention sink, which is the first {sink} positions of each, but the "
            f"longest has {max(map(len, rows))}; give longer texts, or a smaller sink"
        )
    blocks, scope = find_blocks(model), Scope()
    model, added = running(model)
    if added:
        raise UnsupportedModel(
            f"expected a model that reads a text as it is, got one whose wrapper puts {added} virtual tokens before "
            "it (prompt or prefix tuning), which harm does not measure; give the model without them"
        )
    mixers = find_mixers(model) if attention else ()
    provenance: dict[str, Any] = {"sink": sink, "estimate": estimate, "texts": len(rows)}
    provenance["vocabulary"] = model.config.get_text_config().vocab_size
    if action is not None:
        provenance["action"] = action.describe()
    with exclusive(model, scope), scope.entered():
        reader = Reader.of(model, scope, rows[0])
        batches = _batches(reader, rows, batch_size, sink)
        if estimate:
            provenance |= {"draws": draws, "seed": seed}
            generator = torch.Generator().manual_seed(seed)
            give: Any = partial(estimated, reader, blocks, chunk=chunk, draws=draws, generator=generator)
            kl = {"kl": _joined(give, batches, len(blocks), progress)}
        else:
            left_out: dict[str, list[Any]] = {
                "kl": [partial(skip, model, StaticFFN((block.index,), sink=sink, action=action)) for block in blocks],
            }
            if attention:
                left_out["attention_kl"] = [partial(_silent, mixer, sink, scope) for mixer in mixers]
            each = [without for every in left_out.values() for without in every]
            found = _joined(partial(_measured, reader, each, chunk=chunk), batches, len(each), progress)
            kl = dict(zip(left_out, np.split(found, len(left_out), axis=1), strict=True))
    tokens = _tokens(model, tokenizer, rows, starts)
    past = tokens["position"].to_numpy() >= sink
    numbers: dict[str, Any] = {name: _spread(values, past) for name, values in kl.items()}
    return Harm(tokens=tokens, **numbers, **described(model, blocks, provenance))


def _check(sink: int, counts: dict[str, int], estimated_attention: bool) -> None:
    StaticFFN((), sink=sink)  # refuses an invalid sink
    for name, count in counts.items():
        if not isinstance(count, Integral) or count < 1:
            raise ValueError(f"expected {name} to be a whole number from 1, got {count!r}; correct it")
    if estimated_attention:
        raise ValueError(
            "expected either attention=True or estimate=True, got both; the estimate is of feed-forward blocks, so "
            "measure attention exactly"
        )


Batch = tuple[list[list[int]], list[tuple[int, int]]]  # texts, and the row and position of each token past the sink


def _batches(reader: Reader, rows: list[list[int]], size: int, sink: int) -> list[Batch]:
    """Batches of texts; single texts where logits cannot be computed in parts."""
    size = size if reader.decoder is not None else 1
    parts = [rows[begin : begin + size] for begin in range(0, len(rows), size)]
    places = [[(row, place) for row, ids in enumerate(part) for place in range(sink, len(ids))] for part in parts]
    return [(part, there) for part, there in zip(parts, places, strict=True) if there]


def _joined(give: Any, batches: list[Batch], columns: int, progress: bool) -> np.ndarray:
    """Results of all batches for tokens past the sink, concatenated, float32 [position, column]."""
    with bar(total=len(batches) * columns, desc="harm", progress=progress) as going:
        return np.concatenate([give(batch, tick=going.update) for batch in batches]).astype(np.float32)


def mean_kl(
    reader: Reader, each: list[Any], rows: list[list[int]], sink: int, *, batch_size: int, chunk: int, progress: bool
) -> np.ndarray:
    """Mean KL past the sink in each of several contexts, such as `skip` of a policy, [context]."""
    batches = _batches(reader, rows, batch_size, sink)
    return _joined(partial(_measured, reader, each, chunk=chunk), batches, len(each), progress).mean(axis=0)


def mean_loss(
    reader: Reader, each: list[Any], rows: list[list[int]], sink: int, *, batch_size: int, chunk: int, progress: bool
) -> np.ndarray:
    """Mean next-token loss past the sink in each of several contexts, such as `skip` of a policy, [context]."""
    batches = _batches(reader, [ids for ids in rows if len(ids) > sink + 1], batch_size, sink)
    followed = [(part, [(row, at) for row, at in there if at + 1 < len(part[row])]) for part, there in batches]
    return _joined(partial(_lost, reader, each, chunk=chunk), followed, len(each), progress).mean(axis=0)


def _lost(reader: Reader, each: list[Any], batch: Batch, *, chunk: int, tick: Any) -> np.ndarray:
    """-log p of the token that follows each position of a batch, nats, [position, context]."""
    rows, places = batch
    following, columns = torch.tensor([rows[row][at + 1] for row, at in places]), []
    with torch.no_grad():
        for without in each:
            with without():
                states = reader.states(rows, places)
            logs = [reader.logits(part).float().log_softmax(-1) for part in states.split(chunk)]
            own = following.to(states.device).split(chunk)
            parts = [-log.gather(1, next_[:, None])[:, 0].cpu() for log, next_ in zip(logs, own, strict=True)]
            columns.append(torch.cat(parts).numpy())
            tick()
    return np.stack(columns, axis=1)


def _measured(reader: Reader, each: list[Any], batch: Batch, *, chunk: int, tick: Any) -> np.ndarray:
    """KL at every position of a batch with each single block left out, [position, block]."""
    columns = []
    with torch.no_grad():
        dense = reader.states(*batch)
        for without in each:
            with without():
                states = reader.states(*batch)
            columns.append(_kl(reader, dense, states, chunk))
            tick()
    return np.stack(columns, axis=1)


def _kl(reader: Reader, dense: Tensor, states: Tensor, chunk: int) -> np.ndarray:
    """KL(dense || states) in nats, from 0, [position]; logits are computed for `chunk` positions at a time."""
    precise = torch.float32 if dense.device.type == "mps" else torch.float64  # Apple's GPUs have no float64
    parts = []
    for one, other in zip(dense.split(chunk), states.split(chunk), strict=True):
        p, q = (reader.logits(part).to(precise).log_softmax(-1) for part in (one, other))
        parts.append((p.exp() * (p - q)).sum(-1).clamp(min=0).cpu())
    return torch.cat(parts).numpy()


@contextmanager
def _silent(mixer: torch.nn.Module, sink: int, scope: Scope) -> Iterator[None]:
    """Silence the attention of one layer past the sink."""
    with patched({mixer: silenced(mixer, sink, scope)}):
        yield


def _tokens(model: PreTrainedModel, tokenizer: Any, rows: list[list[int]], starts: list[int]) -> Any:
    """The frame of a Trace of the same texts."""
    position = np.concatenate([np.arange(len(ids)) for ids in rows])
    sequence = np.repeat(np.arange(len(rows)), [len(ids) for ids in rows])
    start = np.array(starts)[sequence]
    generated = np.where(position >= start, position - start + 1, 0)
    ids = torch.tensor([[number for row in rows for number in row]])
    tokens, _ = tokens_of([Rows(ids, None, sequence, position, generated, False, ids.numel())], model, tokenizer)
    return tokens.drop(columns="generated")


def _spread(values: np.ndarray, past: np.ndarray) -> np.ndarray:
    """Scatter values of the tokens past the sink to all tokens, NaN elsewhere, float32 [token, layer]."""
    whole = np.full((len(past), values.shape[1]), np.nan, np.float32)
    whole[past] = values
    return whole
