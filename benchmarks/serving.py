"""What llama.cpp makes of an exported model: tokens a second with 10, 20 and 30 % of the FFNs gone, beside dense.

The model is SmolLM2 as the package index has it (Q4_1). Decoding alone is timed, by llama.cpp itself. The ideal is the
ratio of the bytes of weights, all of which are read for every token (the embedding is the head too). The layers are
the middle ones: which they are matters for the text, not for the time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import pandas as pd

import saturation as st
from saturation.loading import fetch_gguf

from .interleave import interleave, quartiles

MODEL, LAYERS, TOKENS = "smollm2", 30, 48
SHARES = {"10 %": 3, "20 %": 6, "30 %": 9}  # of 30 feed-forward blocks


def speeds(rounds: int = 20) -> pd.DataFrame:
    """Realised against ideal speed-up, on one thread and on two."""
    source = fetch_gguf(MODEL)
    rows = []
    with TemporaryDirectory() as folder:
        done = {}
        for name, count in SHARES.items():
            begin = (LAYERS - count) // 2
            policy = st.StaticFFN(tuple(range(begin, begin + count)), sink=0)
            done[name] = st.export(source, policy, Path(folder) / f"{count}.gguf")
        for threads in (1, 2):
            files = {"dense": source, **{name: each.path for name, each in done.items()}}
            with _served(files, threads) as work:
                seconds = interleave(work, rounds)
            for name, each in done.items():
                ideal = each.before / each.after
                low, middle, high = (quartiles(seconds["dense"] / seconds[name])[place] for place in (1, 0, 2))
                rows.append(
                    {
                        "threads": threads,
                        "FFNs gone": name,
                        "dense, tokens a second": TOKENS / seconds["dense"].median(),
                        "ideal": f"{ideal:.3f}",
                        "speed-up": f"{middle:.3f}",
                        "quartiles": f"{low:.3f} to {high:.3f}",
                        "share of the saving": (1 - 1 / middle) / (1 - 1 / ideal),
                    }
                )
    table = pd.DataFrame(rows)
    table.attrs["notes"] = [f"{MODEL}, Q4_1, batch 1, {TOKENS} tokens decoded by llama.cpp in each of {rounds} rounds"]
    return table


@contextmanager
def _served(files: dict[str, Path], threads: int) -> Iterator[dict[str, Callable[[], object]]]:
    """A server for each file; work that gives the seconds of decoding, by the engine's own clock."""
    import xllamacpp

    servers = {}
    for name, path in files.items():
        given = xllamacpp.CommonParams()
        given.model.path, given.n_ctx, given.n_parallel, given.verbosity = str(path), 256, 1, 0
        given.cpuparams.n_threads = given.cpuparams_batch.n_threads = threads
        servers[name] = xllamacpp.Server(given)
    yield {name: partial(_decoded, server) for name, server in servers.items()}
    servers.clear()


def _decoded(server: object) -> float:
    asked = {"prompt": "Once upon a time", "n_predict": TOKENS, "temperature": 0, "ignore_eos": True}
    times = server.handle_completions(asked)["timings"]  # type: ignore[attr-defined]
    return float(times["predicted_ms"]) / 1000
