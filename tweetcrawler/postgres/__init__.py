"""Statements of PostgreSQL by table, used through `db`."""
