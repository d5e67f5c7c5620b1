"""Places: a folder, and a bucket of moto's server over HTTP."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import traceback
from pathlib import Path

import pytest
from s3_server import BUCKET, KEY, SECRET, Failing, S3Server, closed_port

from tweetcrawler.errors import ConfigurationError
from tweetcrawler.keeping.places import (
    FilePlace,
    NameTaken,
    NothingThere,
    Place,
    PlaceError,
    PlaceRefused,
    S3Options,
    fetch,
    place_of,
    put_once,
    sha256_at,
)


@pytest.fixture(params=["file", "s3"])
def place(request: pytest.FixtureRequest, tmp_path: Path, s3: S3Server) -> Place:
    if request.param == "file":
        return place_of((tmp_path / "a place").as_uri())
    return place_of(f"s3://{BUCKET}/{tmp_path.name}/deep", s3.options())


@pytest.fixture
def made(tmp_path: Path) -> Path:
    path = tmp_path / "made"
    path.write_bytes(os.urandom(3_000_000))
    return path


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_an_object_is_read_back_listed_and_deleted(
    place: Place, made: Path, tmp_path: Path
) -> None:
    assert list(place.names()) == []
    place.put("one", made, sha256(made))
    assert sha256_at(place, "one") == sha256(made)
    fetch(place, "one", tmp_path / "back")
    assert (tmp_path / "back").read_bytes() == made.read_bytes()
    assert list(place.names()) == [("one", 3_000_000)]
    place.delete("one")
    place.delete("one")
    assert list(place.names()) == []
    with pytest.raises(NothingThere, match=f"{place.url} has no .* one"):
        sha256_at(place, "one")


def test_a_name_is_given_once(place: Place, made: Path, tmp_path: Path) -> None:
    place.put("one", made, sha256(made))
    with pytest.raises(NameTaken, match="has another"):
        place.put("one", made, sha256(made))
    put_once(place, "one", made, sha256(made))  # as after an answer that was lost
    other = tmp_path / "other"
    other.write_bytes(b"other")
    with pytest.raises(NameTaken):
        put_once(place, "one", other, sha256(other))
    assert sha256_at(place, "one") == sha256(made)


@pytest.mark.slow
def test_more_objects_than_a_page_of_a_list(s3: S3Server, tmp_path: Path) -> None:
    client = s3.client()
    for number in range(1_005):
        client.put_object(Bucket=BUCKET, Key=f"many/{number:04}", Body=b"")
    place = place_of(f"s3://{BUCKET}/many", s3.options())
    assert [name for name, _ in place.names()] == [f"{number:04}" for number in range(1_005)]


def test_a_folder_place_shows_no_half_object(tmp_path: Path, made: Path) -> None:
    place = FilePlace(tmp_path / "place")
    place.put("one", made, sha256(made))
    (tmp_path / "place" / ".two.part").write_bytes(b"what a killed process left")
    assert [name for name, _ in place.names()] == ["one"]
    place.put("two", made, sha256(made))
    assert sorted(path.name for path in (tmp_path / "place").iterdir()) == ["one", "two"]


def test_a_disk_without_hard_links_is_a_place(
    tmp_path: Path, made: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """FAT refuses links with EPERM. No such disk can be mounted everywhere."""

    def refuse(*_: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(Path, "hardlink_to", refuse)
    place = FilePlace(tmp_path / "place")
    place.put("one", made, sha256(made))
    assert sha256_at(place, "one") == sha256(made)
    with pytest.raises(NameTaken):
        place.put("one", made, sha256(made))


def test_a_folder_that_cannot_be_written_is_a_sentence(tmp_path: Path, made: Path) -> None:
    (tmp_path / "file").write_text("")
    place = place_of((tmp_path / "file").as_uri())
    with pytest.raises(PlaceError, match=r"/file is no folder: name another place"):
        place.put("one", made, sha256(made))


@pytest.mark.parametrize(
    "url", ["/tmp", "http://host/x", "file://host/x", "s3://", "s3://b/p?x=1", "", "file:"]
)
def test_another_address_is_refused(url: str) -> None:
    with pytest.raises(PlaceRefused, match="is no place: write file:///folder or s3://"):
        place_of(url)


@pytest.mark.parametrize("url", ["s3://bucket", "s3://bucket/", "s3://bucket/a/b"])
def test_an_address_is_what_was_written(url: str) -> None:
    assert place_of(url).url == url.rstrip("/")


# -- a bucket that refuses ---------------------------------------------------------------------


def test_an_unknown_bucket_is_named(s3: S3Server, made: Path) -> None:
    place = place_of("s3://elsewhere/x", s3.options())
    with pytest.raises(PlaceRefused, match=r"s3://elsewhere/x refuses one: there is no such buck"):
        place.put("one", made, sha256(made))
    with pytest.raises(PlaceRefused, match="there is no such bucket"):
        list(place.names())


@pytest.mark.parametrize(
    ("status", "code", "sentence"),
    [
        (403, "InvalidAccessKeyId", "its keys are refused: check them"),
        (403, "SignatureDoesNotMatch", "its keys are refused: check them"),
        (403, "RequestTimeTooSkewed", "this machine's clock is wrong by minutes"),
        (403, "AccessDenied", "an object lock forbids it"),
        (400, "ExpiredToken", "its session has expired"),
        (400, "AuthorizationHeaderMalformed", "set s3Region"),
    ],
)
def test_a_refusal_is_one_sentence_and_ends_the_run(
    s3: S3Server, made: Path, status: int, code: str, sentence: str
) -> None:
    with Failing(s3.port) as failing:
        failing.failures, failing.status, failing.code = 1_000, status, code
        place = place_of(f"s3://{BUCKET}/refused", s3.options(failing.port))
        with pytest.raises(PlaceRefused, match=sentence) as caught:
            place.put("one", made, sha256(made))
    assert caught.value.exit_code == 2
    assert isinstance(caught.value, ConfigurationError)
    _no_secret("".join(traceback.format_exception(caught.value)), str(place.__dict__))


def test_500s_are_tried_again_and_then_told(s3: S3Server, made: Path) -> None:
    with Failing(s3.port) as failing:
        place = place_of(f"s3://{BUCKET}/failing", s3.options(failing.port))
        failing.failures = 2
        put_once(place, "one", made, sha256(made))
        assert failing.requests >= 3
        failing.failures = 100
        with pytest.raises(PlaceError, match="fails at two with InternalError; run again") as told:
            place.put("two", made, sha256(made))
    _no_secret("".join(traceback.format_exception(told.value)))


def test_no_server_is_a_sentence(made: Path, s3: S3Server) -> None:
    place = place_of(f"s3://{BUCKET}/x", s3.options(closed_port()))
    with pytest.raises(PlaceError, match="does not answer"):
        place.put("one", made, sha256(made))


def _no_secret(*texts: str) -> None:
    for text in texts:
        assert SECRET not in text
        assert KEY not in text


def test_keys_come_from_the_default_chain(
    s3: S3Server, made: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", KEY)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", f"http://127.0.0.1:{s3.port}")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    place = place_of(f"s3://{BUCKET}/chain")
    place.put("one", made, sha256(made))
    assert set(s3.objects("chain/")) == {"one"}


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (S3Options(region="us-east-1"), "no keys for s3://bucket/x: run `aws configure`"),
        (S3Options(profile="nobody"), "no keys for s3://bucket/x"),
        (S3Options(endpoint="nonsense", key=KEY, secret=SECRET), "correct archivePlace, s3Endpo"),
    ],
)
def test_missing_keys_are_a_sentence(
    options: S3Options, sentence: str, made: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("HOME", str(tmp_path))
    with pytest.raises(PlaceRefused, match=sentence):
        place_of("s3://bucket/x", options).put("one", made, sha256(made))


def test_options_show_no_secret() -> None:
    _no_secret(repr(S3Options(key=KEY, secret=SECRET)))


def test_a_folder_needs_no_boto3() -> None:
    program = (
        "import sys; from tweetcrawler.keeping import archive, places, segments;"
        "places.place_of('file:///tmp/x'); assert 'boto3' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", program], check=True)
