"""Where options come from, what they may be, and that none of them tells a secret."""

from __future__ import annotations

import json
import pickle
import re
import subprocess
import sys
import traceback
from collections.abc import Mapping
from pathlib import Path

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st
from psycopg.conninfo import conninfo_to_dict

from tweetcrawler import __version__
from tweetcrawler.db import conninfo_of
from tweetcrawler.errors import ConfigurationError
from tweetcrawler.secret import Secret
from tweetcrawler.settings import Settings, help_text, parse, version_text
from tweetcrawler.settings.commands import all_commands

PROJECT = Path(__file__).resolve().parent.parent
EXAMPLE = PROJECT / "tweet.ini.example"
CANARY = "c4nary-Secret-0815"

CLASSIC = """\
[Database]
dbname = 'tweets'        # the database
dbuser = "crawler"       ; its role
dbpass = 'p;w # 1'
dbhost = localhost       # this machine
dbport = 5433
tablename = 'tweet_articles_tweepy'

[Twitter]
authCSV = 'auth.csv'     # credentials
handlesFile = "handles.txt"

[System]
Threads = 4              # processes
CSVFolder = 'csv'
"""


def settings_of(
    folder: Path, *argv: str, file: str | None = None, environ: Mapping[str, str] | None = None
) -> Settings:
    """The settings of a call in `folder`, whose tweet.ini holds `file`."""
    if file is not None:
        ini = folder / "tweet.ini"
        ini.write_bytes(file.encode())
        ini.chmod(0o600)
    return parse(argv, environ=environ or {}, folder=folder)


def refusal(
    folder: Path, *argv: str, file: str | None = None, environ: Mapping[str, str] | None = None
) -> str:
    with pytest.raises(ConfigurationError) as caught:
        settings_of(folder, *argv, file=file, environ=environ)
    assert caught.value.exit_code == 2
    return str(caught.value)


# --- the classic file and flags -------------------------------------------------------------------


def test_file_of_the_original_tool_works_as_it_is(tmp_path: Path) -> None:
    settings = settings_of(tmp_path, file=CLASSIC)
    database = settings.database
    assert database is not None
    assert (database.name, database.user) == ("tweets", "crawler")
    assert (database.host, database.port) == ("localhost", 5433)
    assert database.password == Secret("p;w # 1")
    assert (database.table, database.embedded) == ("tweet_articles_tweepy", False)
    assert (settings.sink, settings.threads, settings.csv_folder) == (
        "postgresql",
        4,
        tmp_path / "csv",
    )
    assert settings.auth_csv == tmp_path / "auth.csv"
    assert settings.handles_file == tmp_path / "handles.txt"
    assert settings.config_file == tmp_path / "tweet.ini"


def test_flags_of_the_original_tool_work(tmp_path: Path) -> None:
    settings = settings_of(
        tmp_path,
        "--authcsv",
        "a.csv",
        "--dbname",
        "d",
        "--dbuser",
        "u",
        "--threads",
        "3",
        "--handles",
        "h.txt",
        "--folder",
        "f",
    )
    assert settings.database is not None
    assert (settings.database.name, settings.database.user, settings.threads) == ("d", "u", 3)
    assert (settings.auth_csv, settings.handles_file) == (tmp_path / "a.csv", tmp_path / "h.txt")
    assert settings.csv_folder == tmp_path / "f"


@pytest.mark.parametrize("flag", ["--authCSV", "--authcsv", "--AUTHCSV"])
def test_options_and_keys_are_the_same_in_any_case(tmp_path: Path, flag: str) -> None:
    assert settings_of(tmp_path, f"{flag}=x.csv").auth_csv == tmp_path / "x.csv"
    assert settings_of(tmp_path, file=f"{flag[2:]} = x.csv").auth_csv == tmp_path / "x.csv"


