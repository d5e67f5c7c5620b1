"""Command `init`: makes a folder for a crawl, from answers or from options."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from tweetcrawler.errors import ConfigurationError
from tweetcrawler.settings import types
from tweetcrawler.settings.commands import SET_UP, Command, Words
from tweetcrawler.settings.options import option

if TYPE_CHECKING:
    from tweetcrawler.local.start import Answers
    from tweetcrawler.secret import Credential
    from tweetcrawler.settings import Database
    from tweetcrawler.setup import Front, Setup

_T = TypeVar("_T")

# A question is repeated this often after answers that cannot be used.
_TRIES = 3
_SANDBOX_KEYS = 4
_WHERE_FROM = "Posts from X with your own keys, or from a local sandbox, free [x/sandbox]: "
_WHERE_TO = "Store them in a private PostgreSQL, your own, or CSV files [private/own/csv]: "
_HOW = "Enter takes the first answer in brackets. Ctrl-C ends and writes nothing."
_KEYS_LATER = "Keys of your app, hidden; blank: write them into auth.csv later."


@dataclass(frozen=True)
class Values:
    """Answers that are no options of other commands, and whether files may be replaced."""

    handles: tuple[str, ...] = ()
    sandbox: bool = False
    into: Path | None = None
    yes: bool = False
    replace: bool = False


def run(setup: Setup, values: Values) -> int:
    """Asks what the options leave open, writes the files, and says what to do next."""
    from tweetcrawler.local import start

    folder = (values.into or Path.cwd()).resolve()
    questions = _Questions(setup.front, asks=setup.front.can_ask() and not values.yes)
    may_replace = values.replace
    if (folder / start.INI).exists() and not may_replace and questions.asks:
        may_replace = questions.agreed(
            f"{start.INI} is there already. Make a new one, and keep the old? [y/N]: "
        )
        if not may_replace:
            raise ConfigurationError("nothing was written: the folder stays as it is.")
    answers = _answers(setup, values, questions, folder, may_replace)
    for sentence in start.written(folder, answers, replace=may_replace):
        setup.front.say(sentence)
    for line in _next_steps(folder, answers, start.program()):
        setup.front.say(line)
    return 0


def _answers(
    setup: Setup, values: Values, questions: _Questions, folder: Path, may_replace: bool
) -> Answers:
    """The answers of the options, and for what they leave open those of the operator."""
    from tweetcrawler.local.start import DEFAULT_BUDGET, HANDLES, KEYS, Answers, free_port

    settings = setup.settings
    is_new = {name: may_replace or not (folder / name).exists() for name in (KEYS, HANDLES)}
    answers = Answers(
        handles=values.handles,
        auth_csv=_checked_keys(setup),
        handles_file=settings.handles_file
        if settings.handles_file != Path.cwd() / HANDLES
        else None,
        database=settings.database,
        csv_folder=settings.csv_folder,
        budget=settings.money.budget,
    )
    if values.sandbox or (answers.auth_csv is None and questions.wants_sandbox()):
        answers = replace(answers, port=free_port(), keys=_sandbox_keys(), auth_csv=None)
    elif answers.auth_csv is None and is_new[KEYS]:
        answers = replace(answers, keys=questions.keys())
    if answers.database is not None and answers.database.embedded:
        answers = questions.sink(answers)
    if not answers.handles and answers.handles_file is None and is_new[HANDLES]:
        answers = replace(answers, handles=questions.handles())
    # Without a database nothing could count what all runs spend.
    if answers.budget is not None and answers.database is None:
        raise ConfigurationError("a budget needs a database; leave out --budget or --csv.")
    if answers.budget is None and answers.database is not None:
        answers = replace(answers, budget=questions.budget(DEFAULT_BUDGET))
    return answers


class _Questions:
    """Questions to the operator; without a terminal each has its usual answer.

    **Errors**: ConfigurationError after a few answers in a row that cannot be used.
    """

    def __init__(self, front: Front, *, asks: bool) -> None:
        self._front = front
        self.asks = asks

    def agreed(self, question: str) -> bool:
        """Whether the answer is yes."""
        return self._asked(question, lambda text: _choice(text, "n", "y", "no", "yes")[0] == "y")

    def wants_sandbox(self) -> bool:
        """Whether posts come from the sandbox."""
        if not self.asks:
            return False
        self._front.say(_HOW)
        return self._asked(_WHERE_FROM, lambda text: _choice(text, "x", "sandbox")) == "sandbox"

    def keys(self) -> tuple[Credential, ...] | None:
        """One credential; None when it is to be written later."""
        from tweetcrawler.settings.credentials import ask_credentials

        if not self.asks:
            return None
        self._front.say(_KEYS_LATER)

        def asked(first: str) -> tuple[Credential, ...] | None:
            answered = iter([first])
            ask = self._front.ask
            return (ask_credentials(lambda q: next(answered, None) or ask(q)),) if first else None

        return self._asked("consumer key: ", asked, hidden=True)

    def sink(self, answers: Answers) -> Answers:
        """The answers with the place of the posts."""
        if not self.asks:
            return answers
        choice = self._asked(_WHERE_TO, lambda text: _choice(text, "private", "own", "csv"))
        if choice == "csv":
            return replace(answers, database=None)
        return replace(answers, database=self._database()) if choice == "own" else answers

    def _database(self) -> Database:
        from tweetcrawler.settings import Database, Secret

        port = types.whole(1, 65535)
        return Database(
            embedded=False,
            host=self._asked("host of the server [localhost]: ", types.text_of) or "localhost",
            port=self._asked("port [5432]: ", lambda text: port(text) if text else None),
            name=self._asked("name of the database: ", _needed),
            user=self._asked("role that logs in: ", _needed),
            password=self._asked(
                "password, hidden; blank: from ~/.pgpass or TWEETCRAWLER_DBPASS: ",
                lambda text: Secret(text) if text else None,
                hidden=True,
            ),
        )

    def handles(self) -> tuple[str, ...]:
        """Handles, each once; none when they are to be written later."""
        if not self.asks:
            return ()
        return self._asked(
            "Handles with spaces between; blank: write them into handles.txt later: ",
            lambda text: tuple(dict.fromkeys(map(types.handle, text.replace(",", " ").split()))),
        )

    def budget(self, usual: float) -> float:
        """The most that a run may spend, in USD."""
        if not self.asks:
            return usual
        amount = types.number(0, 10_000_000)
        return self._asked(
            f"Most that one run may spend, in USD [{usual:g}]: ",
            lambda text: amount(text.removeprefix("$")) if text else usual,
        )

    def _asked(self, question: str, understood: Callable[[str], _T], *, hidden: bool = False) -> _T:
        """The answer as `understood` makes it of the text."""
        for _ in range(_TRIES):
            text = (self._front.ask if hidden else self._front.reply)(question).strip()
            try:
                return understood(text)
            except types.BadValue as error:
                self._front.note(f"the answer {error}")
            except ConfigurationError as error:
                self._front.note(str(error))
        raise ConfigurationError(f"{_TRIES} answers could not be used, and nothing was written.")


def _choice(text: str, *choices: str) -> str:
    """The choice of which the text is the beginning; the first one for a blank text."""
    found = [choice for choice in choices if choice.startswith(text.lower())]
    if not found:
        raise types.BadValue(f"must be one of {', '.join(choices)}")
    return found[0]


def _needed(text: str) -> str:
    if not text:
        raise types.BadValue("must not be blank")
    return types.text_of(text)


def _checked_keys(setup: Setup) -> Path | None:
    """The operator's own auth CSV, which must be usable."""
    from tweetcrawler.settings.credentials import read_credentials

    path = setup.settings.auth_csv
    if path is not None:
        for note in read_credentials(path).notes:
            setup.front.note(note)
    return path


