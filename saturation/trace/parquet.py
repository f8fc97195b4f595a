"""Parquet files of traces and harm, which pandas, polars and R can read.

One row per token and one column per layer and kind of number. A column's numbers are stored as four streams
of bytes (BYTE_STREAM_SPLIT), which zstd shrinks by a fifth. Pages carry checksums.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from ..atomic import located, writing
from .frozen_record import Frozen
from .validation import TOKEN_COLUMNS

_ROWS = 65_536  # tokens written at a time: 8 MiB for each kind of number at 32 layers
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
    """The Parquet file is whole, but holds another kind of table than the one to be loaded."""


@dataclass(frozen=True)
class Format:
    """Layout of the Parquet file of one class, Trace or Harm.

    Attributes
    ----------
    kind : str
        Name of the class whose objects it holds.
    noun : str
        What error messages call such an object.
    described : tuple of str
        Fields that are not part of the table.
    marks : tuple of str
        Boolean arrays [token, layer] that every file has besides the numbers.
    again : str
        How to make the file again, for error messages.
    version : int
        Format version; to be increased when an older reader would misread a new file.
    """

    kind: str
    noun: str
    described: tuple[str, ...]
    marks: tuple[str, ...]
    again: str
    version: int = 1

    @property
    def key(self) -> bytes:
        """Key in the file's metadata."""
        return f"saturation.{self.kind.lower()}".encode()


TRACE = Format(
    "Trace", "trace", ("model", "revision", "dtype", "provenance", "kept_layers"), ("skipped",), "record the trace anew"
)
HARM = Format("Harm", "record of harm", ("model", "revision", "dtype", "provenance"), (), "measure the harm anew")


def write(record: Frozen, path: str | os.PathLike[str], form: Format) -> None:
    """Write the file of a trace or a record of harm, whole or not at all."""
    if Path(path).suffix != ".parquet":
        raise ValueError(
            f"a {form.noun} is saved as one Parquet file: expected a path ending in .parquet, got {str(path)!r}"
        )
    names = _names([*record.groups, *form.marks], record.layer_numbers.tolist())
    kinds = [(name, pa.bool_() if kind in form.marks else pa.float32()) for kind in names for name in names[kind]]
    schema = pa.schema([*_TOKENS, *kinds], metadata={form.key: json.dumps(_described(record, form))})
    floats = [name for name, kind in kinds if kind == pa.float32()]
    with (
        writing(path, f"the {form.noun}") as part,
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
        for start in range(0, len(record), _ROWS):
            writer.write_table(_chunk(record, slice(start, start + _ROWS), names, schema))


def _names(kinds: list[str], layers: list[int]) -> dict[str, list[str]]:
    """Names of the columns of each array, by the layers' own numbers."""
    digits = max(2, len(str(max(layers))))
    return {kind: [f"{kind}_{layer:0{digits}d}" for layer in layers] for kind in kinds}


def _described(record: Frozen, form: Format) -> dict[str, Any]:
    about = {name: getattr(record, name) for name in form.described}
    return {
        "format": f"saturation {form.kind.lower()}",
        "version": form.version,
        "layers": record.layers,
        "numbers": list(record.groups),
        **about,
    }


def _chunk(record: Frozen, rows: slice, names: dict[str, list[str]], schema: pa.Schema) -> pa.Table:
    columns = list(pa.Table.from_pandas(record.tokens.iloc[rows], _TOKENS, preserve_index=False).columns)
    for kind in names:
        by_layer = np.ascontiguousarray(getattr(record, kind)[rows].T)  # [layer, token]
        columns += [pa.array(layer) for layer in by_layer]
    return pa.Table.from_arrays(columns, schema=schema)


def read(path: str | os.PathLike[str], form: Format) -> dict[str, Any]:
    """Read the arguments of a Trace or a Harm from its file."""
    path = located(path)
    if not path.is_file():
        raise FileNotFoundError(f"there is no {form.noun} to load: {path} is not a file")
    try:
        with pq.ParquetFile(path, page_checksum_verification=True) as file:
            about = _about(file.schema_arrow.metadata or {}, path, form)
            return _tables(file, about, form) | {name: about[name] for name in form.described}
    except PermissionError:
        raise
    except (pa.ArrowException, OSError, KeyError, json.JSONDecodeError) as error:
        reason = str(error).splitlines()[0]
        raise ValueError(
            f"cannot load {path}: it is damaged or no Parquet file ({reason}); copy it again from where it "
            f"was written, or {form.again}"
        ) from error


def _about(metadata: dict[bytes, bytes], path: Path, form: Format) -> dict[str, Any]:
    if form.key not in metadata:
        raise OtherTable(
            f"cannot load {path}: it is a Parquet file but no {form.noun}, for its metadata has no key "
            f"{form.key.decode()!r}; load files that {form.kind}.save wrote, or build a {form.kind} from your own "
            "columns"
        )
    about = json.loads(metadata[form.key])
    if about["version"] > form.version:
        raise ValueError(
            f"cannot load {path}: it is in version {about['version']} of the {form.kind.lower()} format, and this "
            f"saturation reads up to version {form.version}; upgrade saturation"
        )
    return about


def _tables(file: pq.ParquetFile, about: dict[str, Any], form: Format) -> dict[str, Any]:
    """Frame of tokens and arrays [token, layer], read one group of rows at a time."""
    total, layers = file.metadata.num_rows, about.get("kept_layers") or list(range(about["layers"]))
    names = _names([*about["numbers"], *form.marks], layers)
    arrays = {kind: np.empty((total, len(layers)), bool if kind in form.marks else np.float32) for kind in names}
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
