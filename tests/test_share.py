"""The completions and the man page, by the programs that read them."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tweetcrawler.settings.commands import all_commands

SHARE = Path(__file__).parent.parent / "share"
BASH = """
source "$1"; shift
COMP_WORDS=(tweetcrawler "$@"); COMP_CWORD=$#
_shtab_tweetcrawler 2>/dev/null
printf '%s\\n' "${COMPREPLY[@]}"
"""
# Not of the terminal, which zsh would want: the function that the file defines, called alone.
ZSH = "autoload -Uz compinit; compinit -D -u; source $1; whence -w _shtab_tweetcrawler"
FISH = 'source $argv[1]; complete -C "$argv[2]"'


def said_by(shell: str, *arguments: str | Path) -> str:
    if not shutil.which(shell):
        pytest.skip(f"{shell} is not here")
    done = subprocess.run(
        [shell, *arguments], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def by_bash(words: list[str]) -> set[str]:
    file = SHARE / "bash-completion/completions/tweetcrawler"
    return set(said_by("bash", "-c", BASH, "bash", file, *words).split())


def by_fish(words: list[str]) -> set[str]:
    file = SHARE / "fish/vendor_completions.d/tweetcrawler.fish"
    lines = said_by("fish", "-N", "-c", FISH, file, " ".join(["tweetcrawler", *words]))
    return {line.split("\t")[0] for line in lines.splitlines()}


@pytest.mark.parametrize("offers", [by_bash, by_fish])
def test_a_shell_offers_commands_options_and_values(
    offers: Callable[[list[str]], set[str]],
) -> None:
    assert offers(["hy"]) == {"hydrate"}
    assert offers(["export", "--form"]) == {"--format"}
    assert offers(["export", "--format", "par"]) == {"parquet"}
    assert offers(["crawl", "--sentiment", "o"]) == {"on", "off"}
    assert offers(["help", "hyd"]) == {"hydrate"}
    assert offers(["--budget-per-"]) == {"--budget-per-day", "--budget-per-month"}


def test_a_file_is_offered_where_an_option_takes_one(tmp_path: Path) -> None:
    (tmp_path / "handles.txt").touch()
    assert by_bash(["crawl", "--handles", f"{tmp_path}/ha"]) == {f"{tmp_path}/handles.txt"}


def test_zsh_loads_its_completion() -> None:
    file = SHARE / "zsh/site-functions/_tweetcrawler"
    assert "function" in said_by("zsh", "-f", "-c", ZSH, "zsh", file)


def test_the_man_page_shows_every_command_and_its_examples() -> None:
    page = said_by("man", "-l", SHARE / "man/man1/tweetcrawler.1")
    for command in all_commands().values():
        assert f"tweetcrawler {command.name}" in page
        assert command.examples[0][0].split("  ")[0] in page
    warnings = subprocess.run(
        ["man", "--warnings", "-l", SHARE / "man/man1/tweetcrawler.1"],
        capture_output=True,
        check=True,
    )
    assert warnings.stderr == b""
