"""The trace: what it refuses, what it selects, and that its file gives back exactly what went in."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from dataclasses import FrozenInstanceError, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import traces

import saturation
from saturation.atomic import writing
from saturation.trace import OPTIONAL, Trace


def refused(sentence: str, kind: type[Exception] = ValueError) -> Any:
    """Expect an error with exactly this sentence."""
    return pytest.raises(kind, match=f"^{re.escape(sentence)}$")


def changed(array: np.ndarray, token: int, layer: int, value: float | bool) -> np.ndarray:
    copy = array.copy()
    copy[token, layer] = value
    return copy


# ---- what it is


def test_a_trace_has_the_types_that_its_docstring_names() -> None:
    trace = traces.trace(skip=0.2, also=OPTIONAL)
    assert list(trace.tokens.columns) == ["sequence", "position", "phase", "token_id", "text"]
    assert {trace.tokens[name].dtype for name in ("sequence", "position", "token_id")} == {np.dtype("int32")}
    assert list(trace.tokens["phase"].cat.categories) == ["prefill", "decode"]
    assert {array.dtype for array in trace.groups.values()} == {np.dtype("float32")}
    assert trace.skipped.dtype == bool
    assert (len(trace), trace.layers) == (60, 16)


def test_similarity_is_one_minus_distance_in_float64() -> None:
    trace = traces.trace()
    assert trace.similarity.dtype == np.float64
    np.testing.assert_array_equal(1.0 - trace.distance.astype(np.float64), trace.similarity)


def test_a_trace_is_frozen() -> None:
    trace = traces.trace(also=("naive_cosine",))
    for array in (trace.distance, trace.growth, trace.skipped, trace.naive_cosine):
        with pytest.raises(ValueError, match="read-only"):
            array[0, 0] = 1
    with pytest.raises(FrozenInstanceError):
        trace.model = "another"


def test_the_frame_and_the_provenance_are_copies() -> None:
    frame, provenance = traces.tokens(1, 4, 2), {"seeds": [1]}
    numbers = traces.distances(4)
    trace = Trace(frame, numbers, numbers, np.zeros((4, 16), bool), provenance=provenance)
    frame["text"], frame["position"] = "gone", 0
    provenance["seeds"].append(2)
    assert list(trace.tokens["position"]) == [0, 1, 2, 3]
    assert "gone" not in set(trace.tokens["text"])
    assert trace.provenance == {"seeds": [1]}


def test_generated_counts_the_decode_rows_of_each_sequence_even_when_rows_are_mixed() -> None:
    frame = traces.tokens(3, 6, 2)
    shuffled = frame.sort_values(["position", "sequence"])  # as a batch is recorded: one step of each sequence
    numbers = traces.distances(len(frame), 2)
    trace = Trace(shuffled, numbers, numbers, np.zeros(numbers.shape, bool))
    assert list(trace.generated) == [0] * 6 + [1] * 3 + [2] * 3 + [3] * 3 + [4] * 3
    assert trace.generated.dtype == np.int32


def test_generated_is_the_same_after_a_selection() -> None:
    trace = traces.trace()
    whole = trace.generated[trace.decoding & (trace.tokens["sequence"] == 1)]
    np.testing.assert_array_equal(whole, trace.select(phase="decode", sequence=1).generated)


def test_repr_says_what_is_there() -> None:
    trace = traces.trace(provenance={"complete": False})
    assert repr(trace) == "<Trace of made-up: 60 tokens in 3 sequences x 16 layers, incomplete>"
    marked = replace(trace.select(layers=[2, 3], sequence=0), skipped=np.ones((20, 2), bool), **_all_nan(20, 2))
    assert repr(marked) == "<Trace of made-up: 20 tokens in 1 sequences x 2 layers, 100.0% skipped, incomplete>"


def _all_nan(tokens: int, layers: int) -> dict[str, np.ndarray]:
    return dict.fromkeys(("distance", "growth"), np.full((tokens, layers), np.nan, np.float32))


# ---- selecting and joining


def test_select_keeps_rows_and_layers_under_their_own_numbers() -> None:
    trace = traces.trace(skip=0.1, also=("attention_growth",))
    part = trace.select(phase="decode", sequence=[0, 2], layers=[9, 3])
    rows = (trace.tokens["phase"] == "decode") & trace.tokens["sequence"].isin([0, 2])
    for name in ("distance", "growth", "attention_growth", "skipped"):
        np.testing.assert_array_equal(getattr(part, name), getattr(trace, name)[rows][:, [3, 9]])
    assert part.tokens.equals(trace.tokens[rows].reset_index(drop=True))
    assert part.layer_numbers.tolist() == [3, 9]
    assert part.select(layers=9).layer_numbers.tolist() == [9]


def test_selecting_a_phase_that_did_not_happen_gives_no_tokens() -> None:
    assert len(traces.trace(prefill=20).select(phase="decode")) == 0


@pytest.mark.parametrize(
    ("asked", "sentence"),
    [
        ({"phase": "decoding"}, "this trace has no phase 'decoding'; it has the phases prefill, decode"),
        ({"sequence": [1, 7]}, "this trace has no sequence 7; it has the sequences 0, 1, 2"),
        (
            {"layers": range(14, 17)},
            "this trace has no layer 16; it has the layers 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, ..., 15",
        ),
    ],
)
def test_selecting_what_is_not_there_lists_what_is(asked: dict[str, Any], sentence: str) -> None:
    with refused(sentence):
        traces.trace().select(**asked)


def test_select_keeps_positions_of_every_sequence() -> None:
    trace = traces.trace(sequences=3, length=7)
    assert trace.select(start=4).tokens["position"].tolist() == [4, 5, 6] * 3
    assert trace.select(stop=2).tokens["position"].tolist() == [0, 1] * 3
    assert trace.select(start=1, stop=3, sequence=2).tokens["position"].tolist() == [1, 2]
    assert len(trace.select(start=7)) == 0


def test_massive_activations_are_named_with_their_layers() -> None:
    made = traces.trace(sequences=2, length=3, layers=4)
    median = np.full_like(made.distance, 0.5)
    magnitude = np.full_like(made.distance, 99.0)  # 198 medians: neither large enough nor far enough from the median
    magnitude[0] = [90, 700, 800, 149]  # from layer 1 to 2; at layer 3 too few medians
    magnitude[4, 3] = 150  # exactly 300 medians
    median[2], magnitude[2] = 0.01, 99  # 9,900 medians, but small
    found = replace(made, magnitude=magnitude, median=median).massive()
    assert found[["sequence", "position", "first", "last", "layer"]].to_numpy().tolist() == [
        [0, 0, 1, 2, 2],
        [1, 1, 3, 3, 3],
    ]
    assert found["magnitude"].tolist() == [800, 150] and found["ratio"].tolist() == [1600, 300]
    assert found["text"].tolist() == made.tokens["text"].iloc[[0, 4]].tolist()
    assert len(replace(made, magnitude=magnitude, median=median).massive(magnitude=801)) == 0
    expected = (
        "expected a trace with the magnitudes of the residual stream, but this one has none; record it with "
        "also=('magnitude',)"
    )
    with pytest.raises(ValueError, match=f"^{re.escape(expected)}$"):
        made.massive()


def test_concat_renumbers_sequences_unless_told_not_to() -> None:
    one, two = traces.trace(seed=1), traces.trace(seed=2, provenance={"complete": False})
    both = Trace.concat([one, two])
    assert both.tokens["sequence"].unique().tolist() == [0, 1, 2, 3, 4, 5]
    np.testing.assert_array_equal(both.distance, np.concatenate([one.distance, two.distance]))
    assert both.provenance == {"parts": [{}, {"complete": False}], "complete": False}
    same = Trace.concat([one.select(phase="prefill"), one.select(phase="decode")], renumber=False)
    assert same.tokens["sequence"].unique().tolist() == [0, 1, 2]
    np.testing.assert_array_equal(np.sort(same.generated), np.sort(one.generated))


def test_concat_of_parts_with_no_tokens() -> None:
    trace = traces.trace()
    nothing = trace.select(sequence=[])
    assert Trace.concat([nothing, trace, nothing, trace]).tokens["sequence"].max() == 5


def test_concat_refuses_what_does_not_belong_together() -> None:
    trace = traces.trace()
    with refused("expected at least one trace to concatenate, got none"):
        Trace.concat([])
    with refused(
        "expected traces of one model, but trace 1 has model 'other' where the first has 'made-up'; draw "
        "them side by side instead: figures take a mapping from label to trace"
    ):
        Trace.concat([trace, traces.trace(model="other")])
    with refused(
        "expected traces of the same layers, but trace 1 has 12 where the first has 16, or other ones; "
        "`select` the same layers of each"
    ):
        Trace.concat([trace, traces.trace(layers=12)])
    with refused(
        "expected traces with the same numbers, but trace 1 has distance, growth, naive_cosine where the "
        "first has distance, growth; record them with the same `also`"
    ):
        Trace.concat([trace, traces.trace(also=("naive_cosine",))])


def test_to_frame_is_tidy() -> None:
    trace = traces.trace(sequences=2, length=5, prefill=2, layers=3, skip=0.2, also=("naive_cosine",))
    long = trace.to_frame()
    assert long.columns.tolist() == [
        *("sequence", "position", "phase", "token_id", "text", "generated", "layer"),
        *("distance", "similarity", "growth", "skipped", "naive_cosine"),
    ]
    assert len(long) == 30
    row = long[(long["sequence"] == 1) & (long["position"] == 3) & (long["layer"] == 2)].squeeze()
    assert row["generated"] == 2
    np.testing.assert_array_equal(row["distance"], trace.distance[8, 2])
    np.testing.assert_array_equal(row["naive_cosine"], trace.naive_cosine[8, 2])
    np.testing.assert_array_equal(row["similarity"], trace.similarity[8, 2])


# ---- what it refuses


@pytest.mark.parametrize(
    ("number", "sentence"),
    [
        (
            np.nan,
            "non-finite distance at layer 3, token 25 (sequence 1, position 5, 'cat'): expected a finite "
            "number wherever a block ran, got nan; look for overflow in the model's activations (float16 "
            "ends at 65504, bfloat16 and float32 do not), or mark the block in `skipped` if it did not run",
        ),
        (
            np.inf,
            "non-finite distance at layer 3, token 25 (sequence 1, position 5, 'cat'): expected a finite "
            "number wherever a block ran, got inf; look for overflow in the model's activations (float16 "
            "ends at 65504, bfloat16 and float32 do not), or mark the block in `skipped` if it did not run",
        ),
        (
            2.5,
            "impossible distance at layer 3, token 25 (sequence 1, position 5, 'cat'): expected 0 to 2, got 2.5",
        ),
        (
            -0.5,
            "impossible distance at layer 3, token 25 (sequence 1, position 5, 'cat'): expected 0 to 2, got -0.5",
        ),
    ],
)
def test_a_number_that_cannot_be_is_named_by_layer_and_token(number: float, sentence: str) -> None:
    trace = traces.trace()
    text = trace.tokens["text"].where(trace.tokens.index != 25, "cat")
    with refused(sentence):
        replace(trace, tokens=trace.tokens.assign(text=text), distance=changed(trace.distance, 25, 3, number))


def test_a_layer_is_named_by_its_own_number() -> None:
    trace = traces.trace().select(layers=[5, 11])
    with pytest.raises(ValueError, match=r"^impossible growth at layer 11, token 2 .* expected 0 to inf, got -1"):
        replace(trace, growth=changed(trace.growth, 2, 1, -1))


def test_a_number_where_the_block_did_not_run() -> None:
    trace = traces.trace()
    text = repr(trace.tokens["text"][0])
    with refused(
        f"unexpected distance at layer 4, token 0 (sequence 0, position 0, {text}): a block that did not run "
        "has none, so expected NaN, got 0.25; put NaN there, or clear its mark in `skipped`"
    ):
        replace(
            trace,
            skipped=changed(trace.skipped, 0, 4, True),
            distance=changed(trace.distance, 0, 4, 0.25),
        )


def test_attention_runs_where_the_feed_forward_block_is_skipped() -> None:
    """Its numbers are kept there, and may be missing there, but nowhere else."""
    trace = traces.trace(skip=0.3)
    replace(trace, attention_distance=np.full((60, 16), 0.1, np.float32))
    replace(trace, attention_distance=trace.distance)
    with pytest.raises(ValueError, match=r"^non-finite attention_distance at layer"):
        replace(trace, attention_distance=np.full((60, 16), np.nan, np.float32))
    with pytest.raises(ValueError, match=r"^non-finite attention_distance at layer"):
        replace(trace, attention_distance=np.where(trace.skipped, np.float32(np.inf), trace.distance))


@pytest.mark.parametrize(
    ("name", "array", "sentence"),
    [
        (
            "distance",
            np.zeros((60, 0), np.float32),
            "distance must be [token, layer] with a row for each of the 60 rows of tokens and at least one "
            "layer, "
            "but its shape is (60, 0)",
        ),
        (
            "growth",
            np.zeros((60, 15), np.float32),
            "growth must be float32 [token, layer] of shape (60, 16), but it is float32 of shape (60, 15)",
        ),
        (
            "distance",
            np.zeros((60, 16), np.float16),
            "distance must be float32 [token, layer] of shape (60, 16), but it is float16 of shape (60, 16)",
        ),
        (
            "skipped",
            np.zeros((60, 16), int),
            "skipped must be bool [token, layer] of shape (60, 16), but it is int64 of shape (60, 16)",
        ),
    ],
)
def test_wrong_shapes_and_types(name: str, array: np.ndarray, sentence: str) -> None:
    with refused(sentence):
        replace(traces.trace(), **{name: array})


@pytest.mark.parametrize(
    ("column", "values", "sentence"),
    [
        (
            "phase",
            ["prefill", "Decode"],
            "tokens['phase'] must be 'prefill' or 'decode', but row 1 has 'Decode'",
        ),
        ("text", ["a", None], "tokens['text'] must hold text, empty where there is none, but row 1 has None"),
        ("text", ["a", 3], "tokens['text'] must hold text, empty where there is none, but row 1 has 3"),
        (
            "position",
            [0, -1],
            "tokens['position'] must hold whole numbers from 0 to 2147483647, but row 1 has -1 (int64)",
        ),
        (
            "token_id",
            [0, 2**31],
            "tokens['token_id'] must hold whole numbers from -1 to 2147483647, but row 1 has 2147483648 (int64)",
        ),
        (
            "sequence",
            [0.5, 1.0],
            "tokens['sequence'] must hold whole numbers from 0 to 2147483647, but row 0 has 0.5 (float64)",
        ),
    ],
)
def test_wrong_tokens(column: str, values: list[Any], sentence: str) -> None:
    frame = traces.tokens(1, 2, 1).assign(**{column: pd.Series(values, dtype=object if column == "text" else None)})
    numbers = traces.distances(2)
    with refused(sentence):
        Trace(frame, numbers, numbers, np.zeros(numbers.shape, bool))


def test_wrong_columns_layers_and_provenance() -> None:
    trace = traces.trace(layers=2)
    with refused(
        "tokens must have exactly the columns sequence, position, phase, token_id, text, but it has "
        "sequence, position, phase, token_id, text, corpus"
    ):
        replace(trace, tokens=trace.tokens.assign(corpus="a"))
    with refused("kept_layers must be 2 different layer numbers from 0, rising, but it is (3, 1)"):
        replace(trace, kept_layers=(3, 1))
    with refused(
        "provenance must hold only what JSON can (text, finite numbers, true, false, null, lists and "
        "mappings of them), but: Object of type ndarray is not JSON serializable"
    ):
        replace(trace, provenance={"weights": np.zeros(2)})


# ---- its file


CASES = {
    "dense": {},
    "skipping": {"skip": 0.3},
    "every group": {"skip": 0.1, "also": OPTIONAL},
    "no tokens": {"sequences": 0},
    "one layer": {"layers": 1},
    "more than a hundred layers": {"layers": 101},
    "only prefill": {"prefill": 20},
    "described": {
        "revision": "4f2c",
        "model": "мир/🙂",
        "provenance": {"complete": False, "seed": 0.1, "nested": [1, {"a": None}]},
    },
}


@pytest.mark.parametrize("case", CASES)
def test_save_then_load_is_identity(case: str, tmp_path: Path) -> None:
    """Law 8."""
    trace = traces.trace(**CASES[case])
    trace.save(tmp_path / "a.parquet")
    again = Trace.load(tmp_path / "a.parquet")
    assert again.equals(trace)
    assert again.tokens.dtypes.to_dict() == trace.tokens.dtypes.to_dict()
    for name, array in (trace.groups | {"skipped": trace.skipped}).items():
        assert getattr(again, name).tobytes() == array.tobytes(), name
    assert [path.name for path in tmp_path.iterdir()] == ["a.parquet"]


def test_save_then_load_of_selected_layers_keeps_their_numbers(tmp_path: Path) -> None:
    part = traces.trace().select(layers=[3, 9])
    part.save(tmp_path / "a.parquet")
    assert Trace.load(tmp_path / "a.parquet").equals(part)
    assert "distance_09" in pq.read_schema(tmp_path / "a.parquet").names


def test_save_then_load_over_several_groups_of_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("saturation.trace.parquet._ROWS", 7)
    trace = traces.trace(skip=0.3, prefill=15)
    trace.save(tmp_path / "a.parquet")
    assert pq.read_metadata(tmp_path / "a.parquet").num_row_groups == 9
    assert Trace.load(tmp_path / "a.parquet").equals(trace)


def test_equals_sees_every_difference() -> None:
    trace = traces.trace(skip=0.3)
    assert trace.equals(traces.trace(skip=0.3))
    assert not trace.equals(trace.distance)
    assert not trace.equals(replace(trace, dtype="bfloat16"))
    assert not trace.equals(replace(trace, provenance={"complete": True}))
    assert not trace.equals(replace(trace, block_distance=trace.distance))
    assert not trace.equals(replace(trace, tokens=trace.tokens.assign(text="x")))
    assert not trace.equals(replace(trace, growth=trace.growth * np.float32(1.0000002)))


def test_pandas_reads_the_file_plainly(tmp_path: Path) -> None:
    trace = traces.trace(skip=0.3)
    trace.save(tmp_path / "a.parquet")
    frame = pd.read_parquet(tmp_path / "a.parquet")
    names = [f"{kind}_{layer:02d}" for kind in ("distance", "growth", "skipped") for layer in range(16)]
    assert frame.columns.tolist() == ["sequence", "position", "phase", "token_id", "text", *names]
    np.testing.assert_array_equal(frame["distance_07"], trace.distance[:, 7])
    np.testing.assert_array_equal(frame["skipped_07"], trace.skipped[:, 7])
    assert frame["phase"].dtype == "category"
    assert frame["text"].tolist() == trace.tokens["text"].tolist()


def test_the_description_is_json_in_the_metadata(tmp_path: Path) -> None:
    traces.trace(layers=2, provenance={"seed": 3}).save(tmp_path / "a.parquet")
    assert json.loads(pq.read_schema(tmp_path / "a.parquet").metadata[b"saturation.trace"]) == {
        "format": "saturation trace",
        "version": 1,
        "layers": 2,
        "numbers": ["distance", "growth"],
        "model": "made-up",
        "revision": None,
        "dtype": "float32",
        "provenance": {"seed": 3},
        "kept_layers": None,
    }


def test_a_suffix_other_than_parquet_is_refused(tmp_path: Path) -> None:
    path = str(tmp_path / "a.csv")
    with refused(f"a trace is saved as one Parquet file: expected a path ending in .parquet, got {path!r}"):
        traces.trace().save(path)


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    path = tmp_path / "none" / "a.parquet"
    with refused(
        f"cannot save the trace to {path}: there is no folder {path.parent}; make it first, or name another path",
        FileNotFoundError,
    ):
        traces.trace().save(path)


def test_a_folder_in_the_way_is_named(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    path.mkdir()
    with refused(f"cannot save the trace to {path}: that is a folder; name a file in it", IsADirectoryError):
        traces.trace().save(path)


def test_an_unwritable_path_leaves_what_stood_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The disk fills after the first group of rows; root may write anywhere, so no permission is tried."""
    path = tmp_path / "a.parquet"
    traces.trace(seed=1).save(path)

    def full(self: pq.ParquetWriter, table: pa.Table) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(pq.ParquetWriter, "write_table", full)
    with refused(
        f"cannot save the trace to {path}: No space left on device; nothing was written there, so free the "
        "place "
        "or name another path",
        OSError,
    ):
        traces.trace(seed=2).save(path)
    assert Trace.load(path).equals(traces.trace(seed=1))
    assert [item.name for item in tmp_path.iterdir()] == ["a.parquet"]


