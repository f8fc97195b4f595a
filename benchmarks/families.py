"""Every causal language model that transformers knows, tiny and random: does it work, or why is it refused?

`python -m benchmarks.families` writes data/families.md (minutes on two cores); names of types renew their rows alone.
"""

from __future__ import annotations

import copy
import re
import signal
import sys
import warnings
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from transformers import CONFIG_MAPPING, MODEL_FOR_CAUSAL_LM_MAPPING, PreTrainedModel, logging
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES as CAUSAL

import saturation as st
from saturation.anatomy import UnsupportedModel, find_blocks

TABLE = Path(__file__).resolve().parents[1] / "data" / "families.md"
SECONDS, PARAMETERS = 60, 150_000_000  # most that one type may take, in seconds of a processor
PADDING = 1e-4  # most that left padding may move a distance; float32 moves it by 1e-7

TINY: dict[str, Any] = {  # whichever of these a configuration has; heads x head_dim = hidden
    **dict.fromkeys(["hidden_size", "n_embd", "d_model", "dim", "embedding_size", "word_embed_proj_dim"], 32),
    **dict.fromkeys(["intermediate_size", "ffn_dim", "n_inner", "d_ff", "moe_intermediate_size"], 40),
    **dict.fromkeys(["shared_expert_intermediate_size", "ffn_hidden_size", "mlp_hidden_size"], 40),
    **dict.fromkeys(["num_hidden_layers", "n_layer", "num_layers", "n_layers", "decoder_layers", "encoder_layers"], 4),
    **dict.fromkeys(["num_attention_heads", "n_head", "num_heads", "n_heads", "decoder_attention_heads"], 4),
    **dict.fromkeys(["num_key_value_heads", "n_kv_heads"], 2),
    **dict.fromkeys(["max_position_embeddings", "n_positions", "max_sequence_length"], 64),
    **dict.fromkeys(["num_experts", "num_local_experts", "n_routed_experts", "moe_num_experts"], 4),
    **dict.fromkeys(["num_experts_per_tok", "top_k_experts", "moe_topk"], 2),
    **dict.fromkeys(["q_lora_rank", "kv_lora_rank", "qk_nope_head_dim", "v_head_dim"], 16),
    **dict.fromkeys(["n_group", "topk_group", "n_shared_experts"], 1),
    "hidden_size_per_layer_input": 8,
    **dict.fromkeys(["vocab_size", "vocab_size_per_layer_input"], 99),
    "attn_layer_offset": 1,
    "attn_layer_period": 2,
    "attention_types": [[["global", "local"], 2]],
    "decoder_ffn_dim": 40,
    "head_dim": 8,
    "qk_rope_head_dim": 8,
    "rotary_dim": 4,
    "sliding_window": 16,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "is_decoder": True,
}
_MIXED = ["linear_attention", "full_attention"] * 2
_LLAMA = {"hidden_size": 32, "intermediate_size": 40, "num_hidden_layers": 2, "num_attention_heads": 4}
_EXPERTS = {"num_local_experts": 4, "num_experts_per_tok": 2, "n_group": 1, "n_shared_experts": 1}
_INDEXED = {
    "indexer_n_heads": 1,
    "indexer_kv_heads": 1,
    "indexer_head_dim": 8,
    "indexer_budget": 32,
    "indexer_compress_ratio": 4,
    "ngram_vocab_size_base": 99,
    "layer_types": _MIXED,
}
_ROPE = {"rope_type": "default", "rope_theta": 1e4, "mrope_section": [2, 1, 1]}
OWN: dict[str, dict[str, Any]] = {  # what single types need besides
    "bamba": {"mamba_n_heads": 4, "mamba_d_head": 16, "attn_layer_indices": [0, 2]},
    "granitemoeshared": {"shared_intermediate_size": 24},
    "granitemoehybrid": {"mamba_n_heads": 4, "mamba_d_head": 16, "layer_types": ["attention", "mamba"] * 2},
    "ernie4_5_moe": {"moe_k": 2},
    "gemma3n_text": {"num_kv_shared_layers": 0, "layer_types": ["sliding_attention", "full_attention"] * 2},
    "lfm2_moe": {"layer_types": ["conv", "full_attention"] * 2},
    "zaya": {"num_experts_per_tok": 1},
    "reformer": {"axial_pos_embds_dim": [16, 16]},
    "bailing_hybrid": {"layer_types": _MIXED, **_EXPERTS},
    "cohere_compass_text": {
        "layer_types": ["sliding_attention", "full_attention"] * 2,
        "rope_parameters": {"sliding_attention": _ROPE, "full_attention": _ROPE},
    },
    "dbrx": {
        "attn_config": {"kv_n_heads": 2, "rope_theta": 1e4, "clip_qkv": 8.0},
        "ffn_config": {"hidden_size": 32, "ffn_hidden_size": 40, "moe_num_experts": 4, "moe_top_k": 2},
    },
    "dots3_note": {"vision_config": {"adapter_out_dim": 32}},
    "kimi_linear": {"layer_types": _MIXED, **_EXPERTS, "linear_head_dim": 8, "linear_num_heads": 4},
    "nemotron_h": {
        "layer_types": ["linear_attention", "mlp", "full_attention", "moe", "linear_attention", "mlp"],
        "mamba_num_heads": 4,
        "mamba_head_dim": 16,
        "ssm_state_size": 16,
        "n_groups": 1,
        "moe_shared_expert_intermediate_size": 24,
    },
    "mamba2": {"num_heads": 8, "head_dim": 8, "n_groups": 1, "state_size": 16},
    "moss_transcribe_diarize": {"audio_config": _LLAMA},
    "phi4_multimodal": {
        "vision_config": {**_LLAMA, "image_size": 28},
        "audio_config": {**_LLAMA, "num_blocks": 1, "ext_pw_out_channel": 32, "nemo_conv_channels": 32},
    },
    "qwen4_exp": _INDEXED,
    "qwen4_exp_text": _INDEXED,
    "xlm": {"emb_dim": 32, "causal": True},
    "xlstm": {"hidden_size": 128},
    "xmod": {"default_language": "en_XX"},
    "zamba": {"layers_block_type": ["linear_attention", "hybrid"] * 2},
    "zamba2": {"layers_block_type": ["linear_attention", "hybrid"] * 2, "n_mamba_heads": 4},
}
FACTS = {  # why some cannot be built by themselves
    "blt": "transformers 5.23 cannot make its KV cache: BltConfig has no num_hidden_layers",
    "gemma3n": "its vision tower is built by the package timm, which is none of ours; its text decoder is gemma3n_text",
    "gemma4_assistant": "it reads the keys and values of the model that it assists, and cannot run by itself",
    "gemma4_unified_assistant": "it reads the keys and values of the model that it assists, and cannot run by itself",
    **dict.fromkeys(["musicgen", "musicgen_melody"], "it writes audio codes by a `generate` of its own, with guidance"),
}