@pytest.mark.parametrize("ending", ["\n", "\r\n"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_file_of_any_editor_reads_the_same(tmp_path: Path, ending: str, encoding: str) -> None:
    (tmp_path / "tweet.ini").write_bytes(CLASSIC.replace("\n", ending).encode(encoding))
    database = parse([], environ={}, folder=tmp_path).database
    assert database is not None
    assert (database.name, database.password) == ("tweets", Secret("p;w # 1"))


# --- the grammar of values ------------------------------------------------------------------------

PASSWORDS = st.text(
    st.characters(exclude_characters="\n\r\0", exclude_categories=["Cs"]), min_size=1
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("settings")


def password_of(folder: Path, line: str) -> Secret | None:
    database = settings_of(folder, file=f"[Database]\ndbname = x\n{line}\n").database
    assert database is not None
    return database.password


@given(
    password=PASSWORDS,
    quote=st.sampled_from("'\""),
    comment=st.sampled_from(["", "  # it is", " ; so"]),
)
@example(password="it's", quote="'", comment=" # a")
@example(password="=a:#b;c%d\\", quote='"', comment="")
@example(password="'", quote="'", comment=" ; x")
@example(password="a\u2028b\x85c\x1c", quote="'", comment="")
def test_password_in_quotes_comes_back_as_it_is(
    folder: Path, password: str, quote: str, comment: str
) -> None:
    """Only a quote that a comment follows closes early; such a password is written in the
    other quotes.
    """
    assume(password.strip())
    assume(not re.search(quote + r"\s+[#;]", password + quote))
    assert password_of(folder, f"dbpass = {quote}{password}{quote}{comment}") == Secret(password)


@given(password=st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=1))
@example(password="a#b;c")
@example(password="#hash")
@example(password="a=b:c")
def test_password_without_quotes_ends_at_white_space_and_a_comment_sign(
    folder: Path, password: str
) -> None:
    assume(password[0] not in "'\"")
    assert password_of(folder, f"dbpass={password}") == Secret(password)
    assert password_of(folder, f"dbpass={password} # {password}") == Secret(password)


@pytest.mark.parametrize(
    "value", ["", "   ", "''", '""', "  # none", " ; none", "'' # none", "'  '"]
)
def test_blank_value_is_no_value(tmp_path: Path, value: str) -> None:
    settings = settings_of(
        tmp_path, file=f"dbhost ={value}\nThreads ={value}\nhandlesFile ={value}\n"
    )
    assert settings.database is not None
    assert settings.database.embedded
    assert settings.threads is None
    assert settings.handles_file == tmp_path / "handles.txt"


def test_colon_may_stand_for_the_equals_sign(tmp_path: Path) -> None:
    assert settings_of(tmp_path, file="Threads: 7\n").threads == 7


# --- what is refused, and how it is named ---------------------------------------------------------


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        ("Thread = 4", "the key 'Thread' is not known; did you mean Threads?"),
        ("dbpas = x", "the key 'dbpas' is not known; did you mean dbpass?"),
        ("qqqqqqqq = x", "the key 'qqqqqqqq' is not known; `tweetcrawler --help` lists all."),
        ("Threads = four", "Threads must be a whole number from 1 to 1000."),
        ("Threads = 0", "Threads must be a whole number from 1 to 1000."),
        ("dbport = 70000", "dbport must be a whole number from 1 to 65535."),
        ("raw = perhaps", "raw must be on or off."),
        ("csv = perhaps", "csv must be on or off."),
        ("logLevel = loud", "logLevel must be one of info, debug."),
        (
            "pricePost = 0,005",
            "pricePost must be a number from 0 to 1000, with a point before decimals.",
        ),
        (
            "pricePost = nan",
            "pricePost must be a number from 0 to 1000, with a point before decimals.",
        ),
        (
            "readTimeout = 0",
            "readTimeout must be a number from 0.001 to 3600, with a point before decimals.",
        ),
        ("tablename = a;drop", "tablename must be a name of letters"),
        ("tablename = a.b.c", "tablename must be a name of letters"),
        ("dbname = 'x", "dbname: the quote before the value is not closed; close it on its line."),
        ("[Database", "this is neither a [section] nor key = value nor a # comment."),
        ("dbname", "this is neither a [section] nor key = value nor a # comment."),
        ("= x", "this is neither a [section] nor key = value nor a # comment."),
        ("config = other.ini", "the key 'config' cannot stand in a file; say --config."),
        ("keep = demo", "the key 'keep' cannot stand in a file; say --keep."),
        ("quiet = on", "quiet was given before, in line 2; leave out one."),
    ],
)
def test_fault_in_the_file_is_named_by_file_and_line(
    tmp_path: Path, line: str, sentence: str
) -> None:
    said = refusal(tmp_path, file=f"[System]\nquiet = off\n{line}\n")
    assert said.startswith(f"{tmp_path / 'tweet.ini'}, line 3: {sentence}")


