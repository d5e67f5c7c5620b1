"""Bulk collector of X (Twitter) into PostgreSQL."""

__version__ = "0.1.0"