class Letters:
    """A tokenizer of one-letter words, enough for `saturation.generate`."""

    chat_template = None

    def __call__(self, text: str, **_: Any) -> SimpleNamespace:
        return SimpleNamespace(input_ids=[3 + ord(word) - ord("a") for word in text.split()])

    def convert_ids_to_tokens(self, number: int) -> str:
        return str(number)

    def convert_tokens_to_string(self, pieces: list[str]) -> str:
        return " ".join(pieces)

    def decode(self, ids: list[int], **_: Any) -> str:
        return " ".join(map(str, ids))


def build(kind: str) -> PreTrainedModel:
    """A tiny model of the type with weights large enough that every block matters."""
    known = CONFIG_MAPPING[kind]
    if kind in FACTS:
        raise NotImplementedError(FACTS[kind])
    made = MODEL_FOR_CAUSAL_LM_MAPPING[known]
    known = made.config_class or known  # MusicGen's of the decoder alone
    default = known()
    sizes, own = _fitting(default, default.get_text_config()), dict(OWN.get(kind, {}))
    if "text_config" in sizes and "text_config" in own:
        own["text_config"] = sizes["text_config"] | own["text_config"]
    config = known(**sizes | own)
    with torch.device("meta"):
        size = sum(p.numel() for p in made(config).parameters())
    if size > PARAMETERS:
        raise MemoryError(f"{size / 1e6:.0f} million parameters even so")
    torch.manual_seed(0)
    model = made(config).float()
    for parameter in model.parameters():
        if parameter.ndim > 1:
            torch.nn.init.normal_(parameter, std=0.6 / parameter.shape[-1] ** 0.5)
    for name, number in model.named_buffers():
        if name.endswith("layer_scalar"):  # Gemma 4's, 1 until it is trained
            number.fill_(0.6)
    model.eval().requires_grad_(False)
    with torch.no_grad():
        model(torch.tensor([[5, 6, 7, 8]]))  # a type that cannot do these says nothing about us
        model.generate(torch.tensor([[5, 6, 7, 8]]), max_new_tokens=2, do_sample=False, pad_token_id=0)
    return model


def _fitting(default: Any, text: Any) -> dict[str, Any]:
    """The tiny sizes that a configuration knows; a nested text configuration gets its own."""
    known = text.to_dict()
    sizes = {name: value for name, value in TINY.items() if name in known}
    if "kv_lora_rank" in known:  # latent attention has as many key as query heads
        sizes["num_key_value_heads"] = sizes["num_attention_heads"]
    return sizes if text is default else {"text_config": type(text)(**sizes).to_dict()}


def verdict(kind: str) -> tuple[str, str]:
    """Status and detail of one type."""
    try:
        with _time_limit():
            model = build(kind)
    except Exception as error:
        return "not built", _line(error)
    try:
        with _time_limit(), torch.no_grad():
            return _checked(model)
    except UnsupportedModel as error:
        reason = str(error)
        return "refused", reason[reason.find(": ") + 2 :].split("; this family")[0] if ": " in reason else reason
    except Exception as error:
        return "wrong", f"{type(error).__name__}: {_line(error)}"


