"""Kinds of work that ask X: one file each, and the reading of X's answers."""
