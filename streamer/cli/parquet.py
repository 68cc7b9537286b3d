"""Writing rows as Parquet, for analysis in DuckDB or a warehouse. Needs pyarrow, an extra."""

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq

from streamer.cli.output import Cell

_ROW_GROUP = 100_000
_TEXT, _TIME = pa.string(), pa.timestamp("ms", tz="UTC")
_TYPES: dict[str, pa.DataType] = {
    "attempts": pa.int32(),
    "occurred_at": _TIME,
    "event_occurred_at": _TIME,
    "source_partition": pa.int32(),
    "source_offset": pa.int64(),
}
"""The types of columns that are no text."""


def write_parquet(stream: BinaryIO, header: Sequence[str], rows: Iterable[Sequence[Cell]]) -> None:
    """Write rows in groups as they come.

    Args:
        stream: where to; it need not be seekable.
        header: the names of the columns.
        rows: their cells; times are RFC 3339.
    """
    schema = pa.schema([pa.field(name, _TYPES.get(name, _TEXT)) for name in header])
    with pq.ParquetWriter(stream, schema, compression="zstd") as writer:
        for group in _groups(rows):
            cells = zip(*group, strict=True)
            # Through Arrow's own reading of text, where the column has another type.
            columns = [
                pa.array(column).cast(field.type)
                for column, field in zip(cells, schema, strict=True)
            ]
            writer.write_table(pa.Table.from_arrays(columns, schema=schema))


def _groups(rows: Iterable[Sequence[Cell]]) -> Iterator[list[Sequence[Cell]]]:
    remaining = iter(rows)
    while group := list(islice(remaining, _ROW_GROUP)):
        yield group