def test_two_names_of_one_option_in_a_file_are_refused(tmp_path: Path) -> None:
    said = refusal(tmp_path, file="handles = a\nhandlesFile = b\n")
    assert said.endswith("line 2: handlesFile was given before, in line 1; leave out one.")


def test_wrong_value_in_the_file_is_named_even_if_the_command_line_wins(tmp_path: Path) -> None:
    assert "line 1: Threads must be" in refusal(tmp_path, "--threads", "3", file="Threads = x\n")


@pytest.mark.parametrize(
    ("argv", "sentence"),
    [
        (["--thread", "3"], "There is no option '--thread'; did you mean --threads?"),
        (["--xyzzyq"], "There is no option '--xyzzyq'; `tweetcrawler --help` lists all."),
        (["-x"], "There is no option '-x'; `tweetcrawler --help` lists all."),
        (["--db", "x"], "There is no option '--db'"),
        (["--threads"], "--threads needs a value after it."),
        (["--dbname", "--dbuser", "x"], "--dbname needs a value after it."),
        (["--threads", "x"], "--threads must be a whole number from 1 to 1000."),
        (["--quiet=on"], "--quiet takes no value; leave out what is after it."),
        (["--dbpass", "x"], "--dbpass is not taken from the command line"),
        (["--dbname", "postgresql://u:x@h/d"], "--dbname has a password in it"),
        (["--dbname", "host=h password=x"], "--dbname has a password in it"),
        (["crawl", "handles.txt"], "A word after `tweetcrawler crawl` must be a handle"),
        (["trending", "london"], "`tweetcrawler trending` takes no further word"),
        (
            ["db"],
            "`tweetcrawler db` needs one of psql, url, start, stop, upgrade, accept",
        ),
        (
            ["db", "drop"],
            "`tweetcrawler db` needs one of psql, url, start, stop, upgrade, accept",
        ),
        (["db", "url", "now"], "`tweetcrawler db` takes no further word"),
        (["crwal"], "There is no command 'crwal'; did you mean crawl?"),
        (["qqqqqq"], "There is no command 'qqqqqq'; `tweetcrawler --help` lists all."),
        (
            ["--dbhost", "embedded", "--dbname", "service=x"],
            "dbhost is embedded, but dbname is a connection",
        ),
    ],
)
def test_fault_on_the_command_line_is_named(tmp_path: Path, argv: list[str], sentence: str) -> None:
    assert refusal(tmp_path, *argv).startswith(sentence)


def test_fault_in_the_environment_is_named_by_its_variable(tmp_path: Path) -> None:
    said = refusal(tmp_path, environ={"TWEETCRAWLER_THREADS": "many"})
    assert said == "The variable TWEETCRAWLER_THREADS must be a whole number from 1 to 1000."


def test_misspelled_variable_is_told_and_foreign_ones_are_not(tmp_path: Path) -> None:
    environ = {"TWEETCRAWLER_TREADS": "4", "TWEETCRAWLER_ZZZ": "1", "TREADS": "4"}
    settings = settings_of(tmp_path, environ=environ)
    note = "The variable TWEETCRAWLER_TREADS is not known and not read"
    assert settings.notes == (f"{note}; did you mean TWEETCRAWLER_THREADS?",)


def test_named_file_that_is_not_there_is_refused(tmp_path: Path) -> None:
    assert refusal(tmp_path, "-c", "none.ini").startswith(
        f"The configuration file {tmp_path / 'none.ini'} is not there;"
    )
    assert "is a folder" in refusal(tmp_path, f"--config={tmp_path}")


