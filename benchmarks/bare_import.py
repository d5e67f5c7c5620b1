"""The limit of an import: lines parsed, flattened and copied, nothing else.

python -m benchmarks.bare_import v2|v1|csv DSN FILE ...
"""

from __future__ import annotations

import gc
import sys
from pathlib import Path
from typing import Any

import orjson
import psycopg

from tweetcrawler.archives.flatten_v1 import flatten_statuses
from tweetcrawler.flatten import COLUMNS, flatten

_LINES_A_BATCH = {"v2": 50, "v1": 5_000}
_COPY = f"COPY tweet_articles_tweepy ({', '.join(COLUMNS)}) FROM STDIN"


def main() -> None:
    """Copies all files."""
    form, dsn, *files = sys.argv[1:]
    gc.disable()  # nothing here is in a ring: a limit does not look for rings
    with psycopg.connect(dsn, autocommit=True) as connection:
        for file in files:
            if form == "csv":
                _copy_csv(connection, Path(file))
            else:
                _copy(connection, Path(file), form)


def _copy(connection: psycopg.Connection[Any], file: Path, form: str) -> None:
    with file.open("rb") as lines, connection.cursor() as cursor:
        while batch := [line for _, line in zip(range(_LINES_A_BATCH[form]), lines, strict=False)]:
            parsed = [orjson.loads(line) for line in batch]
            found = (
                [flatten(page) for page in parsed] if form == "v2" else [flatten_statuses(parsed)]
            )
            with cursor.copy(_COPY.encode()) as copy:
                for flattened in found:
                    for row in flattened.rows:
                        copy.write_row(list(row.values()))


def _copy_csv(connection: psycopg.Connection[Any], file: Path) -> None:
    statement = b"COPY peer FROM STDIN (FORMAT csv, HEADER)"
    with file.open("rb") as rows, connection.cursor() as cursor, cursor.copy(statement) as copy:
        while block := rows.read(1 << 16):
            copy.write(block)


if __name__ == "__main__":
    main()
