"""Statements of PostgreSQL by table; `db` is the door to them."""
