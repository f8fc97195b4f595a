"""Recording of given texts, or of the text that the model writes after them."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Sequence
from numbers import Integral
from typing import Any

import torch
from transformers import PreTrainedModel

from ..anatomy import input_device, unwrapped
from ..progress import bar
from ..trace import Trace
from .assembling import end_ids
from .decode_loop import greedy, padded, steps
from .watching import watch

_HALF = re.compile("[\ud800-\udfff]")  # surrogates: half of a character in UTF-16, invalid in Python
Text = str | Sequence[int]  # a text, or its token ids
Prompt = Text | tuple[Text, Text]


def record(
    model: PreTrainedModel,
    tokenizer: Any,
    prompts: str | Sequence[Prompt],
    *,
    max_new_tokens: int = 0,
    start: int = 0,
    chat: bool = False,
    also: Sequence[str] = (),
    batch_size: int = 8,
    progress: bool = True,
) -> Trace:
    """Record how far every feed-forward block turns the residual stream, for every token of some texts.

    Parameters
    ----------
    model, tokenizer
        As `load` gives them.
    prompts
        A text, or a list of several. With ``max_new_tokens=0`` they are read teacher-forced, and a pair (prompt,
        answer) in the list is read as one text whose answer counts as decode.
    max_new_tokens
        Tokens that the model writes after each prompt, greedily; beams and penalties of its generation config are
        ignored.
    start
        Teacher-forced only: position from which the tokens of a plain text count as decode.
    chat
        True wraps each prompt as a user's turn in the tokenizer's chat template.
    also
        More to record, as for `watch`: "attention", "block", "naive", "magnitude".
    batch_size
        Texts per forward pass. The numbers do not depend on it, except for new tokens of the few model types that
        data/families.md calls "not left-padded".
    progress
        Show a bar where there is a terminal or a notebook.

    Returns
    -------
    Trace
        One row per token read: the prompt, and the new tokens except the last, which no pass reads.

    Raises
    ------
    ValueError
        Without prompts; for a prompt that is empty, no text or too long for the model's context; without a chat
        template; for a pair or a `start` with new tokens.
    UnsupportedModel
        As for `watch`.
    KeyboardInterrupt
        As it came, with the partial trace as its attribute `trace`.
    """
    if not all(isinstance(n, Integral) and n >= low for n, low in ((max_new_tokens, 0), (batch_size, 1))):
        raise ValueError(
            f"expected whole numbers max_new_tokens >= 0 and batch_size >= 1, got {max_new_tokens} and {batch_size}; "
            "0 new tokens reads the texts as they are"
        )
    if not max_new_tokens and isinstance(prompts, tuple) and [type(one) for one in prompts] == [str, str]:
        raise ValueError(
            f"expected prompts in a list, got {prompts!r}, which may be a pair (prompt, answer) or two prompts; write "
            "[(prompt, answer)] or [prompt, prompt]"
        )
    prompts = listed(prompts)
    if max_new_tokens and (start or any(isinstance(prompt, tuple) for prompt in prompts)):
        came = f"start={start}" if start else "a pair (prompt, answer)"
        raise ValueError(
            f"expected plain prompts with max_new_tokens > 0, got {came}; set max_new_tokens=0 to read given answers"
        )
    rows, starts = encode(model, tokenizer, prompts, start=start, chat=chat, room=max_new_tokens)
    run = _Generation(max_new_tokens) if max_new_tokens else _Reading()
    batches = [rows[i : i + batch_size] for i in range(0, len(rows), batch_size)]
    with watch(model, tokenizer=tokenizer, start=None if max_new_tokens else starts, also=also) as recorder:
        recorder.provenance.update(_provenance(max_new_tokens, chat, starts))
        for batch in bar(batches, desc="recording", progress=progress):
            run(model, batch)
    return recorder.trace()


def encode(
    model: PreTrainedModel,
    tokenizer: Any,
    prompts: str | Sequence[Prompt],
    *,
    start: int = 0,
    chat: bool = False,
    room: int = 0,
    fits: bool = True,
) -> tuple[list[list[int]], list[int]]:
    """Tokenize each prompt, and return the position where its decode part starts.

    Parameters
    ----------
    model, tokenizer, prompts, start, chat
        As for `record`; a list of token ids in place of a text is used as it is.
    room
        Tokens that must still fit into the context after each prompt.
    fits
        False accepts prompts that are longer than the context.

    Returns
    -------
    ids, starts
        One list of ids and one position per prompt.
    """
    prompts = listed(prompts)
    if chat and not getattr(tokenizer, "chat_template", None):
        raise ValueError(
            "expected a tokenizer with a chat template for chat=True, got one without; use chat=False and "
            "write the prompt in the form the model was trained on"
        )
    rows, starts = [], []
    for number, prompt in enumerate(prompts, 1):
        question, answer = prompt if isinstance(prompt, tuple) else (prompt, "")
        ids = _ids(tokenizer, question, chat)
        starts.append(len(ids) if isinstance(prompt, tuple) else start)
        ids = _with_answer(tokenizer, ids, question, answer) if answer else ids
        _check(ids, question, number, context(model) if fits else None, room)
        rows.append(ids)
    return rows, starts


def context(model: PreTrainedModel) -> int | None:
    """Tokens that fit into the model's context, or None where its configuration names no limit."""
    config = unwrapped(model).config.get_text_config()
    return getattr(config, "max_position_embeddings", None)


