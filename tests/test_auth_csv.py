"""What may stand in the auth CSV, what is said of the rest, and that no key is ever told."""

from __future__ import annotations

import pickle
import traceback
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tweetcrawler.errors import ConfigurationError
from tweetcrawler.secret import Credential, Secret
from tweetcrawler.settings.credentials import (
    KEY_COLUMNS,
    OPTIONAL_COLUMNS,
    CredentialFile,
    ask_credentials,
    no_credentials_sentence,
    read_credentials,
)

HEADER = "consumer_key,consumer_secret,access_token,access_token_secret"
CANARY = "c4nary-Secret-0815"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("auth")


def read(folder: Path, content: str | bytes, mode: int = 0o600) -> CredentialFile:
    path = folder / "auth.csv"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    path.chmod(mode)
    return read_credentials(path)


def refusal(folder: Path, content: str | bytes) -> str:
    with pytest.raises(ConfigurationError) as caught:
        read(folder, content)
    assert caught.value.exit_code == 2
    return str(caught.value).replace(str(folder), "")


def notes(file: CredentialFile, folder: Path) -> list[str]:
    return [note.replace(str(folder), "") for note in file.notes]


# --- what is accepted -----------------------------------------------------------------------------

KEY = st.text(
    st.characters(min_codepoint=33, max_codepoint=126, exclude_characters=',"'),
    min_size=1,
    max_size=60,
)


@given(
    rows=st.lists(
        st.tuples(KEY, KEY, KEY, KEY, KEY), min_size=1, max_size=5, unique_by=lambda row: row[:4]
    ),
    order=st.permutations([*KEY_COLUMNS, *OPTIONAL_COLUMNS]),
    ending=st.sampled_from(["\n", "\r\n", "\n\n", "\r"]),
    space=st.sampled_from(["", " ", "\t"]),
    encoding=st.sampled_from(["utf-8", "utf-8-sig", "utf-16"]),
    quoted=st.booleans(),
    upper=st.booleans(),
)
def test_same_credentials_come_out_of_any_file_that_holds_them(
    folder: Path,
    rows: list[tuple[str, ...]],
    order: list[str],
    ending: str,
    space: str,
    encoding: str,
    quoted: bool,
    upper: bool,
) -> None:
    lines = [order]
    for number, row in enumerate(rows):
        cells = dict(zip((*KEY_COLUMNS, "bearer_token"), row, strict=True))
        cells |= {"name": f"project {number}", "proxy": ""}
        lines.append([cells[column] for column in order])
    lines[0] = [column.upper() if upper else column for column in order]
    mark = '"' if quoted else ""
    text = ending.join(
        f"{space},{space}".join(f"{mark}{cell}{mark}" for cell in line) for line in lines
    )
    found = read(folder, text.encode(encoding))
    assert found.notes == ()
    assert [
        tuple(getattr(each, column).reveal() for column in (*KEY_COLUMNS, "bearer_token"))
        for each in found.credentials
    ] == rows
    assert [each.name for each in found.credentials] == [
        f"project {number}" for number in range(len(rows))
    ]


def test_rows_may_hold_only_a_bearer_or_only_a_key_and_its_secret(tmp_path: Path) -> None:
    text = f"{HEADER},bearer_token\n,,,,b1\nk2,s2\nk3,s3,t3,u3\nk4,s4,,,b4\n"
    found = read(tmp_path, text)
    assert found.notes == ()
    assert [(each.has_user_context, each.has_app) for each in found.credentials] == [
        (False, True),
        (False, True),
        (True, True),
        (False, True),
    ]
    assert found.credentials[0] == Credential("credential-1", bearer_token=Secret("b1"))


def test_header_may_have_only_what_the_rows_need(tmp_path: Path) -> None:
    assert read(tmp_path, "bearer_token\nb\n").credentials[0].bearer_token == Secret("b")
    assert read(tmp_path, "consumer_secret,consumer_key\ns,k\n").credentials[
        0
    ].consumer_key == Secret("k")


def test_blank_lines_and_lines_of_commas_are_passed_over(tmp_path: Path) -> None:
    found = read(tmp_path, f"\n\n{HEADER}\n\n,,,\n  \nk,s,t,u\n\n")
    assert (len(found.credentials), found.notes) == (1, ())


@pytest.mark.parametrize(
    "proxy", ["http://h:1", "https://u:p@h", "socks5://127.0.0.1:1080", "socks5h://h"]
)
def test_proxy_may_be_http_or_socks(tmp_path: Path, proxy: str) -> None:
    (credential,) = read(tmp_path, f"{HEADER},proxy\nk,s,t,u,{proxy}\n").credentials
    assert credential.proxy == Secret(proxy)


