"""The data of a tuner: what it is asked, the states of its controls, and their results, as plain numbers and texts."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property

from ...policies import Arrays, FFNSkip, Policy, RandomFFN, RoutedFFN, SkipRatios, StaticFFN, TokenFFN, from_json
from ...policies.serialization import arrays_of
from ...tasks import Task

FFN, CAUSAL, STATIC, RANDOM, DENSE = RULES = (
    "FFN-SkipLLM",
    "causal FFN-SkipLLM",
    "static",
    "random",
    "dense",
)
TOKEN, ROUTER = FITTED = ("token table", "router")  # in the menu once such a policy was fitted


@dataclass(frozen=True)
class Asked:
    """The prompts and the task that every state of a tuner is measured on.

    Attributes
    ----------
    prompts
        Prompts whose continuations are shown.
    task
        Task that measures quality; None without references.
    max_new_tokens
        Maximum number of new tokens per prompt.
    chat
        Whether prompts are wrapped in the tokenizer's chat template.
    """

    prompts: tuple[str, ...]
    task: Task | None = None
    max_new_tokens: int = 48
    chat: bool = False


@dataclass(frozen=True)
class State:
    """A state of the controls: the policy as JSON, "" for the dense model, and whether a chat template is applied.

    JSON names the arrays of a fitted policy by their hash, so `arrays` is not compared.
    """

    rule: str
    json: str = ""
    chat: bool = False
    arrays: tuple[Arrays, ...] = field(default=(), compare=False, repr=False)

    @classmethod
    def of(cls, policy: Policy | None, chat: bool = False) -> State:
        """The state of a policy."""
        if policy is None:
            return cls(DENSE, chat=chat)
        return cls(rule_of(policy), policy.to_json(), chat, tuple(arrays_of(policy)))

    @property
    def dense(self) -> State:
        """The dense model's state with the same use of the chat template."""
        return State(DENSE, chat=self.chat)

    @property
    def key(self) -> str:
        """A text that identifies the state among those with the same use of the chat template."""
        return self.json or DENSE

    @cached_property
    def policy(self) -> Policy | None:
        """The policy; None for the dense model."""
        return from_json(self.json, self.arrays) if self.json else None

    def describe(self) -> str:
        """A few words for a tooltip."""
        return DENSE if self.policy is None else self.policy.describe()


def rule_of(policy: Policy | None) -> str:
    """The entry of the policy menu for a policy; ValueError for a policy without controls."""
    if policy is None:
        return DENSE
    if isinstance(policy, FFNSkip):
        return CAUSAL if policy.causal else FFN
    if isinstance(policy, StaticFFN):
        return STATIC
    if isinstance(policy, RandomFFN):
        return RANDOM
    if isinstance(policy, TokenFFN | RoutedFFN):
        return TOKEN if isinstance(policy, TokenFFN) else ROUTER
    raise ValueError(
        f"expected a policy that the tuner has controls for, one of FFNSkip, StaticFFN, RandomFFN, TokenFFN "
        f"and RoutedFFN, got {type(policy).__name__}; run it with saturation.generate and saturation.quality.evaluate"
    )


@dataclass(frozen=True)
class Passage:
    """The text generated after one prompt.

    Attributes
    ----------
    ids
        The new tokens.
    pieces
        The text that each token adds.
    skipped
        For each token, the layers whose FFN was skipped in the pass that wrote it.
    """

    ids: tuple[int, ...] = ()
    pieces: tuple[str, ...] = ()
    skipped: tuple[tuple[int, ...], ...] = ()

    @property
    def text(self) -> str:
        """The new text."""
        return "".join(self.pieces)


@dataclass(frozen=True)
class Score:
    """A mean with its number of examples and its interval."""

    name: str
    n: int
    mean: float
    low: float
    high: float


@dataclass(frozen=True)
class Result:
    """The measurements of a state.

    Attributes
    ----------
    state
        The measured state.
    passages
        One per prompt.
    predicted, actual
        The three skip ratios over the recorded trace, and over the passages.
    speed, ideal
        Decoded tokens per second at batch size 1, and the speed-up if time were proportional to the bytes of weights
        read.
    agreement
        Share of tokens equal to the dense model's, with its interval over prompts.
    divergence
        Per prompt, the index of the first token that differs from the dense model's; None where all are equal.
    collapsed
        Number of passages that loop.
    quality
        The task's score; None without references.
    loss
        Loss of the passages under the dense model, nats per token; None without new tokens, or where not measured.
    """

    state: State
    passages: tuple[Passage, ...]
    predicted: SkipRatios
    actual: SkipRatios
    speed: float
    ideal: float
    agreement: Score
    divergence: tuple[int | None, ...]
    collapsed: int
    quality: Score | None = None
    loss: float | None = None

    @property
    def ordinate(self) -> Score:
        """The score on the y axis of a Pareto plot: the quality, or the agreement without references."""
        return self.quality or self.agreement