def _checked(model: PreTrainedModel) -> tuple[str, str]:
    """Laws 1, 2, 4 and 10 on one model."""
    ids = torch.tensor([[5, 6, 7, 8, 9, 10, 11], [20, 21, 22, 23, 24, 25, 26]])
    blocks = find_blocks(model)
    dense = model(ids).logits
    with st.recording.watch(model):
        recorded = model(ids).logits
    with st.skip(model, st.FFNSkip(None)):
        never = model(ids).logits
    middle = len(blocks) // 2
    with st.skip(model, st.StaticFFN((middle,), sink=0)):
        without = model(ids).logits
    silent = copy.deepcopy(model)
    for module in find_blocks(silent)[middle].modules:
        for parameter in module.parameters():
            parameter.zero_()
    policy = st.FFNSkip(0.7, warmup=1)
    runs = st.generate(model, Letters(), ["a b c", "d e f g h"], policy=policy, max_new_tokens=6, progress=False)
    broken = [
        name
        for name, holds in {
            "recording changes the logits": torch.equal(dense, recorded),
            "a policy that never skips changes the logits": torch.equal(dense, never),
            "skipping differs from an FFN that adds zero": torch.allclose(
                without, silent(ids).logits, rtol=1e-4, atol=1e-4
            ),
            "skipping changes nothing": not torch.equal(dense, without),
            "replay differs from the run": np.array_equal(st.replay(policy, runs.trace).skipped, runs.ledger.skipped),
        }.items()
        if not holds
    ]
    if broken:
        return "wrong", "; ".join(broken)
    names = {id(child): name for name, child in blocks[middle].layer.named_children()}
    chain = ", ".join(f"`{names[id(module)]}`" for module in blocks[middle].modules)
    said = ("parallel: " if blocks[middle].parallel else "") + chain
    return "works", said if _padded_alike(model) else said + "; **not left-padded**"


def _padded_alike(model: PreTrainedModel) -> bool:
    """Law 9: prompts of two lengths, written on in one batch, are measured as each by itself."""
    texts = ["a b c", "d e f g h"]
    together, alone = (
        st.record(model, Letters(), texts, max_new_tokens=4, batch_size=size, progress=False) for size in (2, 1)
    )
    return np.allclose(together.distance, alone.distance, rtol=0, atol=PADDING)


@contextmanager
def _time_limit() -> Iterator[None]:
    def stop(*_: Any) -> None:
        raise TimeoutError(f"took longer than {SECONDS} s")

    before = signal.signal(signal.SIGPROF, stop)
    signal.setitimer(signal.ITIMER_PROF, SECONDS)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, before)


def _line(error: BaseException) -> str:
    text = " ".join(str(error).split()) or type(error).__name__
    return (text if len(text) < 140 else text[:137] + "...").replace("|", "/")


def rows() -> dict[str, tuple[str, str]]:
    """The verdicts that stand in the table."""
    found = re.findall(r"^\| `(\S+)` \| ([\w ]+) \| (.*) \|$", TABLE.read_text(encoding="utf-8"), re.MULTILINE)
    return {kind: (status, detail) for kind, status, detail in found}


def page(verdicts: dict[str, tuple[str, str]]) -> str:
    """The table in Markdown."""
    counts = Counter(status for status, _ in verdicts.values())
    rows = [f"| `{kind}` | {status} | {detail} |" for kind, (status, detail) in sorted(verdicts.items())]
    return "\n".join(
        [
            "# Which models work",
            "",
            f"Every type in transformers {version('transformers')} that AutoModelForCausalLM builds, as a tiny random "
            "model: " + ", ".join(f"{count} {status}" for status, count in counts.most_common()) + ".",
            "",
            "- **works**: recording and a policy that never skips leave the logits bit-identical, skipping one FFN "
            "equals a model whose FFN there adds zero, and the replay of a skipping run in padded batches reproduces "
            "it. Named are the modules of a middle layer that make up its FFN.",
            "- **not left-padded**: works, but transformers' own model gives a prompt that is padded on the left other "
            "values than the prompt alone, so prompts of unequal length are written on with `batch_size=1`. Given "
            "texts are padded on the right and may be batched.",
            "- **refused**: `find_blocks` says why; nothing is measured rather than something wrong.",
            "- **not built**: it does not run by itself, so that nothing is known; the reason is the type's own.",
            "",
            "Made by `python -m benchmarks.families`.",
            "",
            "| type | | feed-forward block, or reason |",
            "|---|---|---|",
            *rows,
            "",
        ]
    )


def main() -> None:
    logging.set_verbosity_error()
    warnings.filterwarnings("ignore")
    asked = sys.argv[1:]
    verdicts = rows() if asked else {}
    for kind in asked or sorted(CAUSAL):
        verdicts[kind] = verdict(kind)
        print(kind, *verdicts[kind], flush=True)
    TABLE.write_text(page(verdicts), encoding="utf-8")
    print(f"written: {TABLE}")


if __name__ == "__main__":
    main()
