"""Where the feed-forward block sits in a decoder layer, found by tracing one tiny forward pass.

There is no table of architectures. The direct children of a decoder layer are watched while it runs once; a child
that is handed a cache, a mask or positions mixes tokens (attention), the others are linked where one's output is
the next one's input, and the link that carries the most weights is the FFN together with its norms. What was found
is then *proved* on the same tensors: the layer must give the same bits when the FFN is run through one closure, and
must return exactly the residual stream when the FFN adds zero. A layer that fails is refused with the reason.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from .patching import Hooks, patched

MIXES_TOKENS = ("cache", "past", "mask", "position", "alibi", "state")  # in the names of a mixer's arguments


class UnsupportedModel(ValueError):
    """The model has no feed-forward block that can be watched and skipped; the message says why."""


@dataclass(frozen=True, eq=False)
class Block:
    """The feed-forward block of one decoder layer.

    Attributes
    ----------
    index
        Number of the layer, from 0.
    layer
        The decoder layer.
    chain
        Children of the layer that make up the FFN with its own norms, in the order they run.
    source
        The module whose output is what the FFN adds (the last of the chain, or a part of it).
    multiplier
        Factor between the source's output and what reaches the residual stream (Granite's residual_multiplier).
    parallel
        True where attention and FFN read the same input and are added together.
    adds_residual
        True where the last module of the chain is handed the residual stream and returns the sum (BLOOM).
    overwritten
        True where the layer changes the FFN's output in place after it was returned (Falcon).
    outputs
        Length of the tuple that the FFN returns (router scores come second); 0 where it is one tensor.
    """

    index: int
    layer: nn.Module
    chain: tuple[nn.Module, ...]
    source: nn.Module
    multiplier: float = 1.0
    parallel: bool = False
    adds_residual: bool = False
    overwritten: bool = False
    outputs: int = 0

    def nothing(self, x: Tensor) -> Any:
        """What the FFN returns when it adds nothing to x [..., hidden], in the form its layer expects."""
        output = x.clone() if self.adds_residual else torch.zeros_like(x)
        return (output, *[None] * (self.outputs - 1)) if self.outputs else output


def first(output: Any) -> Any:
    """The tensor of a module's output that goes on (some return tuples: router scores, attention weights)."""
    return output[0] if isinstance(output, tuple | list) else output


def find_blocks(model: PreTrainedModel) -> tuple[Block, ...]:
    """Find the feed-forward block of every decoder layer.

    Parameters
    ----------
    model
        A causal language model of transformers, in eval mode.

    Returns
    -------
    tuple of Block
        One per decoder layer, in order. Cached for as long as the model keeps the same modules.

    Raises
    ------
    UnsupportedModel
        With the reason: not a causal language model, no decoder layers, or a layer whose FFN is not simply added.
    """
    with _FINDING:  # one trace at a time: two would take each other's calls for their own
        known = _BLOCKS.get(model)
        if known and all(block.chain[-1] in block.layer.modules() for block in known):
            return known
        return _found(model)


def _found(model: PreTrainedModel) -> tuple[Block, ...]:
    layers = decoder_layers(model)
    _BLOCKS[model] = blocks = tuple(
        _find_block(model, index, layer, call)
        for index, (layer, call) in enumerate(zip(layers, _calls_of_layers(model, layers), strict=True))
    )
    if len({block.parallel for block in blocks}) > 1:
        odd = next(block.index for block in blocks if block.parallel != blocks[0].parallel)
        raise _refusal(model, odd, "it is parallel to attention and others are not, or the other way round")
    return blocks


_BLOCKS: WeakKeyDictionary[PreTrainedModel, tuple[Block, ...]] = WeakKeyDictionary()
_FINDING = threading.RLock()


def decoder_layers(model: PreTrainedModel) -> list[nn.Module]:
    """The decoder layers of a causal language model, in order; raises UnsupportedModel where there are none."""
    config = getattr(model, "config", None)
    kind = getattr(config, "model_type", type(model).__name__)
    if config is None or config.is_encoder_decoder or not model.can_generate():
        raise UnsupportedModel(
            f"expected a causal language model (a decoder, as AutoModelForCausalLM loads it), got {kind!r} "
            f"({type(model).__name__}), which does not generate token by token from its own past; "
            "load a decoder such as a Llama, Qwen or GPT model"
        )
    if model.training:
        raise ValueError(
            "expected a model in eval mode, got one in training mode, where dropout would make every "
            "measurement random; call model.eval() first"
        )
    depth = getattr(config.get_text_config(), "num_hidden_layers", None)
    lists = (module for module in model.modules() if isinstance(module, nn.ModuleList))
    stacks = [stack for stack in lists if len(stack) == depth]
    if not stacks:
        raise UnsupportedModel(
            f"expected a stack of {depth} decoder layers (one nn.ModuleList, as config.num_hidden_layers "
            f"says), found none in {type(model).__name__} ({kind!r}); this model cannot be watched or skipped"
        )
    return list(max(stacks, key=lambda stack: sum(map(_weight, stack))))


