"""The pages are true: their commands, options, queries, tables and links are held against
the program.
"""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from tweetcrawler import __version__, settings
from tweetcrawler.commands import db
from tweetcrawler.errors import ConfigurationError
from tweetcrawler.sandbox.__main__ import parse as parse_sandbox
from tweetcrawler.settings.commands import all_commands

ROOT = Path(__file__).parent.parent
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/*.md")])
REFERENCE = ROOT / "docs" / "reference.md"

FENCE = re.compile(
    r"^(?P<indent> *)```(?P<language>\w*)\n(?P<text>.*?)^(?P=indent)```$", re.MULTILINE | re.DOTALL
)
PROGRAM = re.compile(r"(?:^|(?<=[\s(\"`=]))(?:\S*/)?tweetcrawler(?= |$)")


def blocks(page: Path, *languages: str) -> Iterator[str]:
    for fence in FENCE.finditer(page.read_text("utf-8")):
        if fence["language"] in languages:
            indent = len(fence["indent"])
            yield "".join(line[indent:] for line in fence["text"].splitlines(keepends=True))


def name_of(page: Path) -> str:
    return str(page.relative_to(ROOT))


# --- the two commands -----------------------------------------------------------------------------


def recipes() -> dict[str, list[str]]:
    """Target of the Makefile -> its lines."""
    found: dict[str, list[str]] = {}
    target = ""
    for line in (ROOT / "Makefile").read_text("utf-8").splitlines():
        if line.startswith("\t"):
            found[target].append(line.strip())
        elif match := re.match(r"([\w.$()/-]+):(?!=)", line):
            target = match[1]
            found.setdefault(target, [])
    return found


def test_the_two_commands_of_the_readme_are_targets_and_ci_runs_the_tests_by_them() -> None:
    first = next(blocks(ROOT / "README.md", "sh")).split("\n")
    assert first == ["make demo", "make test", ""]
    assert recipes()["demo"]
    assert recipes()["test"]
    assert "make test" in (ROOT / ".ci" / "run").read_text("utf-8").splitlines()


def test_the_lines_behind_the_two_commands_are_those_of_the_makefile() -> None:
    """What `make` does, the README says in plain lines, once with pip and once with uv."""
    makes = recipes()
    lines = []
    for target in ("$(VENV)/to-run", "demo", "$(VENV)/to-develop", "test"):
        lines += [
            line.partition(" || ")[2] or line
            for line in makes[target]
            if not line.startswith("touch ")
        ]
    for variable, value in {
        "$(VENV)": ".venv",
        "$(PYTHON)": "python3",
        "$(PIP)": ".venv/bin/python -m pip",
    }.items():
        lines = [line.replace(variable, value) for line in lines]
    _, with_pip, with_uv, *_ = blocks(ROOT / "README.md", "sh")
    assert with_pip.splitlines() == lines
    in_uv = {"python3 -m venv .venv": "uv venv", ".venv/bin/python -m pip ": "uv pip "}
    for pip, uv in in_uv.items():
        lines = [line.replace(pip, uv) for line in lines]
    assert with_uv.splitlines() == lines


def test_make_shows_pip_at_work() -> None:
    [pip] = re.findall(r"^PIP := (.*)$", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE)
    assert not re.search(r" (-q+|--quiet)\b", pip)


def test_every_make_target_that_a_page_names_exists() -> None:
    named = {
        target
        for page in PAGES
        for target in re.findall(r"\bmake ([a-z]+)\b(?=`|\n)", page.read_text("utf-8"))
    }
    assert {"demo", "test", "slow", "lint"} <= named
    assert named <= set(recipes())


# --- options and commands -------------------------------------------------------------------------