def test_file_that_is_no_text_is_refused_by_line(tmp_path: Path) -> None:
    (tmp_path / "tweet.ini").write_bytes(b"[System]\nThreads = \xff4\n")
    assert "tweet.ini, line 2: this is no text in UTF-8" in refusal(tmp_path)


# --- which source wins ----------------------------------------------------------------------------


def test_command_line_wins_over_environment_over_file_over_default(tmp_path: Path) -> None:
    environ = {"TWEETCRAWLER_THREADS": "3", "TWEETCRAWLER_DBPASS": "env"}
    file = "Threads = 2\ndbpass = file\n"
    assert settings_of(tmp_path).threads is None
    assert settings_of(tmp_path, file=file).threads == 2
    assert settings_of(tmp_path, environ=environ).threads == 3
    settings = settings_of(tmp_path, "--threads", "4", environ=environ)
    assert settings.threads == 4
    assert settings.database is not None
    assert settings.database.password == Secret("env")


def test_switched_off_variable_wins_over_a_flag_in_the_file(tmp_path: Path) -> None:
    assert settings_of(tmp_path, file="quiet = on\n").quiet
    assert not settings_of(tmp_path, environ={"TWEETCRAWLER_QUIET": "off"}).quiet
    assert settings_of(tmp_path, "--quiet", environ={"TWEETCRAWLER_QUIET": "off"}).quiet


def test_either_name_of_an_option_is_a_variable(tmp_path: Path) -> None:
    for name in ("HANDLES", "HANDLESFILE"):
        environ = {f"TWEETCRAWLER_{name}": "h.txt"}
        settings = settings_of(tmp_path, file="handlesFile = f.txt", environ=environ)
        assert settings.handles_file == tmp_path / "h.txt"


def test_blank_variable_is_not_given(tmp_path: Path) -> None:
    environ = {"TWEETCRAWLER_THREADS": " "}
    assert settings_of(tmp_path, file="Threads = 2\n", environ=environ).threads == 2


def test_last_of_a_repeated_option_counts(tmp_path: Path) -> None:
    assert settings_of(tmp_path, "--threads", "4", "--threads=5").threads == 5


def test_file_can_be_named_by_the_environment(tmp_path: Path) -> None:
    (tmp_path / "other.ini").write_text("Threads = 9\n")
    environ = {"TWEETCRAWLER_CONFIG": "other.ini"}
    assert settings_of(tmp_path, file="Threads = 1", environ=environ).threads == 9


def test_relative_paths_begin_where_they_are_written(tmp_path: Path) -> None:
    work, etc = tmp_path / "work", tmp_path / "etc"
    work.mkdir()
    etc.mkdir()
    (etc / "my.ini").write_text("authCSV = a.csv\nCSVFolder = ../csv\ndataFolder = ~/pg\n")
    settings = parse(
        ["-c", "../etc/my.ini", "--handles", "h.txt"],
        environ={"TWEETCRAWLER_CSVFOLDER": "c", "HOME": "/home/me"},
        folder=work,
    )
    assert settings.auth_csv == work / "../etc/a.csv"
    assert settings.handles_file == work / "h.txt"
    assert settings.csv_folder == work / "c"
    assert settings.data_folder == Path("/home/me/pg")


@pytest.mark.parametrize(
    "form", [["-c", "o.ini"], ["-co.ini"], ["--config=o.ini"], ["--CONFIG", "o.ini"]]
)
def test_every_spelling_of_the_file_option_works(tmp_path: Path, form: list[str]) -> None:
    (tmp_path / "o.ini").write_text("Threads = 9\n")
    assert settings_of(tmp_path, *form).threads == 9


# --- commands -------------------------------------------------------------------------------------


def test_command_is_crawl_unless_another_is_named(tmp_path: Path) -> None:
    assert settings_of(tmp_path).command == "crawl"
    assert settings_of(tmp_path, "--threads", "2", "crawl").command == "crawl"


@pytest.mark.parametrize(
    "argv",
    [
        ["db", "url", "--quiet"],
        ["--quiet", "db", "url"],
        ["db", "--quiet", "url"],
        ["--dbport", "1", "db", "url"],
        ["--quiet", "db", "--dbport", "1", "url"],
    ],
)
def test_words_and_options_may_be_mixed(tmp_path: Path, argv: list[str]) -> None:
    settings = settings_of(tmp_path, *argv)
    assert (settings.command, settings.values.action) == ("db", "url")


