"""Which rule costs least at equal bytes: ``python -m data.compare MODEL`` (``--write``: into data/README.md).

Rules are fitted on some texts and scored on others, teacher-forced. Each leaves the same share of the feed-forward
blocks' bytes unread: whole blocks, or half of the neurons of twice as many (with the mean of the rest), or the same
neurons at every token (``prune(method="neurons")``). Intervals are paired by text.
"""

from __future__ import annotations

import argparse
import copy
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import torch

import saturation as st
from data.page import PAGE, put, table
from data.texts import held_out
from saturation import figures
from saturation.ablation import least_harmful
from saturation.policies import Narrow, Policy
from saturation.quality import losses
from saturation.quality.likelihood import rise

WIDTH = 0.5  # of a narrow block
READS = {"demo": 1, "smollm2": 2}  # layer that the router reads at; else 1
BLOCKS = {"demo": (1, 2, 4, 6), "smollm2": (2, 3, 6, 9)}  # whole blocks of each token: 6 to 38 %, 7 to 30 %
FITTED, SCORED, TOKENS = {"bundled": 200, "wikitext": 36}, {"bundled": 96, "wikitext": 16}, 256
PAPER, PRUNED = "FFN-SkipLLM", "neurons pruned"
COLUMNS = ("share", "rule", "rise", "low", "high", "unread", "beside", "beside_low", "beside_high")

Rules = dict[
    str, Callable[[int], Policy]
]  # by name: the policy that skips so many blocks of each token, or as many bytes


class Fitted:
    """All that rules are fitted on, measured once on calibration texts."""

    def __init__(self, model: Any, tokenizer: Any, texts: list[list[int]], reads: int, keep: Path | None) -> None:
        self.model, self.tokenizer, self.texts, self.reads, self.keep = model, tokenizer, texts, reads, keep
        self.trace = st.record(model, tokenizer, texts)
        self.stream = st.recording.streams(model, tokenizer, texts, reads)
        self.half = st.narrow(model, tokenizer, texts, width=WIDTH)
        self.whole_harm, self.half_harm = self._harm("skip", None), self._harm("narrow", self.half)

    def _harm(self, name: str, action: Narrow | None) -> st.Harm:
        """Measured, or read where it was kept."""
        path = None if self.keep is None else self.keep / f"harm_{name}.parquet"
        if path is not None and path.is_file():
            return st.Harm.load(path)
        found = st.harm(self.model, self.tokenizer, self.texts, action=action)
        if path is not None:
            path.parent.mkdir(parents=True, exist_ok=True)
            found.save(path)
        return found

    def rules(self, most: int) -> Rules:
        """The rules by name, for so many blocks at most."""
        layers, warm = self.trace.layers, {"warmup": 0}
        cold = dict(zip(("cold_start", "cold_end"), st.policies.cold_regions(self.trace), strict=True))
        order = least_harmful(self.model, self.tokenizer, self.texts, count=most, harm=self.whole_harm)

        def twice(count: int) -> int:
            return min(round(count / (1 - WIDTH)), layers - self.reads - 1)

        return {
            PAPER: lambda k: st.FFNSkip.fit(self.trace, ratio=k / layers, **warm, **cold),
            "FFN-SkipLLM, next block only": lambda k: st.FFNSkip.fit(
                self.trace, ratio=k / layers, horizon=1, **warm, **cold
            ),
            "random": lambda k: st.RandomFFN(k / layers, **cold),
            "static by similarity": lambda k: st.StaticFFN.fit(self.trace, count=k),
            "static by harm": lambda k: replace(order, layers=order.layers[:k]),
            "token table": lambda k: st.TokenFFN.fit(self.whole_harm, count=k),
            "router": lambda k: st.RoutedFFN.fit(self.whole_harm, self.stream, reads=self.reads, count=k),
            "half by token table": lambda k: st.TokenFFN.fit(self.half_harm, count=twice(k), action=self.half),
            "half by router": lambda k: st.RoutedFFN.fit(
                self.half_harm, self.stream, reads=self.reads, count=twice(k), action=self.half
            ),
        }


