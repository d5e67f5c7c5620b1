"""Parquet, with the types of the columns."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from typing import IO, Any

from tweetcrawler.db import Column, Rows
from tweetcrawler.errors import ConfigurationError

# A row group is in memory until it is written, and later read as a whole: large enough to be
# compressed well, small enough for a notebook.
# https://parquet.apache.org/docs/file-format/configurations/
_GROUP_ROWS = 50_000
_GROUP_BYTES = 32 * 2**20


def write(file: IO[bytes], columns: Sequence[Column], rows: Rows) -> int:
    """Whole numbers are int64, times UTC in microseconds, lists are lists; compressed with
    zstd.
    """
    # Here, since the package is an extra, which other formats do without.
    import pyarrow as pa
    from pyarrow import parquet

    # Numbers are float64: Parquet's own decimals want one precision for the whole column. Times
    # are in microseconds, as PostgreSQL keeps them.
    kinds = {
        "id": pa.int64(),
        "whole": pa.int64(),
        "number": pa.float64(),
        "truth": pa.bool_(),
        "time": pa.timestamp("us", tz="UTC"),
        "date": pa.date32(),
        "json": pa.string(),
        "text": pa.string(),
    }
    types = [
        pa.list_(kinds[column.kind]) if column.is_list else kinds[column.kind] for column in columns
    ]
    schema = pa.schema(
        [pa.field(column.name, type_) for column, type_ in zip(columns, types, strict=True)],
        metadata={"pandas": _for_pandas(columns)},
    )
    count = 0
    # zstd makes text smaller than Parquet's usual snappy does, and every reader of today has
    # it.
    with parquet.ParquetWriter(file, schema, compression="zstd") as writer:
        for group in _groups(_arrow_batches(columns, schema, rows)):
            writer.write_table(pa.Table.from_batches(group))
            count += sum(batch.num_rows for batch in group)
    return count


def _for_pandas(columns: Sequence[Column]) -> str:
    """The types that pandas takes. Without them it makes floats of ids beside a NULL, which
    then end in other digits.

    https://pandas.pydata.org/docs/development/developer.html
    """
    numbers = [c.name for c in columns if c.kind in ("id", "whole") and not c.is_list]
    described = [
        {
            "name": name,
            "field_name": name,
            "pandas_type": "int64",
            "numpy_type": "Int64",
            "metadata": None,
        }
        for name in numbers
    ]
    return json.dumps({"index_columns": [], "column_indexes": [], "columns": described})


def _arrow_batches(columns: Sequence[Column], schema: Any, rows: Rows) -> Iterator[Any]:
    import pyarrow as pa

    for batch in rows:
        arrays = []
        for column, field, values in zip(columns, schema, zip(*batch, strict=True), strict=True):
            try:
                # The type is given: left to itself pyarrow takes it from the values, and a
                # batch of nothing but NULL would get another one than the rest.
                arrays.append(pa.array(values, type=field.type))
            except pa.ArrowException:
                raise ConfigurationError(
                    f"the column {column.name} holds a value that Parquet cannot hold beside the "
                    "others, such as a list of lists: leave the column out with --columns, "
                    "or export jsonl"
                ) from None
        yield pa.RecordBatch.from_arrays(arrays, schema=schema)


def _groups(batches: Iterable[Any]) -> Iterator[list[Any]]:
    group: list[Any] = []
    for batch in batches:
        group.append(batch)
        if (
            sum(each.num_rows for each in group) >= _GROUP_ROWS
            or sum(each.nbytes for each in group) >= _GROUP_BYTES
        ):
            yield group
            group = []
    if group:
        yield group
