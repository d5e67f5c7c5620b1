"""A reader of PostgreSQL's array literals.

By the rules of its documentation, not by those of the program.
"""

from __future__ import annotations


def parsed(literal: str) -> list[str | None]:
    """The elements of a one-dimensional literal; NULL is None.

    ValueError for a text that array_in would refuse.
    """
    if literal[:1] != "{" or literal[-1:] != "}":
        raise ValueError(f"no array: {literal!r}")
    body, elements, position = literal[1:-1], [], 0
    while body:
        element, position = _element(body, position)
        elements.append(element)
        if position == len(body):
            break
        if body[position] != ",":
            raise ValueError(f"no comma at {position}: {literal!r}")
        position += 1
    return elements


def _element(body: str, position: int) -> tuple[str | None, int]:
    if body[position : position + 1] == '"':
        return _quoted(body, position + 1)
    end = body.find(",", position)
    end = len(body) if end < 0 else end
    bare = body[position:end]
    if not bare or any(character in '{}"\\ \t\n\r\v\f' for character in bare):
        raise ValueError(f"must be quoted: {bare!r}")
    return (None if bare.upper() == "NULL" else bare), end


def _quoted(body: str, position: int) -> tuple[str, int]:
    characters = []
    while body[position] != '"':
        position += body[position] == "\\"
        characters.append(body[position])
        position += 1
    return "".join(characters), position + 1


def parsed_or_none(literal: str | None) -> list[str | None]:
    """The elements of a list column, none where nothing is told of them."""
    return [] if literal is None else parsed(literal)