def test_arguments_behind_sandbox_are_handed_on_untouched(tmp_path: Path) -> None:
    argv = ["--port", "0", "--help", "--", "-c", "x", "sandbox", "--dbpass=y", ""]
    settings = settings_of(tmp_path, "--quiet", "sandbox", *argv)
    assert (settings.command, settings.values.rest, settings.quiet) == (
        "sandbox",
        tuple(argv),
        True,
    )


def test_sandbox_and_demo_do_not_look_at_the_file_beside_them(tmp_path: Path) -> None:
    for command in ("sandbox", "demo"):
        assert settings_of(tmp_path, command, file="broken").config_file is None
    assert settings_of(tmp_path, "demo", "--keep", "d").values.keep == tmp_path / "d"


@pytest.mark.parametrize(
    ("argv", "command"),
    [
        (["--help"], "help"),
        (["-h"], "help"),
        (["db", "--help"], "help"),
        (["--version"], "version"),
        (["help"], "help"),
        (["version"], "version"),
    ],
)
def test_help_and_version_answer_beside_a_broken_file(
    tmp_path: Path, argv: list[str], command: str
) -> None:
    assert settings_of(tmp_path, *argv, file="broken").command == command


# --- sink and database ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("argv", "sink", "embedded"),
    [
        ([], "postgresql", True),
        (["--tablename", "t"], "postgresql", True),
        (["--dbhost", "Embedded"], "postgresql", True),
        (["--dbhost", "embedded", "--folder", "f"], "postgresql", True),
        (["--dbname", "d"], "postgresql", False),
        (["--dbuser", "u", "--folder", "f"], "postgresql", False),
        (["--dbport", "5433"], "postgresql", False),
        (["--folder", "f"], "csv", None),
        (["--folder", "f", "--tablename", "t"], "csv", None),
        (["--csv"], "csv", None),
        (["--csv", "--dbname", "d"], "csv", None),
    ],
)
def test_sink_follows_from_what_is_given(
    tmp_path: Path, argv: list[str], sink: str, embedded: bool | None
) -> None:
    settings = settings_of(tmp_path, *argv)
    assert settings.sink == sink
    assert (settings.database.embedded if settings.database else None) is embedded
    assert (settings.csv_folder is None) == ("--folder" not in argv and sink != "csv")


def test_password_that_is_not_given_is_left_to_libpq(tmp_path: Path) -> None:
    settings = settings_of(tmp_path, "--dbname", "d", environ={"PGPASSWORD": "x", "PGUSER": "u"})
    assert settings.database is not None
    assert (settings.database.password, settings.database.user) == (None, None)
    assert conninfo_of(settings.database) == "dbname=d"


@pytest.mark.parametrize(
    "dbname", ["postgresql://u@h:1,i:2/d?sslmode=require", "postgresql:///d", "service=x"]
)
def test_connection_string_is_kept_whole(tmp_path: Path, dbname: str) -> None:
    database = settings_of(tmp_path, "--dbname", dbname).database
    assert database is not None
    assert (database.conninfo, database.name) == (Secret(dbname), None)
    assert conninfo_to_dict(conninfo_of(database)) == conninfo_to_dict(dbname)


@given(
    password=PASSWORDS.filter(str.strip),
    base=st.sampled_from(
        ["d", "host=h dbname=d", "postgresql://u@h/d", "postgresql://u:old@h/d?sslmode=require"]
    ),
)
@example(password="a'b\\c &?%=#@/", base="postgresql://u@h/d")
def test_libpq_reads_what_was_given(folder: Path, password: str, base: str) -> None:
    environ = {
        "TWEETCRAWLER_DBPASS": password,
        "TWEETCRAWLER_DBNAME": base,
        "TWEETCRAWLER_DBUSER": "me",
    }
    (folder / "tweet.ini").unlink(missing_ok=True)
    database = settings_of(folder, environ=environ).database
    assert database is not None
    read = conninfo_to_dict(conninfo_of(database))
    assert (read["dbname"], read["user"], read["password"]) == ("d", "me", password)