class _Reading:
    """One forward pass over the given texts, padded on the right, where causal attention cannot see it."""

    def __call__(self, model: PreTrainedModel, batch: list[list[int]]) -> None:
        ids, mask = padded(batch, "right", input_device(model))
        with torch.no_grad():
            model(input_ids=ids, attention_mask=mask, use_cache=False)


class _Generation:
    """Greedy decoding, until every sequence has ended."""

    def __init__(self, max_new_tokens: int) -> None:
        self.max_new_tokens = max_new_tokens

    def __call__(self, model: PreTrainedModel, batch: list[list[int]]) -> None:
        ends, open_ = end_ids(model), set(range(len(batch)))
        with torch.no_grad():
            for _, tokens in zip(range(self.max_new_tokens), steps(model, batch, greedy), strict=False):
                open_ -= {number for number, token in enumerate(tokens.tolist()) if token in ends}
                if not open_:
                    break


def listed(prompts: str | Iterable[Prompt]) -> list[Prompt]:
    """Prompts as a list, each a text or a pair; ValueError, with the prompt's number from 1, for anything else."""
    found: list[Prompt] = [prompts] if isinstance(prompts, str) else [*prompts]
    if not found:
        raise ValueError("expected at least one prompt, got none; pass a text or a list of texts")
    for number, prompt in enumerate(found, 1):
        pair = prompt if isinstance(prompt, tuple) else (prompt, "")
        if len(pair) != 2 or not all(_is_text(one) for one in pair):
            raise ValueError(
                f"expected prompts that are texts, lists of token ids or pairs of these, but prompt {number} is "
                f"{prompt!r}; correct it"
            )
        for text in pair:
            if isinstance(text, str) and (half := _HALF.search(text)):
                raise ValueError(
                    f"expected prompts of text that UTF-8 can hold, but prompt {number} has half of a character, "
                    f"{half.group()!r}, at place {half.start()}; remove it"
                )
    return found


def _is_text(given: Any) -> bool:
    """Whether something is a text or its ids; a list of texts is neither."""
    return isinstance(given, str) or (isinstance(given, Collection) and not any(isinstance(one, str) for one in given))


def _ids(tokenizer: Any, text: Text, chat: bool, **options: Any) -> list[int]:
    if not isinstance(text, str):
        return list(text)
    if not chat:
        return tokenizer(text, **options).input_ids
    turn = [{"role": "user", "content": text}]
    return tokenizer.apply_chat_template(turn, add_generation_prompt=True, return_dict=True)["input_ids"]


def _with_answer(tokenizer: Any, ids: list[int], question: Text, answer: Text) -> list[int]:
    """Ids of a prompt followed by those of its answer, as they are in running text.

    SentencePiece begins every text with a space, so an answer tokenized by itself would have one too many. Where one
    token spans the border, or the prompt is not plain text, the answer is tokenized by itself anyway.
    """
    if isinstance(question, str) and isinstance(answer, str):
        whole = _ids(tokenizer, question + answer, False)
        if len(whole) > len(ids) and whole[: len(ids)] == ids:
            return whole
    return ids + _ids(tokenizer, answer, False, add_special_tokens=False)


def _check(ids: list[int], text: Text, number: int, limit: int | None, room: int) -> None:
    if not ids or (isinstance(text, str) and not text.strip()):
        raise ValueError(f"expected prompts with text in them, but prompt {number} is empty; remove it")
    if limit is not None and len(ids) + room > limit:
        raise ValueError(
            f"expected prompts that fit into the model's context of {limit} tokens, but prompt {number} has "
            f"{len(ids)} tokens and {room} new ones are asked for; shorten it or ask for fewer"
        )


def _provenance(max_new_tokens: int, chat: bool, starts: list[int]) -> dict[str, Any]:
    if max_new_tokens:
        return {"mode": "generated", "max_new_tokens": max_new_tokens, "chat": chat}
    return {"mode": "teacher-forced", "start": starts[0] if len(set(starts)) == 1 else starts, "chat": chat}