# --- names ----------------------------------------------------------------------------------------


def test_unnamed_credentials_are_numbered_and_names_stay_unique(tmp_path: Path) -> None:
    text = "bearer_token,name\na,\nb,credential-3\nc,\nd,Lab 1\ne,Lab 1\n"
    found = read(tmp_path, text)
    names = [each.name for each in found.credentials]
    assert names == ["credential-1", "credential-3", "credential-4", "Lab 1", "credential-5"]
    assert notes(found, tmp_path) == [
        "/auth.csv, line 6, column name: the name is used before; a number is taken."
    ]


@pytest.mark.parametrize("name", ["x" * 41, "a/b", "naïve", "a\x1bb"])
def test_name_that_could_spoil_a_log_is_replaced_and_not_shown(tmp_path: Path, name: str) -> None:
    found = read(tmp_path, f"bearer_token,name\na,{name}\n")
    assert found.credentials[0].name == "credential-1"
    (note,) = notes(found, tmp_path)
    assert note == (
        "/auth.csv, line 2, column name: the name is not 1 to 40 letters, digits, spaces, . _ -; "
        "a number is taken."
    )


# --- repeated rows --------------------------------------------------------------------------------


def test_repeated_rows_are_one_and_fill_each_other(tmp_path: Path) -> None:
    text = f"{HEADER},bearer_token,name,proxy\nk,s,t,u,,,\nk,s,t,u,b,one,http://p\nk,s,t,u,c,two,\n"
    found = read(tmp_path, text)
    (credential,) = found.credentials
    assert (credential.name, credential.bearer_token, credential.proxy) == (
        "one",
        Secret("b"),
        Secret("http://p"),
    )
    assert notes(found, tmp_path) == [
        "/auth.csv, line 3: the same keys as in line 2; taken as one row.",
        "/auth.csv, line 4: the same keys as in line 2; taken as one row.",
        "/auth.csv, line 4, column bearer_token: not the value of line 2, which counts.",
    ]


@pytest.mark.parametrize("bearer_first", [True, False])
def test_bearer_alone_is_the_row_in_which_it_stands_beside_its_keys(
    tmp_path: Path, bearer_first: bool
) -> None:
    """Else its app's windows would be counted twice."""
    rows = ["k,s,t,u,b", ",,,,b"]
    if bearer_first:
        rows.reverse()
    found = read(tmp_path, f"{HEADER},bearer_token\n" + "\n".join(rows))
    assert len(found.credentials) == 1
    assert found.credentials[0].has_user_context
    assert len(found.notes) == 1


def test_users_of_one_app_stay_apart_and_share_its_fingerprint(tmp_path: Path) -> None:
    found = read(tmp_path, f"{HEADER}\nk,s,t1,u1\nk,s,t2,u2\nk,s\n")
    assert len(found.credentials) == 3
    assert len({each.app_fingerprint for each in found.credentials}) == 1
    assert len({each.user_fingerprint for each in found.credentials}) == 3


# --- fingerprints ---------------------------------------------------------------------------------


FEW_KEYS = st.lists(st.sampled_from("ab"), min_size=4, max_size=4)


@given(FEW_KEYS, FEW_KEYS)
def test_fingerprints_are_equal_exactly_for_equal_keys(one: list[str], other: list[str]) -> None:
    first, second = (
        Credential(name, **dict(zip(KEY_COLUMNS, map(Secret, keys), strict=True)))
        for name, keys in (("a", one), ("b", other))
    )
    same_user = (one[0], one[2], one[3]) == (
        other[0],
        other[2],
        other[3],
    )  # the app's secret is not in it
    assert (first.user_fingerprint == second.user_fingerprint) == same_user
    assert (first.app_fingerprint == second.app_fingerprint) == (one[:2] == other[:2])


def test_fingerprint_is_short_stable_and_holds_no_key() -> None:
    keys = [f"{CANARY}-{column}-{'x' * 80}" for column in KEY_COLUMNS]
    credential = Credential("a", **dict(zip(KEY_COLUMNS, map(Secret, keys), strict=True)))
    bearer = Credential("b", bearer_token=Secret(keys[0]))
    prints = [credential.user_fingerprint, credential.app_fingerprint, bearer.app_fingerprint]
    assert prints == [
        pickle.loads(pickle.dumps(credential)).user_fingerprint,
        credential.app_fingerprint,
        bearer.app_fingerprint,
    ]
    assert len(set(prints)) == 3
    for each in prints:
        assert each is not None
        assert len(each) == 32
        int(each, 16)
    assert bearer.user_fingerprint is None


