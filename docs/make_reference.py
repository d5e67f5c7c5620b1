"""Writes the lists of commands and options into docs/reference.md, from the grammars that
read them.

python docs/make_reference.py            rewrites the lists python docs/make_reference.py
--check    says whether they are as they should be (exit 1 when not)
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

from tweetcrawler.sandbox import __main__ as sandbox
from tweetcrawler.settings import options

REFERENCE = Path(__file__).parent / "reference.md"

_DEFAULT = re.compile(r"\s*\(default(?::| (?=with ))\s*(?P<default>.*)\)$")
_WORD_BY_DEFAULT = re.compile(
    r"; (?P<word>\w+): (?P<meaning>[^()]*) \(default (?P<when>when [^()]*)\)$"
)
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
    parser = options.Grammar(Path(), {}).parser
    [command] = [action for action in parser._actions if action.dest == "command"]
    for entry in _help(parser, command).split("; "):
        words, _, meaning = entry.partition(": ")
        word, _, remark = words.partition(" (")
        remark = f" ({remark}" if remark else ""
        yield _cells(_code(word) + remark, meaning or f"the same as `--{word}`")


def _options() -> Iterator[str]:
    grammar = options.Grammar(Path(), {})
    for group in grammar.parser._action_groups:
        actions = [action for action in group._group_actions if action.option_strings]
        if not actions:
            continue
        yield f"\n### {group.title}\n"
        if group.description:
            yield f"```text\n{group.description}\n```\n"
        yield "| option | in tweet.ini | variable | default | meaning |"
        yield "|---|---|---|---|---|"
        yield from (_row(grammar, action) for action in actions)


def _row(grammar: options.Grammar, action: argparse.Action) -> str:
    long = [name for name in action.option_strings if name.startswith("--")]
    option = grammar.by_name[long[0].lower()]
    value = f" {action.metavar}" if action.metavar else ""
    names = (
        ", ".join(f"`{name}{value}`" for name in action.option_strings)
        if option.on_command_line
        else _NOTHING
    )
    key = _spelled(grammar, long[-1]) if option.in_file else None
    meaning, default = _meaning_and_default(_help(grammar.parser, action))
    if option.is_flag:
        default = default or "off"
    variable = getattr(action, "env_var", None)
    return _cells(names, _code(key), _code(variable), default or "none", meaning)


def _spelled(grammar: options.Grammar, name: str) -> str:
    """The name of a key as the example file spells it."""
    return next(s for s in grammar.spellings if s.lower() == name.strip("-").lower())


def _help(parser: argparse.ArgumentParser, action: argparse.Action) -> str:
    if action.help == argparse.SUPPRESS:
        return (
            "password of the role; it has no option, since everyone on the machine can read a "
            "command line"
        )
    return parser._get_formatter()._expand_help(action)


def _meaning_and_default(text: str) -> tuple[str, str]:
    match = _WORD_BY_DEFAULT.search(text)
    if match:
        return (
            f"{text[: match.start()]}; `{match['word']}`: {match['meaning']}",
            f"`{match['word']}` {match['when']}",
        )
    match = _DEFAULT.search(text)
    return (text[: match.start()], match["default"]) if match else (text, "")


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


_LISTS: dict[str, Callable[[], Iterator[str]]] = {
    "commands": _commands,
    "options": _options,
    "options of the sandbox": _sandbox_options,
}

if __name__ == "__main__":
    sys.exit(main())
