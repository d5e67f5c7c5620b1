"""Commands: every one is in the help, every option fills a field, words are where they belong."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from pathlib import Path

import pytest
from crawls import PROGRAM, Crawler, truth
from sandbox_server import Sandbox
from terminals import terminal

from tweetcrawler import crawl, prices, rooms, settings
from tweetcrawler.errors import ConfigurationError
from tweetcrawler.prices import MICRO
from tweetcrawler.settings import help_text
from tweetcrawler.settings.commands import Command, all_commands, common_options
from tweetcrawler.settings.help import by_group
from tweetcrawler.settings.options import NO_COMMAND_LINE, Option, folded
from tweetcrawler.settings.types import file_or_dash
from tweetcrawler.setup import Setup

PROJECT = Path(__file__).resolve().parent.parent
COMMANDS = sorted(all_commands().values(), key=lambda command: command.name)
# They do not set anything, or say where the settings are.
NO_FIELD = {"--help", "--version", "--config"}
HEAVY = ("sqlalchemy", "alembic", "psycopg", "rich", "tweepy", "requests", "asyncio", "orjson")


def of(folder: Path, *argv: str) -> settings.Settings:
    return settings.parse(argv, environ={}, folder=folder)


def refusal(folder: Path, *argv: str) -> str:
    with pytest.raises(ConfigurationError) as caught:
        of(folder, *argv)
    assert caught.value.exit_code == 2
    return str(caught.value)


# --- tables ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command.name)
def test_every_option_and_word_of_a_command_fills_a_field_of_its_values(command: Command) -> None:
    assert is_dataclass(command.values)
    assert command.values.__dataclass_params__.frozen  # type: ignore[attr-defined]
    names = {field.name for field in fields(command.values)}
    filled = {option.fills for option in command.options}
    filled |= {command.words.field} if command.words else set()
    filled |= {"rest"} if command.takes_rest else set()
    assert filled == names, "an option without a field, or a field that nothing fills"


def test_every_common_option_fills_a_field_of_the_settings() -> None:
    kinds = (settings.Settings, settings.Money, settings.Place)
    names = {field.name for kind in kinds for field in fields(kind)}
    wrong = [o.name for o in common_options() if o.name not in NO_FIELD and o.fills not in names]
    assert wrong == []


def test_a_key_of_the_file_means_one_option() -> None:
    """The file serves all commands, so two of them may share a key only with its option."""
    meant: dict[str, Option] = {}
    everything = [*common_options(), *(o for c in COMMANDS for o in c.options)]
    for option in everything:
        for name in option.names:
            if option.in_file:
                assert meant.setdefault(folded(name), option) == option, name


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command.name)
def test_every_option_is_taken_with_dashes_and_without_in_any_case(
    command: Command, tmp_path: Path
) -> None:
    samples = {"PLACES": "india", "WHEN": "2024-01-31", "TIME": "2h", "on|off": "off"}
    samples |= {"AGES": "2h 1d", "USD": "5", "WHOSE": "keep", "GB": "17"}
    samples |= {"[HOST:]PORT": "0.0.0.0:9464"}
    samples |= {"NUMBER": "17", "CODE": "en", "FORMAT": "csv", "SIGN": ";", "WHAT": "quotes"}
    words = {"search": ["x"], "hydrate": ["1"], "import": ["x"], "db": ["url"]}
    words |= {"restore": ["file:///tmp/place"], "sql": ["SELECT 1"], "forget": ["ada"]}
    # Of an option whose metavar another one has for something else.
    own = {"--on-deleted": "blank", "--by": "2026-02-01"} if command.name == "comply" else {}
    own |= {"--on-hidden": "delete"} if own else {}
    own |= {"--metrics-stop": "on"} if command.name == "watch" else {}
    own |= {"--depth": "1"} if command.name == "follow" else {}
    for option in command.options:
        sample = own.get(option.name) or samples.get(option.metavar, "x")
        argument = [] if option.is_switch else [sample]
        spellings = {option.name, option.name.upper(), folded(option.name)}
        spellings |= {f"--{option.spelled}"}
        results = [
            of(tmp_path, command.name, *words.get(command.name, []), spelling, *argument)
            for spelling in spellings
        ]
        assert all(result == results[0] for result in results), option.name
        assert getattr(results[0].values, option.fills) not in (None, False, ()) or (
            option.type is file_or_dash
        )


# --- help -----------------------------------------------------------------------------------------


def test_the_first_page_names_every_command_once_under_its_group_and_is_short() -> None:
    text = help_text()
    assert len(text.splitlines()) <= 40
    assert max(map(len, text.splitlines())) <= 100
    for title, commands in by_group():
        [block] = re.findall(rf"^{title}\n((?:  .+\n)+)", text, re.MULTILINE)
        # Two short ones share a line.
        assert re.findall(r"(?:^|  )  (\S+)  ", block, re.MULTILINE) == [c.name for c in commands]
    assert sum(len(commands) for _, commands in by_group()) == len(COMMANDS)
    assert len(re.findall(r"^  tweetcrawler ", text, re.MULTILINE)) == 5


@pytest.mark.parametrize("topic", [[], ["export"], ["options"]], ids=str)
def test_the_pages_fit_a_terminal(topic: list[str], tmp_path: Path) -> None:
    for columns in (80, 120):
        with terminal(tmp_path, ["help", *topic], columns=columns) as screen:
            assert screen.ended() == 0
        shown = screen.seen.splitlines()
        assert len(shown) > 20
        assert max(map(len, shown)) <= min(columns, 100)


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command.name)
def test_the_page_of_a_command_has_its_options_three_examples_and_the_price(
    command: Command,
) -> None:
    text = help_text(command.name)
    assert len(text.splitlines()) <= 60
    assert max(map(len, text.splitlines())) <= 100
    assert text.startswith(f"usage: tweetcrawler {command.name}")
    for option in command.options:
        assert re.search(rf"^  .*{option.name}\b", text, re.MULTILINE)
    assert len(command.examples) == 3
    assert re.search(r"^price: \w.+", text, re.MULTILINE)
    if not command.takes_rest:
        assert all(o.name in text for o in common_options() if o.places != NO_COMMAND_LINE)


def test_prices_in_the_help_are_those_of_the_tariff() -> None:
    tariff = prices.load(None, None)
    known = {f"{amount:g}" for amount in (tariff.post / MICRO, tariff.user / MICRO)}
    named = {text for c in COMMANDS for text in re.findall(r"\$([\d.]*\d)", c.price)}
    assert named
    assert {f"{float(text):g}" for text in named} <= known


def examples() -> Iterator[str]:
    for command in COMMANDS:
        yield from (line for line, _ in command.examples)
    yield from re.findall(r"^  (tweetcrawler .*?)  +\S", help_text(), re.MULTILINE)


@pytest.mark.parametrize("line", list(examples()))
def test_every_example_of_the_help_is_understood(line: str, tmp_path: Path) -> None:
    (tmp_path / "tweet.ini").write_text("dbhost = embedded\n")
    call = line[line.index("tweetcrawler") :].rstrip('")').partition(" | ")[0]
    chosen = of(tmp_path, *shlex.split(call)[1:])
    assert chosen.command in all_commands()


@pytest.mark.parametrize("argv", [["help", "search"], ["search", "--help"], ["-h", "search"]])
def test_the_help_of_a_command_is_found_from_both_sides(argv: list[str]) -> None:
    done = subprocess.run([*PROGRAM, *argv], capture_output=True, text=True, check=True)
    assert done.stdout == f"{help_text('search')}\n"


@pytest.mark.parametrize("argv", [["help"], ["--help"], ["--help", "--no-such-option"]])
def test_help_without_a_command_is_the_first_page(argv: list[str]) -> None:
    done = subprocess.run([*PROGRAM, *argv], capture_output=True, text=True, check=True)
    assert done.stdout == f"{help_text()}\n"


@pytest.mark.parametrize(
    ("argv", "meant"),
    [(["serach", "x"], "search"), (["help", "statsu"], "status"), (["trendin", "-h"], "trending")],
)
def test_a_mistyped_command_is_answered_by_the_nearest(argv: list[str], meant: str) -> None:
    done = subprocess.run([*PROGRAM, *argv], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert f"did you mean {meant}?" in done.stderr


@pytest.mark.parametrize("argv", [["--help"], ["search", "--help"], ["--version"], ["crwal"]])
def test_answers_about_the_program_load_nothing_heavy(argv: list[str], tmp_path: Path) -> None:
    command = [sys.executable, "-X", "importtime", "-m", "tweetcrawler", *argv]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=PROJECT)
    loaded = set(re.findall(r"\| +([\w.]+)$", done.stderr, re.MULTILINE))
    assert "tweetcrawler.settings" in loaded
    assert {name for name in loaded if name.split(".")[0] in HEAVY} == set()
    work = {"tweetcrawler.crawl", "tweetcrawler.walk", "tweetcrawler.db", "tweetcrawler.pool"}
    assert loaded & work == set()


def test_a_command_file_is_light_to_import() -> None:
    code = (
        "import sys\nfrom tweetcrawler.settings.commands import all_commands\nall_commands()\n"
        f"print(*sorted(set({HEAVY!r}) & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []


@pytest.mark.parametrize(
    ("line", "asks"),
    [
        ("", True),
        ("-c tweet.ini", True),
        ("--quiet crawl ada", True),
        ("search cats", True),
        ("-c tweet.ini status", False),
        ("export posts.csv", False),
        ("crwal ada", False),
        ("search --help", False),
        ("--version", False),
    ],
)
def test_workers_load_early_for_calls_that_ask_x_only(line: str, asks: bool) -> None:
    assert rooms.may_ask_x(line.split()) is asks


def test_every_word_that_asks_x_is_a_command() -> None:
    assert {word for room in rooms.rooms() for word in room.asks} <= set(all_commands())


# --- words and options ----------------------------------------------------------------------------


def test_words_and_options_say_the_same(tmp_path: Path) -> None:
    word, option = of(tmp_path, "search", "a b", "#c"), of(tmp_path, "search", "-q", "a b", "-q#c")
    assert word.values.queries == option.values.queries == ("a b", "#c")
    both = of(tmp_path, "search", "a", "--count", "b", "-q", "c")
    assert both.values.queries == ("a", "b", "c")
    word, option = of(tmp_path, "status", "ada"), of(tmp_path, "status", "--handle", "ada")
    assert word.values == option.values
    word, option = of(tmp_path, "export", "x.csv"), of(tmp_path, "export", "--output", "x.csv")
    assert word.values == option.values
    assert word.values.output == tmp_path / "x.csv"
    assert of(tmp_path, "export", "-").values.output is None


def test_words_of_crawl_are_handles_and_never_a_file(tmp_path: Path) -> None:
    (tmp_path / "handles.txt").write_text("grace\n")
    assert of(tmp_path, "crawl", "@Ada", "x.com/grace").values.handles == ("ada", "grace")
    assert "named by --handles" in refusal(tmp_path, "crawl", "handles.txt")
    assert of(tmp_path, "crawl").values.handles == ()


def test_an_id_and_a_file_of_ids_are_told_apart(tmp_path: Path) -> None:
    (tmp_path / "123").write_text("7\n")
    assert of(tmp_path, "hydrate", "123", "456").values.ids == ("123", "456")
    assert of(tmp_path, "hydrate", "./123").values.ids == ("./123",)
    assert of(tmp_path, "hydrate", "-", "--refresh").values.ids == ("-",)
    assert "a file of such a name is ./123" in refusal(tmp_path, "hydrate", "123", "ids.txt")
    assert "one file of ids" in refusal(tmp_path, "hydrate", "a.txt", "b.txt")
    assert "needs ids, a file of ids, or -" in refusal(tmp_path, "hydrate")


@pytest.mark.parametrize(
    ("argv", "sentence"),
    [
        (["crawl", "--since", "2024-01-01"], "--since belongs to search, not to crawl;"),
        (["crawl", "--maxTrends", "3"], "--max-trends belongs to trending and plan, not to crawl"),
        (["status", "--where", "is=reply"], "--where belongs to export, not to status;"),
        (["search", "-r", "x"], "--retweeted is a command of its own; leave it or search out."),
        (["search"], "`tweetcrawler search` needs a query"),
        (["watch", "--watchMin", "2h", "--watchMax", "1h"], "--watch-min is longer than"),
        (["crawl", "--budgetPerDya", "3"], "There is no option '--budgetPerDya'; did you mean"),
    ],
)
def test_options_of_another_command_are_refused_by_their_dashed_names(
    argv: list[str], sentence: str, tmp_path: Path
) -> None:
    assert refusal(tmp_path, *argv).startswith(sentence)


def test_a_suggestion_is_spelled_with_dashes(tmp_path: Path) -> None:
    assert refusal(tmp_path, "--budgetPerDya", "3").endswith("did you mean --budget-per-day?")
    assert refusal(tmp_path, "--max_posts", "3").endswith("did you mean --max-posts?")


def test_flags_of_the_original_tool_are_commands(tmp_path: Path) -> None:
    assert of(tmp_path, "-trending").command == of(tmp_path, "--Trending").command == "trending"
    assert of(tmp_path, "-r").command == of(tmp_path, "crawl", "--retweeted").command == "snowball"
    plan = of(tmp_path, "plan", "--trending")
    assert (plan.command, plan.values.trending) == ("plan", True)


def test_raw_is_a_switch_of_export_and_a_value_elsewhere(tmp_path: Path) -> None:
    chosen = of(tmp_path, "export", "--raw", "--output", "x")
    assert (chosen.values.pages, chosen.raw) == (True, True)
    assert of(tmp_path, "--raw", "off").raw is False


# --- the work -------------------------------------------------------------------------------------

HANDLES = ["writer_1", "writer_2"]


@pytest.fixture(scope="module")
def sandbox() -> Iterator[Sandbox]:
    with Sandbox("--credentials", "2", "--posts", "20-60") as running:
        yield running


def test_words_are_crawled_and_the_file_is_not_looked_at(
    sandbox: Sandbox, dsn: str, tmp_path: Path
) -> None:
    crawler = Crawler.on(sandbox, tmp_path, dsn, [])
    (tmp_path / "handles.txt").unlink()
    planned = crawler.run("plan", *HANDLES)
    assert "at least" in planned.stdout
    done = crawler.run("crawl", HANDLES[0], f"@{HANDLES[1].upper()}")
    assert crawler.stored_ids() == truth(sandbox, HANDLES)
    assert "planned" in done.stdout, "the report shows the plan of the same handles"
    crawler.run("export", "posts.csv", "--columns", "id")
    assert len((tmp_path / "posts.csv").read_text().split()) == 1 + len(truth(sandbox, HANDLES))
    assert HANDLES[0] in crawler.run("status", HANDLES[0]).stdout


def test_ids_and_queries_may_be_words(sandbox: Sandbox, dsn: str, tmp_path: Path) -> None:
    crawler = Crawler.on(sandbox, tmp_path, dsn, [])
    first, second, *_ = truth(sandbox, HANDLES)
    crawler.run("hydrate", str(first), f"https://x.com/writer_1/status/{second}")
    assert crawler.stored_ids() == sorted((first, second))
    assert "coffee" in crawler.run("search", "coffee", "--count").stdout


def test_a_run_is_opened_without_a_terminal(
    sandbox: Sandbox, dsn: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """As a service or a page in a browser does it: nobody is asked, nothing is printed."""
    crawler = Crawler.on(sandbox, tmp_path, dsn, HANDLES)
    chosen = of(tmp_path, "-c", str(tmp_path / "tweet.ini"))
    with Setup(chosen).asking_x(why="it needs one") as opened:
        report = crawl.crawl(opened.run, iter(HANDLES), handle_count=len(HANDLES))
        assert opened.told(report) == 0
    assert crawler.stored_ids() == truth(sandbox, HANDLES)
    assert capsys.readouterr().out == ""


def test_without_a_terminal_missing_keys_are_an_error_and_not_a_question(tmp_path: Path) -> None:
    with (
        pytest.raises(ConfigurationError, match="--auth-csv"),
        Setup(of(tmp_path, "--csv")).asking_x(),
    ):
        pytest.fail("opened without keys")
