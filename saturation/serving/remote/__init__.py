"""Modules that are laid beside exported weights: what transformers and vLLM need to know to read them."""