@pytest.mark.parametrize("maker", ["make_reference.py", "make_share.py"])
def test_what_is_written_from_the_options_is_as_they_are(maker: str) -> None:
    done = subprocess.run(
        [sys.executable, ROOT / "docs" / maker, "--check"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def section(page: Path, heading: str) -> str:
    """What stands under a heading, up to the next one of its level or above."""
    text = page.read_text("utf-8")
    start = re.search(rf"^(#+) {re.escape(heading)}$", text, re.MULTILINE)
    assert start, f"{name_of(page)} has no heading {heading}"
    rest = text[start.end() :]
    end = re.search(rf"^#{{1,{len(start[1])}}} ", rest, re.MULTILINE)
    return rest[: end.start()] if end else rest


def help_pages() -> str:
    """The pages of all commands, and of the options that are common to them."""
    topics = (*all_commands(), "options")
    return "\n\n".join(settings.help_text(topic) for topic in topics)


def test_the_reference_has_every_option_of_the_help_and_no_other() -> None:
    """Not by way of the script that writes the list: by what the help prints."""
    helped = set(
        re.findall(r"--[A-Za-z][\w-]*", " ".join(re.findall(r"^  -.*", help_pages(), re.MULTILINE)))
    )
    cells = re.findall(r"^\| (`-(?:\\\||[^|])*) \|", section(REFERENCE, "Options"), re.MULTILINE)
    listed = set(re.findall(r"`(--[A-Za-z][\w-]*)", "\n".join(cells)))
    assert len(helped) > 50
    assert listed == helped


def test_the_reference_gives_every_default_of_the_help() -> None:
    text = " ".join(help_pages().split())
    rows = section(REFERENCE, "Options")
    defaults = re.findall(r"\(default: ([^()]+)\)", text)
    assert len(defaults) > 25
    missing = [default for default in defaults if f"| {default} |" not in rows.replace("\\|", "|")]
    assert missing == []


def _first_cells(table: str) -> str:
    return "\n".join(re.findall(r"^\| ((?:\\\||[^|])*) \|", table, re.MULTILINE))


def test_the_reference_has_every_command() -> None:
    words = set(
        re.findall(r"^`([a-z-]+)", _first_cells(section(REFERENCE, "Commands")), re.MULTILINE)
    )
    assert words == set(all_commands())
    for name in all_commands():
        assert f"tweetcrawler {name}" in section(REFERENCE, name)
    assert set(db.ACTIONS) == set(
        re.findall(r"^  ([a-z]+)  ", section(REFERENCE, "db"), re.MULTILINE)
    )


@pytest.mark.parametrize("page", [ROOT / "README.md", REFERENCE], ids=name_of)
def test_exit_codes_are_those_of_the_help(page: Path) -> None:
    help_codes = set(
        re.findall(
            r"^ +(\d+)  ", settings.help_text("options").partition("exit codes:")[2], re.MULTILINE
        )
    )
    table = page.read_text("utf-8").partition("| code | means |")[2].partition("\n\n")[0]
    assert {
        code
        for cell in re.findall(r"^\| ([\d, ]+) \|", table, re.MULTILINE)
        for code in cell.split(", ")
    } == help_codes


def command_lines() -> Iterator[tuple[Path, str]]:
    """Every call of the program in a block of shell, a service file or a crontab, and in
    `code`.
    """
    for page in PAGES:
        lines = "".join(blocks(page, "sh", "ini")).replace("\\\n", " ").splitlines()
        lines += [
            line
            for line in "".join(blocks(page, "text")).splitlines()
            if re.match(r"[\d*/]+( +[\d*/]+){4} ", line)
        ]
        for line in lines:
            for call in PROGRAM.finditer(line):
                before = line[: call.start()].strip()
                if not before or before.endswith(("$(", "ExecStart=", "*", "&&")):
                    yield page, line[call.start() :]
        for code in re.findall(
            r"(?<!`)`(tweetcrawler [^`]+)`(?!`)", FENCE.sub("", page.read_text("utf-8"))
        ):
            yield page, code


def arguments_of(line: str) -> list[str]:
    call = re.split(r"\)\"|\s\d?[|&;<>]", line, maxsplit=1)[0]
    return shlex.split(call, comments=True)[1:]


@pytest.mark.parametrize(
    ("page", "line"), sorted(set(command_lines())), ids=lambda value: Path(str(value)).name[:60]
)
def test_every_command_line_is_understood(page: Path, line: str, tmp_path: Path) -> None:
    arguments = arguments_of(line)
    usages = {"tweetcrawler [command] [words] [options]"}
    if line in usages | {command.usage for command in all_commands().values()}:
        return
    (tmp_path / "tweet.ini").write_text("dbhost = embedded\n")
    arguments = [
        str(tmp_path / "tweet.ini") if word.endswith(".ini") else word for word in arguments
    ]
    try:
        chosen = settings.parse(arguments, environ={}, folder=tmp_path)
    except ConfigurationError as error:
        pytest.fail(f"{name_of(page)}: {line}: {error}")
    if chosen.command == "sandbox" and chosen.values.rest != ("--help",):
        parse_sandbox(list(chosen.values.rest))


def test_every_command_has_an_example_in_the_how_to(tmp_path: Path) -> None:
    shown = set()
    for page, line in command_lines():
        if page.name == "how-to.md":
            words = [
                str(tmp_path / "tweet.ini") if word.endswith(".ini") else word
                for word in arguments_of(line)
            ]
            (tmp_path / "tweet.ini").write_text("dbhost = embedded\n")
            shown.add(settings.parse(words, environ={}, folder=tmp_path).command)
    assert shown >= set(all_commands()) - {"demo", "help", "version"}


def test_every_seed_is_a_command_that_exists_or_left_out_with_a_reason() -> None:
    table = (ROOT / "docs" / "seeds.md").read_text("utf-8")
    rows = re.findall(r"^\| ([A-Z]+-\d\d) \| (.+?) \| (.+) \|$", table, re.MULTILINE)
    ids = [number for number, _, _ in rows]
    assert len(ids) == len(set(ids)) >= 10
    assert len(ids) == len(re.findall(r"^\| [A-Z]+-", table, re.MULTILINE))
    for number, _, here in rows:
        words = {
            word
            for call in re.findall(r"`tweetcrawler ([^`]*)`", here)
            for word in [call.split()[0]]
        }
        assert words or here.startswith("left out: "), number
        assert {w for w in words if not w.startswith("-")} <= set(all_commands()), number


def test_command_lines_are_found() -> None:
    """The test above must not pass because nothing was found."""
    lines = {line for _, line in command_lines()}
    assert len(lines) > 15
    assert "tweetcrawler -c tweet.ini" in lines
    assert 'tweetcrawler db url)"' in lines
    assert any(line.startswith("/opt/tweetcrawler") for line in lines)


def ini_blocks() -> Iterator[tuple[Path, str]]:
    for page in PAGES:
        for block in blocks(page, "ini"):
            if re.search(r"^\[(Database|Twitter|System)\]", block, re.MULTILINE):
                yield page, block


@pytest.mark.parametrize(
    ("page", "block"), list(ini_blocks()), ids=lambda value: Path(str(value)).name[:20]
)
def test_every_example_of_a_file_is_read(page: Path, block: str, tmp_path: Path) -> None:
    (tmp_path / "tweet.ini").write_text(block)
    assert settings.parse([], environ={}, folder=tmp_path).config_file == tmp_path / "tweet.ini"


# --- SQL and tables -------------------------------------------------------------------------------


def sql_examples() -> Iterator[tuple[Path, str]]:
    for page in PAGES:
        for block in blocks(page, "sql"):
            yield page, block


def test_every_query_of_the_pages_runs(dsn: str) -> None:
    examples = list(sql_examples())
    assert len(examples) > 10
    with psycopg.connect(dsn) as connection:
        for page, query in examples:
            try:
                connection.execute(query.encode())
            except psycopg.Error as error:
                pytest.fail(f"{name_of(page)}: {error}\n{query}")
            connection.rollback()


def tables_of(dsn: str) -> dict[str, set[str]]:
    found: dict[str, set[str]] = {}
    with psycopg.connect(dsn) as connection:
        for table, column in connection.execute(
            "SELECT table_name, column_name FROM information_schema.columns "
            "WHERE table_schema = 'public'"
        ):
            found.setdefault(table, set()).add(column)
    return found


def test_the_reference_names_every_table_and_column_and_no_other(dsn: str) -> None:
    tables = tables_of(dsn)
    documented = set(re.findall(r"^### (\S+)$", section(REFERENCE, "Tables"), re.MULTILINE))
    assert documented == set(tables)
    wrong = {}
    for table, columns in tables.items():
        named = set(re.findall(r"`([a-z_0-9]+)`", _first_cells(section(REFERENCE, table))))
        if named != columns:
            wrong[table] = {"missing": columns - named, "not there": named - columns}
    assert wrong == {}


# --- links, and what no page may hold -------------------------------------------------------------


def anchors_of(page: Path) -> set[str]:
    """The anchors of a page's headings, as GitHub makes them."""
    text = FENCE.sub("", page.read_text("utf-8"))
    plain = (
        re.sub(r"[^\w\- ]", "", heading.lower())
        for heading in re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    )
    return {heading.strip().replace(" ", "-") for heading in plain}


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_link_inside_leads_somewhere(page: Path) -> None:
    dead = []
    for link in re.findall(r"\]\(([^)\s]+)\)", FENCE.sub("", page.read_text("utf-8"))):
        if re.match(r"[a-z]+:", link):
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        if not target.exists() or (anchor and anchor not in anchors_of(target)):
            dead.append(link)
    assert dead == []


def test_the_changes_name_this_version() -> None:
    assert re.search(
        rf"^## {re.escape(__version__)}\b", (ROOT / "CHANGELOG.md").read_text("utf-8"), re.MULTILINE
    )


# What git leaves out: made by commands, or an operator's own.
# `.git` is a folder, and in a worktree of git a file that names the folder of its repository.
MADE = {
    ROOT / name for name in ("demo", "dist", "build", "tweet.ini", "auth.csv", "uv.lock", ".git")
}
# Put together here, so that this file does not hold them itself.
INDEXES = (
    "pypi" + ".",
    "python" + "hosted.",
    "npm" + "js.",
    "index" + "-url http",
    "conda" + ".anaconda",
)
FOLDERS = re.compile(
    r"(?<![\w.$~}-])/(?:" + "work|root" + r")/\w|/(?:" + "Users|home" + r")/(?!me\b|ada\b)\w"
)


def own_files() -> Iterator[Path]:
    """The text files of the project, wherever it was unpacked."""
    for place, folders, files in os.walk(ROOT):
        here = Path(place)
        folders[:] = [
            name
            for name in folders
            if (not name.startswith(".") or name in {".ci", ".github"})
            and name != "__pycache__"
            and here / name not in MADE
        ]
        yield from (here / name for name in files if here / name not in MADE)


def test_no_file_names_a_package_index_or_a_folder_of_somebodys_machine() -> None:
    found = []
    looked_at = 0
    for path in own_files():
        try:
            text = path.read_text("utf-8")
        except UnicodeDecodeError:
            continue
        looked_at += 1
        for number, line in enumerate(text.splitlines(), start=1):
            if any(index in line for index in INDEXES) or FOLDERS.search(line):
                found.append(f"{path.relative_to(ROOT)}:{number}: {line.strip()[:100]}")
    assert looked_at > 100
    assert found == []