def _sandbox_keys() -> tuple[Credential, ...]:
    """The keys that every sandbox of this program takes: they follow from its seed."""
    from tweetcrawler.sandbox import Options, auth
    from tweetcrawler.secret import Credential, Secret

    return tuple(
        Credential(
            one.name,
            *map(Secret, (one.consumer_key, one.consumer_secret)),
            *map(Secret, (one.access_token, one.access_token_secret, one.bearer_token)),
        )
        for one in auth.Keys(Options().seed, _SANDBOX_KEYS).all
    )


def _next_steps(folder: Path, answers: Answers, program: str) -> list[str]:
    steps = [] if folder == Path.cwd() else [(f"cd {folder}", "")]
    if answers.port is not None:
        server = f"sandbox --port {answers.port} --credentials {_SANDBOX_KEYS}"
        steps.append((f"{program} {server}", "in a terminal of its own"))
    if answers.database is not None and not answers.database.embedded:
        steps.append((f"{program} db upgrade", "makes the tables, once"))
    steps.append((f"{program} doctor", "says what is missing"))
    if answers.database is not None:
        steps.append((f"{program} plan", "the price before"))
    steps.append((program, "the crawl"))
    return ["", "Next:", *(f"  {line}{f'   # {why}' if why else ''}" for line, why in steps)]


COMMAND = Command(
    name="init",
    summary="make a folder for a crawl: settings, keys, handles",
    group=SET_UP,
    about="It asks on a terminal what the options leave open. Without one, or with --yes, it "
    "takes the usual answers: X, placeholders for keys, the private PostgreSQL, $5. The words "
    "are handles. A file that is there is never replaced without --replace or your yes.",
    words=Words("[HANDLE...]", "handles", types.handle),
    options=(
        option("--sandbox", help="posts from the sandbox: free, and without keys of your own"),
        option(
            "--into",
            metavar="FOLDER",
            type=Path,
            help="folder that gets the files; it is made if it is not there",
            default="the working folder",
        ),
        option("--yes", help="ask nothing: the usual answer to all that is left open"),
        option("--replace", help="make new files; the old ones stay as NAME.old"),
    ),
    values=Values,
    run=run,
    examples=(
        ("tweetcrawler init", "questions and answers on a terminal"),
        ("tweetcrawler init ada grace --sandbox --yes", "a free trial, without a question"),
        ("tweetcrawler init --auth-csv keys.csv --dbname tweets --budget 25", "without a terminal"),
    ),
    price="nothing.",
    reads_file=False,
)
