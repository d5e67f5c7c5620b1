"""Writes the lists of commands and options into docs/reference.md, from the tables of commands.

`python docs/make_reference.py` rewrites the lists. With `--check` it says whether they are as
they should be (exit 1 when not).
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import tweetcrawler
from tweetcrawler.sandbox import __main__ as sandbox
from tweetcrawler.settings import help as pages
from tweetcrawler.settings.commands import DEFAULT_COMMAND, Command
from tweetcrawler.settings.groups import COMMON
from tweetcrawler.settings.options import NO_COMMAND_LINE, Option

REFERENCE = Path(__file__).parent / "reference.md"
SCHEMA = Path(tweetcrawler.__file__).with_name("documents.json")

_NOTHING = "-"


def main() -> int:
    """Rewrites the lists, or checks them; gives the exit code."""
    old = REFERENCE.read_text("utf-8")
    new = old
    for name, lines in _LISTS.items():
        new = _with_list(new, name, lines())
    if "--check" in sys.argv[1:]:
        if new == old:
            return 0
        sys.exit("docs/reference.md is behind the program: run `python docs/make_reference.py`")
    REFERENCE.write_text(new, "utf-8")
    return 0


def _with_list(text: str, name: str, lines: Iterator[str]) -> str:
    begin, end = f"<!-- {name}: made by docs/make_reference.py -->\n", f"<!-- end of {name} -->"
    before, found, rest = text.partition(begin)
    _, found_end, after = rest.partition(end)
    if not found or not found_end:
        sys.exit(f"{REFERENCE} has no place for the {name}: it must hold the lines {begin}{end}")
    return before + begin + "\n".join(lines) + "\n\n" + end + after


def _commands() -> Iterator[str]:
    yield "\n| command | does |"
    yield "|---|---|"
    for _, commands in pages.by_group():
        for command in commands:
            words = f" {command.words.shown}" if command.words else ""
            remark = " (default)" if command.name == DEFAULT_COMMAND else ""
            yield _cells(_code(command.name + words) + remark, command.summary)


def _options() -> Iterator[str]:
    """The options of all commands by their groups, then each command with its own."""
    for group in COMMON:
        yield from _table(group.title, group.about, group.options, None)
    for _, commands in pages.by_group():
        for command in commands:
            yield from _table(command.name, command.about, command.options, command)


def _table(
    title: str, about: str, options: Sequence[Option], command: Command | None
) -> Iterator[str]:
    parts = [f"\n### {title}"]
    if command:
        parts.append(f"`{command.usage}`: {command.summary}.")
    prose, _, table = about.partition("\n ")
    parts += [prose.replace("\n", " ")] if prose.strip() else []
    parts += [f"```text\n {table}\n```"] if table else []
    if command:
        parts.append(f"Price: {' '.join(command.price.split())}")
    rows = [_row(option, command) for option in options]
    if command and command.flags:
        names = ", ".join(map(_code, command.flags))
        meaning = f"the same as the command {command.name}"
        rows.append(_cells(names, _NOTHING, _NOTHING, "off", meaning))
    if rows:
        heading = "| option | in tweet.ini | variable | default | meaning |\n|---|---|---|---|---|"
        parts.append("\n".join([heading, *rows]))
    yield "\n\n".join(parts)


def _row(option: Option, command: Command | None) -> str:
    value = f" {option.metavar}" if option.metavar else ""
    names = ", ".join(f"`{name}{value}`" for name in option.shown)
    default = pages.default_of(option, command.values if command else None)
    return _cells(
        names if option.places != NO_COMMAND_LINE else _NOTHING,
        _code(option.spelled if option.in_file else None),
        _code(option.variable),
        default or ("off" if option.is_switch else "none"),
        f"{option.help}. {option.more}" if option.more else option.help,
    )


def _code(text: str | None) -> str:
    return f"`{text}`" if text else _NOTHING


def _sandbox_options() -> Iterator[str]:
    yield "\n| option | meaning (default) |"
    yield "|---|---|"
    parser = sandbox._parser()
    for action in parser._actions:
        value = f" {action.metavar or action.dest.upper()}" if action.nargs != 0 else ""
        if action.choices:
            value = f" {'|'.join(map(str, action.choices))}"
        names = ", ".join(f"`{name}{value}`" for name in action.option_strings)
        yield _cells(names, parser._get_formatter()._expand_help(action))


def _cells(*cells: str) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def _documents() -> Iterator[str]:
    """The documents of `--json`, from their schema: the common keys, then each by its title."""
    schema = json.loads(SCHEMA.read_text("utf-8"))
    yield from _keys("every document", schema)
    for answer in schema["anyOf"]:
        one = schema["$defs"][answer["$ref"].rpartition("/")[2]]
        yield from _keys(one["description"], one)


def _keys(title: str, schema: Mapping[str, Any]) -> Iterator[str]:
    yield f"\n**{title[:1].upper()}{title[1:]}**\n"
    yield "| key | form | means |"
    yield "|---|---|---|"
    for name, value in schema["properties"].items():
        yield _cells(_code(name), _form(value), value.get("description", _NOTHING))


def _form(value: Mapping[str, Any]) -> str:
    if "const" in value:
        return f"the number {value['const']}"
    if "$ref" in value:
        return str(value["$ref"].rpartition("/")[2])
    if "anyOf" in value:
        return " or ".join(map(_form, value["anyOf"]))
    kinds = [value["type"]] if isinstance(value["type"], str) else value["type"]
    return " or ".join("time" if "format" in value and k == "string" else k for k in kinds)


_LISTS: dict[str, Callable[[], Iterator[str]]] = {
    "commands": _commands,
    "options": _options,
    "options of the sandbox": _sandbox_options,
    "documents": _documents,
}

if __name__ == "__main__":
    sys.exit(main())
