"""Writes the completions of the shells and the man page into share/, from the tables of options.

`python docs/make_share.py` rewrites the files. With `--check` it says whether they are as
they should be (exit 1 when not).
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

import shtab
from argparse_manpage.manpage import Manpage

import tweetcrawler
from tweetcrawler.settings import help as pages
from tweetcrawler.settings.commands import Command, all_commands, common_options
from tweetcrawler.settings.groups import COMMON
from tweetcrawler.settings.options import NO_COMMAND_LINE, Option
from tweetcrawler.settings.types import OneOf, file_or_dash, on_off

SHARE = Path(__file__).parent.parent / "share"
# The folders in which each shell looks, below a prefix such as /usr/share.
COMPLETIONS = {
    "bash": "bash-completion/completions/tweetcrawler",
    "zsh": "zsh/site-functions/_tweetcrawler",
    "fish": "fish/vendor_completions.d/tweetcrawler.fish",
}
MAN_PAGE = "man/man1/tweetcrawler.1"


def main() -> int:
    """Rewrites the files, or checks them; gives the exit code."""
    for name, text in _files():
        path = SHARE / name
        if "--check" not in sys.argv[1:]:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, "utf-8")
        elif not path.is_file() or path.read_text("utf-8") != text:
            sys.exit(f"share/{name} is behind the program: run `python docs/make_share.py`")
    return 0


def _files() -> Iterator[tuple[str, str]]:
    for shell, name in COMPLETIONS.items():
        yield name, shtab.complete(_completed(), shell)
    yield MAN_PAGE, _man_page()


def _completed() -> argparse.ArgumentParser:
    """The command line for a shell: each command takes its own options and the common ones."""
    parser = argparse.ArgumentParser("tweetcrawler", add_help=False)
    _add(parser, common_options())
    commands = parser.add_subparsers()
    for command in all_commands().values():
        below = commands.add_parser(command.name, help=_plain(command.summary), add_help=False)
        own = {name for option in command.options for name in option.names}
        _add(below, command.options)
        if not command.takes_rest:
            _add(below, (o for o in common_options() if own.isdisjoint(o.names)))
        if command.name == "help":
            below.add_argument("topic", nargs="?", choices=[*all_commands(), pages.OPTIONS])
        elif command.words:
            # Some commands take a file here; of handles and queries a shell knows nothing.
            _with_files(below.add_argument("words", nargs="*", help=command.words.shown))
    return parser


def _man_page() -> str:
    """The manual: the common options once, then each command with its own and its examples."""
    parser = argparse.ArgumentParser(
        "tweetcrawler",
        usage="tweetcrawler [command] [words] [options]",
        description="Nothing is lost, nothing is bought twice, no window is overrun.",
        add_help=False,
    )
    for group in COMMON:
        _add(parser.add_argument_group(group.title), group.options)
    commands = parser.add_subparsers(title="commands")
    for command in all_commands().values():
        below = commands.add_parser(
            command.name,
            help=_plain(command.summary),
            description=_plain(f"{command.summary[:1].upper()}{command.summary[1:]}."),
            usage=command.usage,
            add_help=False,
        )
        _add(below, command.options)
    page = Manpage(
        parser,
        {
            "project_name": "tweetcrawler",
            "description": "collects posts of X into PostgreSQL",
            "version": tweetcrawler.__version__,
            "manual_title": "User Commands",
            # No day: the page of a version is the same whenever it is made.
            "date": tweetcrawler.__version__,
        },
    )
    page.add_section("exit status", "=", _preformatted(pages.EXIT_CODES.partition("\n")[2]))
    page.add_section("examples", "=", _preformatted("\n".join(_examples(all_commands().values()))))
    return str(page)


def _add(parser: argparse._ActionsContainer, options: Iterable[Option]) -> None:
    for option in options:
        if option.places == NO_COMMAND_LINE:
            continue
        text = _plain(option.help)
        if option.is_switch:
            parser.add_argument(*option.shown, action="store_true", help=text)
            continue
        choices = option.type.choices if isinstance(option.type, OneOf) else None
        if option.type is on_off:
            choices = ("on", "off")
        action = parser.add_argument(
            *option.shown, metavar=option.metavar or None, choices=choices, help=text
        )
        if option.type in (Path, file_or_dash):
            _with_files(action)


def _with_files(action: argparse.Action) -> None:
    action.complete = shtab.FILE  # type: ignore[attr-defined]


def _examples(commands: Iterable[Command]) -> Iterator[str]:
    for command in commands:
        for line, meaning in command.examples:
            yield f"# {meaning}"
            yield line
        yield ""


def _preformatted(text: str) -> str:
    """Lines that the formatter of the page leaves as they are."""
    escaped = text.replace("\\", "\\e").replace("-", "\\-").replace("'", "\\(aq")
    lines = (
        f"\\&{line}" if line.startswith((".", "\\(aq")) else line for line in escaped.split("\n")
    )
    return "\n".join([".nf", *lines, ".fi"])


def _plain(text: str) -> str:
    """A text in which argparse finds nothing to fill in."""
    return text.replace("%", "%%")


if __name__ == "__main__":
    sys.exit(main())