def input_device(model: PreTrainedModel) -> torch.device:
    """Where the model expects its token ids, also when it is spread over devices."""
    table: Any = model.get_input_embeddings()
    device = next(table.parameters()).device
    if device.type == "meta":  # offloaded: accelerate brings the weights to its execution device
        device = torch.device(table._hf_hook.execution_device)
    return device


# --- one tiny forward, watched ---------------------------------------------------------------------------------


@dataclass(eq=False)
class _Call:
    """One call of a module: what went in, by position and by name, and the tensor that came out."""

    module: nn.Module
    args: tuple[Any, ...]
    named: dict[str, Any]
    output: Any = None

    @property
    def input(self) -> Any:
        return self.args[0] if self.args else self.named.get("hidden_states")

    @property
    def mixes(self) -> bool:
        names = [name for name in self.named if name != "hidden_states"]
        return any(mark in name for name in names for mark in MIXES_TOKENS)


@contextmanager
def _watched(modules: list[nn.Module]) -> Iterator[list[_Call]]:
    """Collect every call of the modules, in the order in which they finish."""
    calls: list[_Call] = []

    def keep(module: nn.Module, args: tuple[Any, ...], named: dict[str, Any], output: Any) -> None:
        calls.append(_Call(module, args, named, first(output)))

    hooks = Hooks()
    with hooks.held():
        for module in modules:
            hooks.after(module, keep)
        yield calls


def _calls_of_layers(model: PreTrainedModel, layers: list[nn.Module]) -> list[_Call]:
    """How each decoder layer is called when the model reads four tokens."""
    ids = torch.tensor([[1, 2, 3, 4]], device=input_device(model)) % model.config.get_text_config().vocab_size
    with torch.no_grad(), _watched(layers) as calls:
        model(input_ids=ids, use_cache=False)
    by_layer = {id(call.module): call for call in calls}
    if missing := [index for index, layer in enumerate(layers) if id(layer) not in by_layer]:
        raise _refusal(model, missing[0], "the forward pass does not call it")
    return [by_layer[id(layer)] for layer in layers]


def _find_block(model: PreTrainedModel, index: int, layer: nn.Module, call: _Call) -> Block:
    try:
        with torch.no_grad():
            return _traced(model, index, layer, call)
    except (RuntimeError, TypeError, AttributeError, AssertionError, LookupError) as error:
        said = " ".join(str(error).split())[:120] or type(error).__name__
        raise _refusal(model, index, f"it cannot be run by itself, as it must be to be proved ({said})") from error


def _traced(model: PreTrainedModel, index: int, layer: nn.Module, call: _Call) -> Block:
    with _watched(list(layer.children())) as calls:
        output = _copy(first(layer(*call.args, **call.named)))
    if not bool(output.isfinite().all()):
        raise ValueError(
            f"expected finite activations, but layer {index} of {type(model).__name__} gives infinity or NaN for "
            "token 1 to 4 already; check its weights, and its dtype (float16 overflows where bfloat16 does not)"
        )
    chain = _heaviest_chain(calls)
    if not chain:
        raise _refusal(model, index, "no part of it reads single tokens and carries weights")
    return _prove(model, Block(index, layer, chain, chain[-1]), call, output)


def _heaviest_chain(calls: list[_Call]) -> tuple[nn.Module, ...]:
    """The linked calls around the heaviest part that does not mix tokens."""
    runs = Counter(call.module for call in calls)  # a dropout that serves attention too is no part of the FFN
    free = [c for c in calls if not c.mixes and torch.is_tensor(c.input) and runs[c.module] == 1]
    heaviest = max(free, key=lambda call: _weight(call.module), default=None)
    if heaviest is None or _weight(heaviest.module) == 0:
        return ()
    chain = [heaviest]
    while (after := _readers(calls, chain[-1])) and len(after) == 1 and after[0] in free:
        chain.append(after[0])
    while (before := _writer(free, chain[0])) and len(_readers(calls, before)) == 1:
        chain.insert(0, before)
    return tuple(call.module for call in chain)


def _readers(calls: list[_Call], writer: _Call) -> list[_Call]:
    return [call for call in calls if call is not writer and _same(call.input, writer.output)]


def _writer(calls: list[_Call], reader: _Call) -> _Call | None:
    return next((call for call in calls if call is not reader and _same(call.output, reader.input)), None)


# --- and the proof ---------------------------------------------------------------------------------------------