# --- what is refused ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("row", "sentence"),
    [
        (
            "k,,t,u",
            ", column consumer_secret: it is empty although there is a value for consumer_key;",
        ),
        (
            ",s,t,u",
            ", column consumer_key: it is empty although there is a value for consumer_secret;",
        ),
        (
            "k,s,t,",
            ", column access_token_secret: it is empty although there is a value for access_token;",
        ),
        (
            "k,s,,u",
            ", column access_token: it is empty although there is a value for access_token_secret;",
        ),
        (",,t,u", ", column consumer_key: it is empty although there is a value for access_token;"),
        (
            ",,t,u,b",
            ", column consumer_key: it is empty although there is a value for access_token;",
        ),
        (",,,,,name", ", column consumer_key: it is empty, and there is no bearer_token;"),
        (
            "k,s s,t,u",
            ", column consumer_secret: white space, a control or foreign character is inside;",
        ),
        (
            "k,s,t,u\x07u",
            ", column access_token_secret: white space, a control or foreign character is inside;",
        ),
        (
            "k\u00a0k,s,t,u",
            ", column consumer_key: white space, a control or foreign character is inside;",
        ),
        (
            "k,s,t,ü",
            ", column access_token_secret: white space, a control or foreign character is inside;",
        ),
        (
            "k,s,t,u,b\u2028x",
            ", column bearer_token: white space, a control or foreign character is inside;",
        ),
        ("k,s,t,u,b,n,p,q", ", column 8: there are more values than columns;"),
        (
            "k,s,t,u,b,n,ftp://h",
            ", column proxy: it must be a URL that begins with http, https, socks5, socks5h;",
        ),
        (
            "k,s,t,u,b,n,http://",
            ", column proxy: it must be a URL that begins with http, https, socks5, socks5h;",
        ),
        (
            "k,s,t,u,b,n,http://h:x",
            ", column proxy: it must be a URL that begins with http, https, socks5, socks5h;",
        ),
    ],
)
def test_bad_row_is_named_by_line_and_column_and_the_others_are_used(
    tmp_path: Path, row: str, sentence: str
) -> None:
    found = read(tmp_path, f"{HEADER},bearer_token,name,proxy\n{row}\ngood,s,t,u\n")
    assert [each.consumer_key for each in found.credentials] == [Secret("good")]
    assert notes(found, tmp_path) == [f"/auth.csv, line 2{sentence} the row is left out."]


def test_file_without_a_usable_row_is_refused_with_the_reasons(tmp_path: Path) -> None:
    assert (
        refusal(tmp_path, f"{HEADER}\n")
        == "/auth.csv has no usable row; write keys below the header."
    )
    said = refusal(tmp_path, f"{HEADER}\nk,,,\n")
    assert said.startswith("/auth.csv has no usable row;")
    assert "line 2, column consumer_secret" in said


@pytest.mark.parametrize(
    "content", ["", "\n\n", "a,b,c,d\n", f"{HEADER.replace(',', ';')}\nk;s;t;u\n"]
)
def test_file_without_the_header_is_refused_with_the_header(tmp_path: Path, content: str) -> None:
    said = refusal(tmp_path, content)
    assert said.startswith(
        "/auth.csv, line 1: this must be the header of the auth CSV, with the columns"
    )
    assert all(column in said for column in (*KEY_COLUMNS, *OPTIONAL_COLUMNS))


def test_half_of_a_pair_missing_in_the_header_is_named(tmp_path: Path) -> None:
    header = "consumer_key,access_token,access_token_secret"
    assert refusal(tmp_path, f"{header}\nk,t,u\n") == (
        "/auth.csv, line 1: the column consumer_secret is missing; add it."
    )


def test_repeated_column_is_refused(tmp_path: Path) -> None:
    assert "the column consumer_key stands there twice" in refusal(
        tmp_path, f"{HEADER},Consumer_Key\n"
    )


def test_unknown_column_is_named_and_not_read(tmp_path: Path) -> None:
    found = read(tmp_path, f"comment,{HEADER},x1y2\nmy own,k,s,t,u,z\n")
    assert notes(found, tmp_path) == [
        "/auth.csv, line 1: the column 'comment' is not known and not read.",
        "/auth.csv, line 1: the column 6 is not known and not read.",
    ]
    assert len(found.credentials) == 1


def test_open_quote_is_named_by_the_line_where_it_opens(tmp_path: Path) -> None:
    said = refusal(tmp_path, f'{HEADER}\nk,s,t,u\nk,"s,t,u\nk,s,t,u\n')
    assert said == "/auth.csv, line 3: a quote is opened and not closed; keys need no quotes."
    said = refusal(tmp_path, f'{HEADER}\nk,"s"s,t,u\n')
    assert said == "/auth.csv, line 2: a quote stands inside a value; keys need no quotes."


