"""Configuration of a LLaMA whose layers differ: some have no feed-forward block, or a narrower one."""

from typing import Any

from transformers import LlamaConfig


class Part(dict[str, Any]):
    """Settings of one sublayer, read as attributes and saved as JSON."""

    def __getattr__(self, name: str) -> Any:
        try:
            return self[name]
        except KeyError:
            raise AttributeError(name) from None


class DeciLMConfig(LlamaConfig):
    """`block_configs` says for every layer what its attention and its FFN are."""

    model_type = "nemotron-nas"

    def __init__(self, block_configs: Any = None, **named: Any) -> None:
        super().__init__(**named)
        self.block_configs = [Part({name: Part(part) for name, part in block.items()}) for block in block_configs or ()]
