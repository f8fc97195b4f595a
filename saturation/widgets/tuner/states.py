"""What a tuner is asked, in which state its controls are, and what came of it: plain numbers and texts."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from ...policies import FFNSkip, Policy, RandomFFN, SkipRatios, StaticFFN, from_json
from ...tasks import Task

FFN, CAUSAL, STATIC, RANDOM, DENSE = RULES = (
    "FFN-SkipLLM",
    "causal FFN-SkipLLM",
    "static",
    "random",
    "dense",
)


@dataclass(frozen=True)
class Asked:
    """What every state of a tuner is measured on.

    Attributes
    ----------
    prompts
        Whose continuations are shown.
    task
        What quality is scored on; None where there are no references.
    max_new_tokens
        New tokens per prompt at most.
    chat
        Whether prompts are wrapped in the tokenizer's chat template.
    """

    prompts: tuple[str, ...]
    task: Task | None = None
    max_new_tokens: int = 48
    chat: bool = False


@dataclass(frozen=True)
class State:
    """Where the controls stand: the policy as JSON, "" for the dense model, and whether a chat template is applied."""

    rule: str
    json: str = ""
    chat: bool = False

    @classmethod
    def of(cls, policy: Policy | None, chat: bool = False) -> State:
        """The state whose policy this is."""
        return cls(DENSE, chat=chat) if policy is None else cls(rule_of(policy), policy.to_json(), chat)

    @property
    def dense(self) -> State:
        """The dense model's state, asked in the same way."""
        return State(DENSE, chat=self.chat)

    @property
    def key(self) -> str:
        """What tells a state from others that are asked in the same way."""
        return self.json or DENSE

    @cached_property
    def policy(self) -> Policy | None:
        """The policy itself."""
        return from_json(self.json) if self.json else None

    def describe(self) -> str:
        """A few words for a tooltip."""
        return DENSE if self.policy is None else self.policy.describe()


def rule_of(policy: Policy | None) -> str:
    """The entry of the policy menu to which a policy belongs."""
    if policy is None:
        return DENSE
    if isinstance(policy, FFNSkip):
        return CAUSAL if policy.causal else FFN
    if isinstance(policy, StaticFFN):
        return STATIC
    if isinstance(policy, RandomFFN):
        return RANDOM
    raise ValueError(
        f"expected a policy that the tuner has controls for, one of FFNSkip, StaticFFN and RandomFFN, got "
        f"{type(policy).__name__}; run it with saturation.generate and saturation.quality.evaluate"
    )


@dataclass(frozen=True)
class Passage:
    """What was written after one prompt.

    Attributes
    ----------
    ids
        The new tokens.
    pieces
        The text that each of them adds.
    skipped
        The layers whose FFN was left out in the pass that wrote each of them.
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
    """What a state gave.

    Attributes
    ----------
    state
        Whose result this is.
    passages
        One per prompt.
    predicted, actual
        The three skip ratios over the recorded trace, and over the passages.
    speed, ideal
        Decoded tokens per second at batch size 1, and the speed-up if time were the bytes of weights read.
    agreement
        Share of tokens that are the dense model's, with its interval over prompts.
    divergence
        Per prompt, the place of the first token that is not the dense model's; None where all are.
    collapsed
        Number of passages that loop.
    quality
        The task's score; None without references.
    loss
        Of the passages under the dense model, nats per token; None where there are none, or none was measured.
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
        """What a Pareto plot has along y: the quality, or the agreement where there are no references."""
        return self.quality or self.agreement