@pytest.mark.parametrize("table", ["t", "public.tweets", "_a1", "A" * 63])
def test_table_may_have_a_schema(tmp_path: Path, table: str) -> None:
    database = settings_of(tmp_path, "--tablename", table).database
    assert database is not None
    assert database.table == table


@pytest.mark.parametrize("table", ["1t", "a-b", "a b", "a.", ".b", 'a"', "A" * 64, "tä"])
def test_table_that_is_no_plain_name_is_refused(tmp_path: Path, table: str) -> None:
    assert "--tablename must be a name" in refusal(tmp_path, "--tablename", table)


@pytest.mark.parametrize(
    "url",
    [
        "https://api.x.com",
        "http://127.0.0.1:8080",
        "http://localhost:1/x",
        "http://[::1]:8",
        "https://gate/x/",
    ],
)
def test_api_may_be_https_or_on_this_machine(tmp_path: Path, url: str) -> None:
    assert settings_of(tmp_path, "--apiURL", url).api_url == url.rstrip("/")


@pytest.mark.parametrize(
    "url",
    [
        "api.x.com",
        "ftp://api.x.com",
        "http://api.x.com",
        "http://127.0.0.1.evil.com",
        "https://u:p@api.x.com",
        "https://u@api.x.com",
        "https://",
        "https://api.x.com?x",
        "https://api.x.com/#x",
        "https://a:b",
        "https://a b",
        "https://a:99999",
        "https://[::1",
        "https://a:0",
    ],
)
def test_api_that_would_tell_secrets_or_is_no_url_is_refused(tmp_path: Path, url: str) -> None:
    assert refusal(tmp_path, "--apiURL", url).startswith("--api-url must ")


# --- secrets --------------------------------------------------------------------------------------


def test_settings_show_no_secret_and_survive_pickling(tmp_path: Path) -> None:
    environ = {"TWEETCRAWLER_DBPASS": CANARY, "TWEETCRAWLER_DBNAME": f"postgresql://u:{CANARY}@h/d"}
    settings = settings_of(tmp_path, environ=environ)
    copy = pickle.loads(pickle.dumps(settings))
    assert copy == settings
    assert copy.database.password.reveal() == CANARY
    for text in (
        repr(copy),
        str(copy),
        f"{copy}",
        f"{copy.database.password:>10}",
        json.dumps(copy.arguments_without_secrets()),
    ):
        assert CANARY not in text
        assert "***" in text


def test_sandbox_arguments_are_not_in_the_record_of_a_run(tmp_path: Path) -> None:
    settings = settings_of(tmp_path, "sandbox", "--token", CANARY)
    assert CANARY not in repr(settings) + json.dumps(settings.arguments_without_secrets())


def test_record_of_a_run_tells_what_it_was_run_with(tmp_path: Path) -> None:
    record = settings_of(tmp_path, file=CLASSIC).arguments_without_secrets()
    assert json.loads(json.dumps(record)) == record
    assert (record["threads"], record["handles_file"]) == (4, str(tmp_path / "handles.txt"))
    assert record["database"] == {
        "embedded": False,
        "host": "localhost",
        "port": 5433,
        "name": "tweets",
        "user": "crawler",
        "password": "***",
        "conninfo": None,
        "table": "tweet_articles_tweepy",
    }