def _prove(model: PreTrainedModel, block: Block, call: _Call, output: Tensor) -> Block:
    """Complete the block from the layer's behaviour on the traced input, or refuse it."""

    def layer(replacement: Callable[..., Any]) -> Tensor:
        with patched(collapsed(block, replacement)):
            return first(block.layer(*call.args, **call.named))

    seen: dict[str, Any] = {}

    def spy(x: Tensor, *extra: Any, run: Callable[..., Any], **named: Any) -> Any:
        with _watched([*block.chain[-1].modules()]) as parts:
            seen["added"] = run(x, *extra, **named)
        seen.update(x=x, parts=parts, copy=_copy(first(seen["added"])))
        seen["residual"] = any(_same(argument, x) for argument in (*extra, *named.values()))
        return seen["added"]

    if not torch.equal(layer(spy), output):
        raise _refusal(model, block.index, "running its feed-forward part as one piece changes its output")
    x, delta, source = seen["x"], seen["copy"], block.chain[-1]
    if seen["residual"]:
        found = [part for part in seen["parts"] if part.module is not source and _adds(x, part.output, delta)]
        if not found:
            raise _refusal(model, block.index, "its feed-forward part adds the residual stream by itself")
        source, delta = found[-1].module, found[-1].output
    added = seen["added"]
    block = replace(
        block,
        source=source,
        adds_residual=seen["residual"],
        overwritten=not torch.equal(first(added), seen["copy"]),
        outputs=len(added) if isinstance(added, tuple | list) else 0,
    )
    without = layer(lambda x, *_, run, **__: block.nothing(x))
    parallel = not torch.equal(without.reshape(x.shape), x)
    multiplier = _multiplier(block.layer, without, output, delta)
    if multiplier is None or (parallel and not _reads_layer_input(call, x, block)):
        raise _refusal(model, block.index, "its feed-forward output is not simply added to the residual stream")
    return replace(block, multiplier=multiplier, parallel=parallel)


def collapsed(
    block: Block, replacement: Callable[..., Any], scope: object = True
) -> dict[nn.Module, Callable[..., Any]]:
    """Forwards for `patched` under which the whole FFN of a layer runs as one call, where its chain ends.

    Parameters
    ----------
    block
        The feed-forward block.
    replacement
        Called as ``replacement(x, *extra, run=run, **named)`` with the FFN's input x [..., hidden] and what the
        layer hands to the last module besides; ``run`` is the FFN itself.
    scope
        While it is false the modules do what they did before.
    """
    originals = [module.forward for module in block.chain]

    def run(x: Tensor, *extra: Any, **named: Any) -> Any:
        for forward in originals[:-1]:
            x = first(forward(x))
        return originals[-1](x, *extra, **named)

    def end(x: Tensor, *extra: Any, **named: Any) -> Any:
        return replacement(x, *extra, run=run, **named)

    def gated(inside: Callable[..., Any], outside: Callable[..., Any]) -> Callable[..., Any]:
        return lambda *args, **named: (inside if scope else outside)(*args, **named)

    insides = [_pass_on] * (len(originals) - 1) + [end]
    return dict(zip(block.chain, map(gated, insides, originals), strict=True))


def _pass_on(x: Tensor, *_: Any, **__: Any) -> Tensor:
    return x


def _multiplier(layer: nn.Module, without: Tensor, output: Tensor, delta: Tensor) -> float | None:
    """The factor m of output = without + m * delta, or None where there is none."""
    delta, moved = delta.flatten().double(), (output.double() - without.double()).flatten()
    if not delta.any():
        return 1.0 if not moved.any() else None
    factor = float(moved @ delta / (delta @ delta))
    slack = 8 * torch.finfo(output.dtype).eps * float(output.double().abs().max())
    if float((moved - factor * delta).abs().max()) > slack:
        return None
    known = [1.0, *(value for value in vars(layer).values() if isinstance(value, float))]
    nearest = min(known, key=lambda value: abs(value - factor))
    return nearest if abs(nearest - factor) < 0.02 * abs(factor) else factor


def _reads_layer_input(call: _Call, x: Tensor, block: Block) -> bool:
    """Whether the FFN's input x is the layer's input, or a norm of it that attention shares."""
    if _same(x, call.input):
        return True
    with _watched([child for child in block.layer.children() if child not in block.chain]) as calls:
        block.layer(*call.args, **call.named)
    return any(_same(part.input, call.input) and torch.equal(part.output, x) for part in calls if not part.mixes)


def _adds(x: Tensor, part: Any, total: Tensor) -> bool:
    return torch.is_tensor(part) and part.shape == x.shape and torch.equal(x + part, total)


def _same(one: Any, other: Any) -> bool:
    """Whether two tensors are the same memory (views of one another count)."""
    if not (torch.is_tensor(one) and torch.is_tensor(other)):
        return False
    return one.data_ptr() == other.data_ptr() and one.numel() == other.numel()


def _copy(tensor: Tensor) -> Tensor:
    return tensor.clone()


def _weight(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters() if parameter.ndim > 1)


def _refusal(model: PreTrainedModel, index: int, reason: str) -> UnsupportedModel:
    kind = model.config.model_type
    return UnsupportedModel(
        f"expected decoder layers whose feed-forward output is added to the residual stream, but in layer "
        f"{index} of {type(model).__name__} ({kind!r}): {reason}; this family is not supported"
    )