def test_a_reader_of_the_older_file_is_not_disturbed(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    traces.trace(seed=1).save(path)
    whole = path.read_bytes()
    with path.open("rb") as reader:
        traces.trace(seed=2).save(path)
        assert reader.read() == whole


def test_writing_cleans_up_after_an_interrupt(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt), writing(tmp_path / "a.txt", "a note") as part:
        part.write_text("half")
        raise KeyboardInterrupt
    assert list(tmp_path.iterdir()) == []


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    with refused(f"there is no trace to load: {path} is not a file", FileNotFoundError):
        Trace.load(path)


def damaged(path: Path, reason: str) -> str:
    return (
        f"^{re.escape(f'cannot load {path}: it is damaged or no Parquet file (')}{reason}"
        + re.escape("); copy it again from where it was written, or record the trace anew")
        + "$"
    )


def test_a_damaged_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    traces.trace().save(path)
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ValueError, match=damaged(path, "Parquet magic bytes not found in footer.*")):
        Trace.load(path)
    path.write_bytes(b"not a table at all")
    with pytest.raises(ValueError, match=damaged(path, "Parquet magic bytes not found in footer.*")):
        Trace.load(path)


def test_one_wrong_bit_is_found(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    traces.trace(sequences=50).save(path)
    column = pq.read_metadata(path).row_group(0).column(9)
    data = bytearray(path.read_bytes())
    data[column.data_page_offset + column.total_compressed_size // 2] ^= 1
    path.write_bytes(data)
    with pytest.raises(ValueError, match=damaged(path, ".*CRC checksum verification failed.*")):
        Trace.load(path)


def test_a_foreign_parquet_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "prices.parquet"
    pd.DataFrame({"price": [1.0]}).to_parquet(path)
    with refused(
        f"cannot load {path}: it is a Parquet file but no trace, for its metadata has no key "
        "'saturation.trace'; load files that Trace.save wrote, or build a Trace from your own columns"
    ):
        Trace.load(path)


def rewritten(path: Path, **about: Any) -> None:
    """Change the description in a trace's file."""
    table = pq.read_table(path)
    old = json.loads(table.schema.metadata[b"saturation.trace"])
    pq.write_table(table.replace_schema_metadata({b"saturation.trace": json.dumps(old | about)}), path)


def test_a_newer_format_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    traces.trace().save(path)
    rewritten(path, version=2)
    with refused(
        f"cannot load {path}: it is in version 2 of the trace format, and this saturation reads up to "
        "version 1; upgrade saturation"
    ):
        Trace.load(path)


def test_a_file_that_lacks_a_column_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    traces.trace().save(path)
    rewritten(path, layers=17)
    with pytest.raises(ValueError, match=damaged(path, ".*distance_16.*")):
        Trace.load(path)


def test_a_trace_opens_where_torch_is_not_installed(root: Path, tmp_path: Path) -> None:
    traces.trace().save(tmp_path / "a.parquet")
    code = (
        "import sys; sys.modules['torch'] = sys.modules['transformers'] = None\n"
        "import saturation as st\n"
        f"trace = st.Trace.load({str(tmp_path / 'a.parquet')!r})\n"
        "assert len(trace.select(phase='decode').to_frame()) == 36 * 16"
    )
    subprocess.run([sys.executable, "-c", code], cwd=root, check=True)


@pytest.mark.parametrize("name", ["located", "writing", "writing_together"])
def test_what_moved_is_found_at_its_old_place_with_a_warning(name: str) -> None:
    with pytest.warns(DeprecationWarning, match=f"^saturation.trace.{name} is now saturation.atomic.{name}$"):
        assert getattr(saturation.trace, name) is getattr(saturation.atomic, name)
