"""The graph of who follows whom, as files of edges: CSV, Parquet, GEXF, GraphML."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import IO, Any, LiteralString
from xml.sax.saxutils import XMLGenerator
from xml.sax.xmlreader import AttributesImpl

from tweetcrawler.errors import PackageMissing

EDGES = ("follower_id", "followed_id", "follower", "followed", "valid_from", "valid_to")
DEGREES = ("id", "username", "followers", "following", "mutual")
Rows = Iterator[list[tuple[Any, ...]]]
Asking = Callable[[LiteralString, Mapping[str, Any]], Rows]


@dataclass(frozen=True)
class Choice:
    """The edges of a file: those at a moment (None: now), `between` users whose lists were
    walked, and those that go both ways.
    """

    at: datetime | None = None
    between: bool = False
    mutual: bool = False


def write_csv(ask: Asking, choice: Choice, file: IO[bytes]) -> int:
    """Writes edges with the handles of both; gives their number."""
    return _csv(EDGES, ask(_EDGES, asdict(choice)), file)


def write_degrees(ask: Asking, choice: Choice, file: IO[bytes]) -> int:
    """Writes users with the numbers of their edges; gives the number of users."""
    return _csv(DEGREES, ask(_DEGREES, asdict(choice)), file)


def write_parquet(ask: Asking, choice: Choice, file: IO[bytes]) -> int:
    """Writes edges with their types; gives their number."""
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError:
        raise PackageMissing("export", "pyarrow") from None
    moment = pa.timestamp("us", tz="UTC")
    types = [pa.int64(), pa.int64(), pa.string(), pa.string(), moment, moment]
    schema, count = pa.schema(list(zip(EDGES, types, strict=True))), 0
    with pq.ParquetWriter(file, schema) as writer:
        for batch in ask(_EDGES, asdict(choice)):
            columns = [pa.array(c, t) for c, t in zip(zip(*batch, strict=True), types, strict=True)]
            writer.write_table(pa.table(columns, schema=schema))
            count += len(batch)
    return count


def write_gexf(ask: Asking, choice: Choice, file: IO[bytes]) -> int:
    """Writes a graph for Gephi; gives the number of its edges."""
    count = 0
    with (
        _document(file) as xml,
        _inside(xml, "gexf", xmlns="http://gexf.net/1.3", version="1.3"),
        _inside(xml, "graph", defaultedgetype="directed", timeformat="date"),
    ):
        with _inside(xml, "nodes"):
            for number, name in _nodes(ask, choice):
                _empty(xml, "node", id=number, label=name)
        with _inside(xml, "edges"):
            for source, target, _, _, begun, ended in _each(ask, choice):
                count += 1
                spell = {"start": begun.date()} | ({"end": ended.date()} if ended else {})
                _empty(xml, "edge", id=count, source=source, target=target, **spell)
    return count


def write_graphml(ask: Asking, choice: Choice, file: IO[bytes]) -> int:
    """Writes a graph for igraph, networkx and others; gives the number of its edges."""
    count = 0
    with (
        _document(file) as xml,
        _inside(xml, "graphml", xmlns="http://graphml.graphdrawing.org/xmlns"),
    ):
        for key, kind in (("name", "node"), ("valid_from", "edge"), ("valid_to", "edge")):
            described = {"for": kind, "attr.name": key, "attr.type": "string"}
            _empty(xml, "key", id=key, **described)
        with _inside(xml, "graph", edgedefault="directed"):
            for number, name in _nodes(ask, choice):
                with _inside(xml, "node", id=number):
                    _data(xml, "name", name)
            for source, target, _, _, begun, ended in _each(ask, choice):
                count += 1
                with _inside(xml, "edge", source=source, target=target):
                    for key, at in (("valid_from", begun), ("valid_to", ended)):
                        _data(xml, key, at.isoformat() if at else "")
    return count


WRITERS: Mapping[str, Callable[[Asking, Choice, IO[bytes]], int]] = {
    "csv": write_csv,
    "parquet": write_parquet,
    "gexf": write_gexf,
    "graphml": write_graphml,
}


def _csv(names: Sequence[str], rows: Rows, file: IO[bytes]) -> int:
    count, text = 0, io.TextIOWrapper(file, "utf-8", newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(names)
    for batch in rows:
        writer.writerows([_cell(value) for value in row] for row in batch)
        count += len(batch)
    # Not closed with it: the file goes on.
    text.detach()
    return count


def _cell(value: object) -> object:
    return value.isoformat() if isinstance(value, datetime) else value


def _each(ask: Asking, choice: Choice) -> Iterator[tuple[Any, ...]]:
    for batch in ask(_EDGES, asdict(choice)):
        yield from batch


def _nodes(ask: Asking, choice: Choice) -> Iterable[tuple[int, str]]:
    for batch in ask(_DEGREES, asdict(choice)):
        for number, name, *_ in batch:
            yield number, name or str(number)


# -- XML, a piece at a time: a graph may have millions of edges ------------------------------------


@contextmanager
def _document(file: IO[bytes]) -> Iterator[XMLGenerator]:
    xml = XMLGenerator(file, "utf-8", short_empty_elements=True)
    xml.startDocument()
    yield xml
    xml.endDocument()


@contextmanager
def _inside(xml: XMLGenerator, tag: str, **attributes: object) -> Iterator[None]:
    xml.startElement(tag, AttributesImpl({name: str(value) for name, value in attributes.items()}))
    yield
    xml.endElement(tag)
    xml.ignorableWhitespace("\n")


def _empty(xml: XMLGenerator, tag: str, **attributes: object) -> None:
    with _inside(xml, tag, **attributes):
        pass


def _data(xml: XMLGenerator, key: str, text: str) -> None:
    if text:
        xml.startElement("data", AttributesImpl({"key": key}))
        xml.characters(text)
        xml.endElement("data")


# An edge may be in two lists: that of the one who follows, and that of the one who is followed.
_CHOSEN: LiteralString = """
WITH edge AS MATERIALIZED (
    SELECT DISTINCT ON (follower_id, followed_id) follower_id, followed_id, valid_from, valid_to
    FROM follows
    WHERE CASE WHEN %(at)s::timestamptz IS NULL THEN valid_to IS NULL
        ELSE valid_from <= %(at)s AND (valid_to IS NULL OR valid_to > %(at)s) END
    ORDER BY follower_id, followed_id, valid_from
), chosen AS (
    SELECT e.* FROM edge e
    WHERE (NOT %(between)s OR (
        EXISTS (SELECT FROM crawl_walk w WHERE w.user_id = e.follower_id)
        AND EXISTS (SELECT FROM crawl_walk w WHERE w.user_id = e.followed_id)
    ))
    AND (NOT %(mutual)s OR EXISTS (
        SELECT FROM edge r
        WHERE r.follower_id = e.followed_id AND r.followed_id = e.follower_id
    ))
)
"""
_EDGES: LiteralString = f"""{_CHOSEN}
SELECT c.follower_id, c.followed_id, a.username, b.username, c.valid_from, c.valid_to
FROM chosen c LEFT JOIN x_user a ON a.id = c.follower_id LEFT JOIN x_user b ON b.id = c.followed_id
ORDER BY 1, 2
"""  # noqa: S608 - only texts of this module
_DEGREES: LiteralString = f"""{_CHOSEN}
SELECT d.id, u.username, sum(d.followers)::bigint, sum(d.following)::bigint, sum(d.mutual)::bigint
FROM (
    SELECT followed_id AS id, 1 AS followers, 0 AS following, 0 AS mutual FROM chosen
    UNION ALL SELECT follower_id, 0, 1, 0 FROM chosen
    UNION ALL SELECT c.follower_id, 0, 0, 1 FROM chosen c JOIN chosen r
        ON r.follower_id = c.followed_id AND r.followed_id = c.follower_id
) AS d LEFT JOIN x_user u ON u.id = d.id
GROUP BY 1, 2 ORDER BY 1
"""  # noqa: S608 - only texts of this module
