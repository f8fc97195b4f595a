"""Conversations, decoded turn by turn: each answer becomes part of the next prompt."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pandas as pd

from ..policies import Policy
from ..recording import encode
from ..tasks import Example, Task
from .answers import answers

USER, ASSISTANT = "User:", "Assistant:"  # the plain form, for a tokenizer without a chat template
STOP = f"\n{USER}"  # where the model begins to write the user's next turn


def uses_chat(tokenizer: Any, task: Task, chat: bool | None) -> bool:
    """Whether prompts are wrapped in the chat template; None: those of conversations, where there is a template."""
    known = bool(getattr(tokenizer, "chat_template", None))
    if chat and not known:
        raise ValueError(
            "expected a tokenizer with a chat template for chat=True, got one without; use chat=False, which asks "
            f"conversations as '{USER} ...', '{ASSISTANT} ...'"
        )
    return task.score == "conversation" and known if chat is None else chat


def conversed(
    model: Any, tokenizer: Any, task: Task, policy: Policy | None, chat: bool, size: int, progress: bool
) -> pd.DataFrame:
    """Decode conversations, one row per turn; the same turn of all conversations is one batch."""
    replies: list[list[str]] = [[] for _ in task]
    tables = []
    for turn in range(1 + max(len(example.turns) for example in task)):
        places = [place for place, example in enumerate(task) if turn <= len(example.turns)]
        prompts = [asked(tokenizer, task.examples[place], replies[place], chat) for place in places]
        encode(model, tokenizer, prompts, room=task.max_new_tokens)  # raises where a history exceeds the context
        turns = [at_turn(task.examples[place], turn, chat) for place in places]
        table = answers(model, tokenizer, prompts, turns, task, policy, size, progress)
        for place, answer in zip(places, table["answer"], strict=True):
            replies[place].append(answer)
        own = [task.examples[place].id for place in places]
        tables.append(table.assign(conversation=own, turn=turn + 1, place=places))
    return pd.concat(tables).sort_values(["place", "turn"]).drop(columns="place").reset_index(drop=True)


def asked(tokenizer: Any, example: Example, replies: Sequence[str], chat: bool) -> list[int]:
    """Token ids of a conversation up to the next turn to answer."""
    if not chat:
        return tokenizer(transcript(example, replies)).input_ids
    told = messages(example, replies)
    return tokenizer.apply_chat_template(told, add_generation_prompt=True, return_dict=True)["input_ids"]


def messages(example: Example, replies: Sequence[str]) -> list[dict[str, str]]:
    """Messages for a chat template: each turn with its reply, then the open turn."""
    told: list[dict[str, str]] = []
    for user, reply in zip(_users(example), [*replies, None], strict=False):
        told.append({"role": "user", "content": user})
        if reply is not None:
            told.append({"role": "assistant", "content": reply})
    return told


def transcript(example: Example, replies: Sequence[str]) -> str:
    """The messages as plain lines of `User:` and `Assistant:`, the last line open."""
    *past, now = _users(example)[: len(replies) + 1]
    told = [f"{USER} {user}\n{ASSISTANT} {reply}\n" for user, reply in zip(past, replies, strict=True)]
    return "".join(told) + f"{USER} {now}\n{ASSISTANT}"


def at_turn(example: Example, turn: int, chat: bool) -> Example:
    """One turn, counted from 0, as an example with its reference reply, if any."""
    reply = example.replies[turn] if turn < len(example.replies) else ""
    return replace(
        example,
        id=f"{example.id}/{turn + 1}",
        prompt=_users(example)[turn],
        references=(reply,) if reply else (),
        stop=example.stop or ("" if chat else STOP),
    )


def histories(task: Task, rows: pd.DataFrame) -> list[tuple[Example, list[str]]]:
    """For each row of a run, its conversation and the run's earlier answers."""
    given = rows.sort_values("turn").groupby("conversation", sort=False)["answer"].agg(list)
    examples = {example.id: example for example in task}
    places = zip(rows["conversation"], rows["turn"], strict=True)
    return [(examples[name], given[name][: turn - 1]) for name, turn in places]


def _users(example: Example) -> tuple[str, ...]:
    return (example.prompt, *example.turns)
