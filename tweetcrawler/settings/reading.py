"""One call read from all places: arguments, environment and file become settings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any, TypeVar

from tweetcrawler.errors import ConfigurationError
from tweetcrawler.settings import Money, Place, Settings
from tweetcrawler.settings.commands import Command, Grammar, common_options
from tweetcrawler.settings.groups import DEFAULT_CSV_FOLDER
from tweetcrawler.settings.options import folded
from tweetcrawler.settings.parser import CommandParser, find_command, words_of
from tweetcrawler.settings.sources import config_file, read_file, read_variables
from tweetcrawler.settings.types import PathIn

_Filled = TypeVar("_Filled")


def parse(argv: Sequence[str], environ: Mapping[str, str], folder: Path) -> Settings:
    """The settings of a call; see `settings.parse`."""
    grammar, paths = Grammar(), PathIn(folder, environ.get("HOME"))
    call = find_command(argv, grammar)
    command = call.command
    parser = CommandParser(call, grammar, paths)
    said, words = parser.command_line()
    path: Path | None = None
    notes: tuple[str, ...] = ()
    if command.reads_file:
        variables, notes = read_variables(environ, grammar, paths)
        path = config_file(said.get("--config") or variables.get("--config"), folder)
        file, more_notes = read_file(path, grammar, paths) if path else ({}, ())
        said, notes = parser.all_places(variables, file), notes + more_notes
    # After the file: a fault in it is told first, as it concerns every call.
    filled = words_of(command, call.topic or words, paths)
    if command.takes_rest:
        filled["rest"] = call.rest
    return _settings(command, said, filled, path, paths, notes)


def _settings(
    command: Command,
    said: Mapping[str, Any],
    words: Mapping[str, Any],
    path: Path | None,
    paths: PathIn,
    notes: tuple[str, ...],
) -> Settings:
    common = {o.fills: said[n] for o in common_options() if (n := folded(o.name)) in said}
    if common.get("dry_run") and not command.takes_dry_run:
        raise ConfigurationError(f"{command.name} has no dry run; leave out --dry-run.")
    place = _filled(Place, common)
    values = _values(command, said, words)
    # Next to the file, so that a crawl started from any folder finds its list.
    common.setdefault("handles_file", (path.parent if path else paths.folder) / "handles.txt")
    if place.csv_folder is None and place.sink == "csv":
        common["csv_folder"] = paths(DEFAULT_CSV_FOLDER)
    return _filled(
        Settings,
        {
            **common,
            "command": command.name,
            "values": values,
            "config_file": path,
            "sink": place.sink,
            "database": place.database() if place.sink == "postgresql" else None,
            "money": _filled(Money, common),
            "notes": notes,
        },
    )


def _values(command: Command, said: Mapping[str, Any], words: Mapping[str, Any]) -> Any:
    """The values of a command; words and a repeated option may fill the same field."""
    given = dict(words)
    for option in command.options:
        name = folded(option.name)
        if name in said:
            earlier = given.get(option.fills, ()) if option.is_repeated else ()
            given[option.fills] = (*earlier, *said[name]) if option.is_repeated else said[name]
    return command.values(**given)


def _filled(kind: type[_Filled], given: Mapping[str, Any]) -> _Filled:
    names = {each.name for each in fields(kind)}  # type: ignore[arg-type]  # a dataclass
    return kind(**{name: value for name, value in given.items() if name in names})
