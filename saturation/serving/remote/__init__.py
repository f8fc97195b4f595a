"""Modules saved beside exported weights, with which transformers and vLLM read them."""