def scored(fitted: Fitted, texts: list[list[int]], blocks: tuple[int, ...], say: Any) -> Iterator[dict[str, Any]]:
    """A row per share and rule: its rise over the dense loss, and that beside pruned neurons' at the same share."""
    model, tokenizer, layers = fitted.model, fitted.tokenizer, fitted.trace.layers
    dense, rules = losses(model, tokenizer, texts), fitted.rules(max(blocks))
    for count in blocks:
        share, found = count / layers, {}
        pruned = copy.deepcopy(model)
        report = st.prune(pruned, calibration=fitted.texts, method="neurons", sparsity=share)
        found[PRUNED] = losses(pruned, tokenizer, texts), report.sparsity
        for name, make in rules.items():
            policy = make(count)
            one = losses(model, tokenizer, texts, policy=policy)
            taken = one["skipped"].sum() / one["blocks"].sum()
            found[name] = one, taken * (1 - (policy.action.width if policy.action else 0))
        for name, (one, unread) in found.items():
            values = (share, name, *rise(one, dense), unread, *rise(one, found[PRUNED][0]))
            yield dict(zip(COLUMNS, values, strict=True))
            say(f"{share:.1%} {name}: {values[2]:+.4f} at {unread:.1%}", flush=True)


def page(found: pd.DataFrame, head: str) -> str:
    """The table in Markdown: a row per rule, a column per share."""
    rows: dict[str, list[str]] = {}
    for _, row in found.iterrows():
        beside = (
            ""
            if row["rule"] == PRUNED
            else f" ({row['beside']:+.4f} [{row['beside_low']:.4f}, {row['beside_high']:.4f}])"
        )
        cell = f"{row['rise']:+.4f} [{row['low']:.4f}, {row['high']:.4f}] at {100 * row['unread']:.1f} %"
        rows.setdefault(row["rule"], []).append(cell + beside)
    columns = {"rule": "<"} | {f"{100 * share:.1f} %": ">" for share in found["share"].unique()}
    return "\n".join([head, "", *table(columns, [[name, *cells] for name, cells in rows.items()])])


def main(argv: list[str] | None = None) -> None:
    """Compare on one model."""
    parser = argparse.ArgumentParser(prog="python -m data.compare", description=__doc__)
    parser.add_argument("model", help="what saturation.load takes, such as demo or smollm2")
    parser.add_argument("--texts", choices=tuple(FITTED), default="bundled")
    parser.add_argument("--fit", type=int, help=f"texts to fit on; {FITTED['bundled']} bundled ones, else 36")
    parser.add_argument("--score", type=int, help=f"texts to score; {SCORED['bundled']} bundled ones, else 16")
    parser.add_argument("--blocks", type=int, nargs="+", help="whole blocks that each token skips")
    parser.add_argument("--threads", type=int, help="of torch; its own choice by default")
    parser.add_argument("--keep", type=Path, help="folder for the harm that was measured, to go on with")
    parser.add_argument("--write", action="store_true", help="put table and picture into data/")
    options = parser.parse_args(argv)
    if options.threads:
        torch.set_num_threads(options.threads)
    model, tokenizer = st.load(options.model)
    count = options.score or SCORED[options.texts]
    given = held_out(options.texts, tokenizer, count + (options.fit or FITTED[options.texts]))
    given = [ids[:TOKENS] for ids in given]
    fitted = Fitted(model, tokenizer, given[count:], READS.get(options.model, 1), options.keep)
    blocks = tuple(options.blocks or BLOCKS.get(options.model, (2, 4, 6)))
    found = pd.DataFrame(scored(fitted, given[:count], blocks, print))
    sizes = [sum(map(len, part)) for part in (given[count:], given[:count])]
    head = (
        f"{options.model}: rise of the loss in nats per token, fitted on {sizes[0]:,} tokens of {len(given) - count} "
        f"texts, scored on {sizes[1]:,} of {count} others; in brackets beside pruned neurons at the same share, paired."
    )
    text = page(found, head)
    print(text)
    if options.write:
        put(f"compare {options.model}", text)
        drawn = figures.tradeoff(
            found, x="share", y="rise", by="rule", xlabel="FFN bytes left unread", ylabel="rise of loss", log=True
        )
        figures.save(drawn, PAGE.parent / "pictures" / f"compare_{options.model}.png")


if __name__ == "__main__":
    main()