def test_file_that_is_no_text_is_refused(tmp_path: Path) -> None:
    assert "line 2: this is no text in UTF-8" in refusal(
        tmp_path, HEADER.encode() + b"\n\xff\xfek,s,t,u"
    )
    assert "line 2: this is too long" in refusal(tmp_path, HEADER + "\n" + "x" * 200_000)


def test_missing_file_and_folder_are_refused_with_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(
        ConfigurationError, match=r"The auth CSV .*none.csv is not there; check the path"
    ):
        read_credentials(tmp_path / "none.csv")
    with pytest.raises(ConfigurationError, match="is a folder; name the file in it"):
        read_credentials(tmp_path)


@pytest.mark.parametrize("mode", [0o644, 0o640, 0o620, 0o604])
def test_file_that_others_can_read_is_warned_about(tmp_path: Path, mode: int) -> None:
    folder = tmp_path / "my keys"
    folder.mkdir()
    found = read(folder, f"{HEADER}\nk,s,t,u\n", mode)
    note = f"{folder}/auth.csv holds secrets and is open to others (mode {mode:o})"
    assert found.notes == (f"{note}: chmod 600 '{folder}/auth.csv'",)


# --- the terminal ---------------------------------------------------------------------------------


def test_four_keys_are_asked_for(tmp_path: Path) -> None:
    asked: list[str] = []
    answers = iter(["k", " s ", "t", "u"])

    def ask(question: str) -> str:
        asked.append(question)
        return next(answers)

    assert ask_credentials(ask) == Credential(
        "credential-1", Secret("k"), Secret("s"), Secret("t"), Secret("u")
    )
    assert asked == [
        "consumer key: ",
        "consumer secret: ",
        "access token: ",
        "access token secret: ",
    ]


@pytest.mark.parametrize(
    "answers",
    [
        ["", "", "", ""],
        ["k", "", "t", "u"],
        ["k", "s", CANARY, ""],
        [f"{CANARY} {CANARY}", "s", "t", "u"],
    ],
)
def test_answers_that_cannot_be_keys_are_refused_and_not_shown(answers: list[str]) -> None:
    given_answers = iter(answers)
    with pytest.raises(ConfigurationError, match=r"The answer, column \w+: ") as caught:
        ask_credentials(lambda _: next(given_answers))
    assert CANARY not in "".join(traceback.format_exception(caught.value))


def test_sentence_for_no_terminal_says_what_to_do() -> None:
    sentence = no_credentials_sentence()
    assert "--auth-csv" in sentence
    assert all(column in sentence for column in KEY_COLUMNS)


# --- secrets --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "content",
    [
        f"{CANARY},{CANARY},{CANARY},{CANARY}\n",
        f"{CANARY}\n",
        f"{HEADER}\n{CANARY},,,\n",
        f"{HEADER}\nk,{CANARY} {CANARY},t,u\n",
        f"{HEADER}\nk,{CANARY}\x07,t,u\n",
        f'{HEADER}\nk,"{CANARY},t,u\n',
        f'{HEADER}\nk,"{CANARY}"{CANARY},t,u\n',
        f"{HEADER},proxy\nk,s,t,u,ftp://u:{CANARY}@h\n",
        f"{HEADER},proxy\nk,s,t,u,http://u:{CANARY}@h:{CANARY}\n",
        f"{HEADER}\nk,s,t,u,{CANARY}\n",
        f"{HEADER}\n{CANARY}\n".encode() + b"\xff",
        f"{HEADER},{HEADER},{CANARY}\n",
    ],
)
def test_no_error_shows_a_key(tmp_path: Path, content: str | bytes) -> None:
    with pytest.raises(ConfigurationError) as caught:
        read(tmp_path, content)
    assert CANARY not in "".join(traceback.format_exception(caught.value))


def test_notes_and_credentials_show_no_key(tmp_path: Path) -> None:
    text = (
        f"{HEADER},bearer_token,name,proxy,{CANARY}\n"
        f"{CANARY},{CANARY},{CANARY},{CANARY},{CANARY},,http://u:{CANARY}@h\n"
        f"{CANARY},{CANARY},{CANARY},{CANARY},{CANARY}2,,http://u:{CANARY}@i\n"
        f"{CANARY},,,,,,\n,,,,,{CANARY},\nk,s,t,u,,{CANARY}/,\nk2,s,t,u,,,{CANARY}\n"
    )
    found = read(tmp_path, text, 0o644)
    assert len(found.notes) == 9
    copy = pickle.loads(pickle.dumps(found))
    assert copy == found
    assert copy.credentials[0].access_token.reveal() == CANARY
    for text in (
        repr(copy),
        str(copy.credentials),
        f"{copy.credentials[0].bearer_token}",
        *copy.notes,
    ):
        assert CANARY not in text
