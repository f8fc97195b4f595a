"""A trace as one Parquet file that pandas, polars and R read plainly.

One row per token and one column per layer and kind of number. A column's numbers are stored as four streams
of bytes (BYTE_STREAM_SPLIT), which zstd shrinks by a fifth. Pages carry checksums.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from .checks import TOKEN_COLUMNS
from .files import writing

if TYPE_CHECKING:
    from .measured import Trace

KEY = b"saturation.trace"  # of the file's metadata
VERSION = 1  # of the format; raised when an older reader would misread
_ROWS = 65_536  # tokens written at a time: 8 MiB for each kind of number at 32 layers
_DESCRIBED = ("model", "revision", "dtype", "provenance", "kept_layers")
_TOKENS = pa.schema(
    {
        "sequence": pa.int32(),
        "position": pa.int32(),
        "phase": pa.dictionary(pa.int8(), pa.string()),
        "token_id": pa.int32(),
        "text": pa.string(),
    }
)


class OtherTable(ValueError):
    """A Parquet file that is whole, but of something else than a trace."""


def write(trace: Trace, path: str | os.PathLike[str]) -> None:
    """Write a trace's file, whole or not at all."""
    if Path(path).suffix != ".parquet":
        raise ValueError(f"a trace is saved as one Parquet file: expected a path ending in .parquet, got {str(path)!r}")
    names = _columns(trace)
    kinds = [(name, pa.bool_() if kind == "skipped" else pa.float32()) for kind in names for name in names[kind]]
    schema = pa.schema([*_TOKENS, *kinds], metadata={KEY: json.dumps(_described(trace))})
    floats = [name for name, kind in kinds if kind == pa.float32()]
    with (
        writing(path, "the trace") as part,
        pq.ParquetWriter(
            part,
            schema,
            compression="zstd",
            compression_level=1,
            use_dictionary=["phase", "text", "token_id"],
            use_byte_stream_split=floats,
            write_page_checksum=True,
        ) as writer,
    ):
        for start in range(0, len(trace), _ROWS):
            writer.write_table(_chunk(trace, slice(start, start + _ROWS), names, schema))


def _columns(trace: Trace) -> dict[str, list[str]]:
    """Names of the columns of each array, by the layers' own numbers."""
    return _names([*trace.groups, "skipped"], trace.layer_numbers.tolist())


def _names(kinds: list[str], layers: list[int]) -> dict[str, list[str]]:
    digits = max(2, len(str(max(layers))))
    return {kind: [f"{kind}_{layer:0{digits}d}" for layer in layers] for kind in kinds}


def _described(trace: Trace) -> dict[str, Any]:
    about = {name: getattr(trace, name) for name in _DESCRIBED}
    kinds = list(trace.groups)
    return {
        "format": "saturation trace",
        "version": VERSION,
        "layers": trace.layers,
        "numbers": kinds,
        **about,
    }


def _chunk(trace: Trace, rows: slice, names: dict[str, list[str]], schema: pa.Schema) -> pa.Table:
    columns = list(pa.Table.from_pandas(trace.tokens.iloc[rows], _TOKENS, preserve_index=False).columns)
    for kind in names:
        by_layer = np.ascontiguousarray(getattr(trace, kind)[rows].T)  # [layer, token]
        columns += [pa.array(layer) for layer in by_layer]
    return pa.Table.from_arrays(columns, schema=schema)


def read(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Read the arguments of a Trace from its file."""
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"there is no trace to load: {path} is not a file")
    try:
        with pq.ParquetFile(path, page_checksum_verification=True) as file:
            about = _about(file.schema_arrow.metadata or {}, path)
            return _tables(file, about) | {name: about[name] for name in _DESCRIBED}
    except PermissionError:
        raise
    except (pa.ArrowException, OSError, KeyError, json.JSONDecodeError) as error:
        reason = str(error).splitlines()[0]
        raise ValueError(
            f"cannot load {path}: it is damaged or no Parquet file ({reason}); copy it again from where it "
            "was written, or record the trace anew"
        ) from error


def _about(metadata: dict[bytes, bytes], path: Path) -> dict[str, Any]:
    if KEY not in metadata:
        raise OtherTable(
            f"cannot load {path}: it is a Parquet file but no trace, for its metadata has no key "
            f"{KEY.decode()!r}; load files that Trace.save wrote, or build a Trace from your own columns"
        )
    about = json.loads(metadata[KEY])
    if about["version"] > VERSION:
        raise ValueError(
            f"cannot load {path}: it is in version {about['version']} of the trace format, and this "
            f"saturation reads up to version {VERSION}; upgrade saturation"
        )
    return about


def _tables(file: pq.ParquetFile, about: dict[str, Any]) -> dict[str, Any]:
    """Frame of tokens and arrays [token, layer], read one group of rows at a time."""
    total, layers = file.metadata.num_rows, about["kept_layers"] or list(range(about["layers"]))
    names = _names([*about["numbers"], "skipped"], layers)
    arrays = {kind: np.empty((total, len(layers)), bool if kind == "skipped" else np.float32) for kind in names}
    frames, start = [_TOKENS.empty_table().to_pandas()], 0
    for group in range(file.num_row_groups):
        table = file.read_row_group(group)
        rows = slice(start, start + len(table))
        for kind, columns in names.items():
            for index, name in enumerate(columns):
                arrays[kind][rows, index] = table.column(name).to_numpy()
        frames.append(table.select(TOKEN_COLUMNS).to_pandas())
        start = rows.stop
    return {"tokens": pd.concat(frames, ignore_index=True), **arrays}