@pytest.mark.parametrize(
    "line",
    [
        CANARY,
        f"{CANARY} = x",
        f"{CANARY}:",
        f"  {CANARY}=",
        f"dbpass '{CANARY}'",
        f"dbpass = '{CANARY}",
        f"Threads = {CANARY}",
        f"raw = {CANARY}",
        f"csv = {CANARY}",
        f"apiURL = https://u:{CANARY}@x.com",
        f"apiURL = {CANARY}",
        f"tablename = {CANARY}.{CANARY}",
        f"[{CANARY}",
        f"dbport = '{CANARY}'",
        f"logLevel = {CANARY}",
        f"pricePost = {CANARY}",
        f"dbpass = {CANARY}\ndbpass = {CANARY}",
        f"dbhost = embedded\ndbname = password={CANARY}",
        f"dbhost = {CANARY}\x07",
        f"authCSV = {CANARY}\x07",
    ],
)
def test_no_error_shows_what_may_be_a_secret(tmp_path: Path, line: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        settings_of(tmp_path, file=f"{line}\n")
    assert CANARY not in "".join(traceback.format_exception(caught.value))


@pytest.mark.parametrize(
    "argv",
    [
        [f"--dbpass={CANARY}"],
        ["--dbpass", CANARY],
        [f"--dbpasss={CANARY}"],
        [f"--quiet={CANARY}"],
        [CANARY],
        ["db", CANARY],
        ["crawl", CANARY],
        ["--dbname", f"postgresql://u:{CANARY}@h/d"],
        [f"-{CANARY}"],
        ["--threads", CANARY],
        [f"--{CANARY}"],
    ],
)
def test_no_error_shows_what_stood_on_the_command_line(tmp_path: Path, argv: list[str]) -> None:
    with pytest.raises(ConfigurationError) as caught:
        settings_of(tmp_path, *argv)
    assert CANARY not in "".join(traceback.format_exception(caught.value))


def test_file_with_a_password_that_others_can_read_is_warned_about(tmp_path: Path) -> None:
    ini = tmp_path / "tweet.ini"
    ini.write_text("dbpass = x\n")
    ini.chmod(0o644)
    (note,) = parse([], environ={}, folder=tmp_path).notes
    assert note == f"{ini} holds secrets and is open to others (mode 644): chmod 600 {ini}"
    ini.chmod(0o600)
    assert parse([], environ={}, folder=tmp_path).notes == ()
    ini.write_text("dbpass =\n")
    ini.chmod(0o644)
    assert parse([], environ={}, folder=tmp_path).notes == ()


# --- help and example as documents ----------------------------------------------------------------

ENTRY = re.compile(
    r"^  (?P<spellings>-.*?)(?:  +(?P<first>\S.*))?\n(?P<more>(?: {20,}\S.*\n)*)", re.MULTILINE
)
COMMAND_LINE_ONLY = {"help", "version", "config", "keep"}
COMMAND_LINE_ONLY |= {"format", "output", "columns", "where", "view", "pages", "excelsafe"}
COMMAND_LINE_ONLY |= {"delimiter", "rejects", "again", "yes", "dryrun", "replace"}
COMMAND_LINE_ONLY |= {"query", "queries", "archive", "since", "until", "count"}
COMMAND_LINE_ONLY |= {"trending", "lang", "timelines", "every"}
COMMAND_LINE_ONLY |= {"retweeted", "by", "mincount", "limit", "depth", "stdout", "refresh", "age"}
COMMAND_LINE_ONLY |= {"ids", "user", "ondeleted", "reference", "run", "metrics"}
COMMAND_LINE_ONLY |= {"check", "maxage", "minfree", "metricsfile", "superuser"}
COMMAND_LINE_ONLY |= {"sandbox", "into", "yes", "replace", "repair", "keeprows", "dryrun"}
COMMAND_LINE_ONLY |= {"followers", "following", "maxusers", "maxfollowers", "newest", "restart"}
COMMAND_LINE_ONLY |= {"between", "mutual", "degrees", "at"}
COMMAND_LINE_ONLY |= {"for", "nobudget", "fill", "silentfor"}
COMMAND_LINE_ONLY |= {"ask", "json", "handle", "watch", "html", "markdown", "once"}


def pages() -> dict[str, str]:
    """Every page of the help, by its topic."""
    return {topic: help_text(topic) for topic in (*all_commands(), "options")}


def documented() -> dict[str, tuple[str, str]]:
    """Long option, without dashes -> (metavar, help) as the pages print them."""
    found = {}
    for entry in ENTRY.finditer("\n\n".join(pages().values())):
        text = " ".join(f"{entry['first'] or ''} {entry['more']}".split())
        for name, metavar in re.findall(r"--([\w-]+)(?: ([^\s,]+))?", entry["spellings"]):
            found[name.replace("-", "")] = (metavar, text)
    return found


def keys_of_example() -> dict[str, tuple[str, str]]:
    """Key -> (value, comment above it), switched off or on."""
    found = {}
    for block in EXAMPLE.read_text().split("\n\n"):
        comment = " ".join(re.findall(r"^# (.*)", block, re.MULTILINE))
        for key, value in re.findall(r"^#?(\w+) *=(.*)$", block, re.MULTILINE):
            found[key] = (value.strip(), comment)
    return found


def test_help_has_every_option_with_its_unit() -> None:
    units = {
        "SECONDS": "in seconds",
        "USD": "in USD",
        "DAYS": "days",
        "COUNT": "processes",
        "PORT": "port number",
        "FILE": "file",
        "FOLDER": "folder",
        "on|off": "on or off",
        "LEVEL": "info or debug",
    }
    options = documented()
    assert len(options) > 50
    assert "dbpass" not in options
    for name, (metavar, text) in options.items():
        assert len(text) > 10, name
        assert units.get(metavar, "") in text, name


def test_help_names_groups_exit_codes_and_sources() -> None:
    text = f"\n{help_text('options')}"
    for title in ("general:", "collecting:", "money:", "X:", "database:", "CSV:"):
        assert f"\n{title}\n" in text
    for code in (0, 1, 2, 3, 4, 5, 130, 143):
        assert re.search(rf"^ +{code}  \w", text, re.MULTILINE), code
    assert "TWEETCRAWLER_DBPASS" in text
    assert max(map(len, text.splitlines())) <= 110
    assert version_text() == f"tweetcrawler {__version__}"


def test_example_is_read_as_it_stands(tmp_path: Path) -> None:
    settings = settings_of(tmp_path, file=EXAMPLE.read_text())
    assert settings.notes == ()
    assert settings.database is not None
    assert settings.database.embedded
    assert (settings.auth_csv, settings.handles_file) == (
        tmp_path / "auth.csv",
        tmp_path / "handles.txt",
    )


def test_example_with_everything_switched_on_says_the_defaults(tmp_path: Path) -> None:
    switched_on = re.sub(r"^#(?=\w+ *=)", "", EXAMPLE.read_text(), flags=re.MULTILINE)
    assert switched_on != EXAMPLE.read_text()
    record = settings_of(tmp_path, file=switched_on).arguments_without_secrets()
    short = "authCSV = auth.csv\ndataFolder = postgresql\nbudget = 5"
    assert record == settings_of(tmp_path, file=short).arguments_without_secrets()


def test_example_and_help_know_the_same_options() -> None:
    keys = {key.lower() for key in keys_of_example()}
    options = {name.lower() for name in documented()}
    # The file spells two of them by their other name.
    assert options - keys == COMMAND_LINE_ONLY | {"handles", "folder"}
    assert keys - options == {"dbpass", "notify", "handlesfile", "csvfolder"}


def test_example_has_every_key_of_the_original_and_a_comment_for_each() -> None:
    keys = keys_of_example()
    classic = {
        "dbname",
        "dbuser",
        "dbpass",
        "dbhost",
        "dbport",
        "tablename",
        "authCSV",
        "handlesFile",
        "Threads",
        "CSVFolder",
    }
    assert classic <= set(keys)
    for key, (_, comment) in keys.items():
        assert len(comment) > 20, key
    sections = re.findall(r"^\[(\w+)\]$", EXAMPLE.read_text(), re.MULTILINE)
    assert sections == ["Database", "Twitter", "System"]


def test_help_is_ready_at_once() -> None:
    """The start of the program is seen by everyone who asks it anything."""
    code = (
        "import time; begin = time.process_time()\n"
        "from tweetcrawler.settings import help_text; help_text()\n"
        "import sys; took = time.process_time() - begin\n"
        "heavy = {'tweepy', 'psycopg', 'sqlalchemy', 'requests', 'rich', 'asyncio'}\n"
        "heavy &= set(sys.modules)\n"
        "print(took, *sorted(heavy))"
    )
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=PROJECT)
    took, *heavy = done.stdout.split()
    assert heavy == []
    assert float(took) < 0.25
