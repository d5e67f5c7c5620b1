"""Advice for a connection that was not made: one for each cause, and the options to look at."""

from __future__ import annotations

import re

import psycopg

from tweetcrawler.errors import DatabaseUnreachable
from tweetcrawler.postgres.connection import first_line

# libpq tells a cause by its text only: a connection that failed has no SQLSTATE. The first row
# that fits decides. Each is (what libpq or the server says, what to do, options to look at).
# https://www.postgresql.org/docs/current/libpq-connect.html
_CAUSES: tuple[tuple[str, str, tuple[str, ...]], ...] = (
    (
        r"failed to resolve host|could not translate host name|Name or service not known",
        "no server has this name: correct dbhost, or look at the name service",
        ("dbhost",),
    ),
    (
        r"no password supplied",
        "the server wants a password: write it into ~/.pgpass, or set TWEETCRAWLER_DBPASS",
        ("dbuser", "dbpass"),
    ),
    (
        r"password authentication failed|authentication failed for user",
        "the role or its password is wrong: correct dbuser, or the password",
        ("dbuser", "dbpass"),
    ),
    (
        r'database ".*" does not exist',
        "create the database with createdb, or correct dbname",
        ("dbname",),
    ),
    (
        r'role ".*" does not exist',
        "create the role with createuser, or correct dbuser",
        ("dbuser",),
    ),
    (
        r"no pg_hba\.conf entry|pg_hba\.conf rejects",
        "the server lets this role in from elsewhere only: add a line to its pg_hba.conf",
        ("dbhost", "dbuser", "dbname"),
    ),
    (
        r"SSL|certificate|\bTLS\b",
        "the two do not agree on TLS: set sslmode and sslrootcert in dbname, or PGSSLMODE",
        ("dbhost", "dbname"),
    ),
    (
        r"Connection refused|No such file or directory",
        "nothing listens there: start PostgreSQL, or correct dbhost and dbport",
        ("dbhost", "dbport"),
    ),
    (
        r"timeout expired|timed out|No route to host|Network is unreachable",
        "no answer comes from there: look at dbhost, the network and its firewalls",
        ("dbhost", "dbport"),
    ),
    (
        r"too many clients|remaining connection slots|too many connections",
        "the server is full: end other connections, raise max_connections, or lower Threads",
        (),
    ),
    (
        r"database system is|the database system",
        "the server is starting or stopping: try again in a minute",
        (),
    ),
)
_OTHERWISE = "look at dbhost, dbname, dbuser and dbpass", ("dbhost", "dbname", "dbuser", "dbpass")
# What psycopg and libpq put before the cause.
_BEFORE = re.compile(r"^(?:connection (?:failed|is bad): )?(?:connection to server .*? failed: )?")


def unreachable(error: psycopg.Error, place: str) -> DatabaseUnreachable:
    """The error for a connection that was not made: what is wrong, and what to do about it."""
    said = first_line(error)
    # libpq tries each address of a name, and says a line about each.
    found = next((row for row in _CAUSES if re.search(row[0], str(error))), None)
    advice, options = found[1:] if found else _OTHERWISE
    cause = _BEFORE.sub("", said)
    refused = DatabaseUnreachable(f"the {place} cannot be used: {cause}; {advice}")
    refused.about = options
    pgconn = error.pgconn
    refused.wants_password = bool(pgconn is not None and pgconn.needs_password)
    return refused
