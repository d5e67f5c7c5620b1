"""Where secrets are looked for: all that a test's programs printed, stored and wrote."""

from __future__ import annotations

from pathlib import Path

import psycopg

SECRET_COLUMNS = (
    "consumer_key",
    "consumer_secret",
    "access_token",
    "access_token_secret",
    "bearer_token",
)


class Haystack:
    """Everything that a test's programs printed, stored and wrote, and the secrets they knew."""

    def __init__(self) -> None:
        self.texts: list[tuple[str, bytes]] = []
        self.secrets: set[bytes] = set()

    def add(self, where: str, text: str | bytes) -> None:
        self.texts.append(
            (where, text if isinstance(text, bytes) else text.encode(errors="replace"))
        )

    def add_database(self, dsn: str) -> None:
        with psycopg.connect(dsn) as connection:
            tables = connection.execute(
                "SELECT format('%I.%I', schemaname, tablename) FROM pg_tables "
                "WHERE schemaname NOT IN ('pg_catalog', 'information_schema')"
            ).fetchall()
            for (table,) in tables:
                columns = "t.*" if "crawl_page" not in table else "id, params, credential, refused"
                rows = connection.execute(
                    f"SELECT row({columns})::text FROM {table} t".encode()
                ).fetchall()
                self.add(f"{table} of the database", "\n".join(row[0] for row in rows))

    def add_folder(self, folder: Path) -> None:
        for path in folder.rglob("*"):
            # What the operator wrote holds the secrets by his own will.
            if path.is_file() and path.name not in (
                "auth.csv",
                "tweet.ini",
                "pgpass",
                "pg_service.conf",
            ):
                self.add(str(path), path.read_bytes())

    def hits(self) -> list[str]:
        return [
            where for where, text in self.texts if any(secret in text for secret in self.secrets)
        ]
