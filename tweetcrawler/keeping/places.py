"""Places where closed segments are kept: a folder or a bucket, named by a URL.

A place keeps an object under a name that is given once. It never overwrites, and nobody
believes it: what it keeps is read back and hashed.
"""

from __future__ import annotations

import hashlib
import os
import secrets
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import BinaryIO, NamedTuple, Protocol
from urllib.parse import unquote, urlsplit

from tweetcrawler.errors import ConfigurationError, TweetcrawlerError
from tweetcrawler.files import sync_folder

PIECE = 1 << 20
KEY_VARIABLE, SECRET_VARIABLE = "TWEETCRAWLER_S3KEY", "TWEETCRAWLER_S3SECRET"


class PlaceError(TweetcrawlerError):
    """A place cannot be used now; nothing was lost, a later call goes on."""


class PlaceRefused(ConfigurationError):
    """A place cannot be used as it is configured."""


class NameTaken(PlaceError):
    """The name is taken by other content."""


class NothingThere(PlaceError):
    """The place has no object of this name."""


class Stored(NamedTuple):
    """An object of a place: its name and its size in bytes."""

    name: str
    bytes: int


@dataclass(frozen=True)
class S3Options:
    """How a bucket is reached; empty texts leave it to the default chain of AWS.

    `endpoint` is the URL of a server other than AWS. `silence_s` is how long the server may
    send nothing before it is asked again; a slow line empties its buffer in that time, too.
    """

    endpoint: str = ""
    region: str = ""
    profile: str = ""
    key: str = field(default="", repr=False)
    secret: str = field(default="", repr=False)
    silence_s: float = 60.0


class Place(Protocol):
    """A store of objects that are written once.

    **Errors**: every method raises `PlaceError` when the place does not work now, and
    `PlaceRefused` when it never will with these settings.
    """

    @property
    def url(self) -> str:
        """The address of the place, for people and for the ledger."""

    def put(self, name: str, path: Path, sha256: str) -> None:
        """Stores the file under a name that is not taken.

        **Errors**: `NameTaken` when the name has an object, whatever it holds.
        """

    def read(self, name: str) -> AbstractContextManager[BinaryIO]:
        """The object as a stream.

        **Errors**: `NothingThere`; the stream itself raises `PlaceError`.
        """

    def names(self) -> Iterator[Stored]:
        """All objects of the place, by name."""

    def delete(self, name: str) -> None:
        """Deletes the object, if there is one."""


def s3_options(endpoint: str, region: str, profile: str) -> S3Options:
    """How a bucket is reached, with the keys of the environment where it has them."""
    # Keys come from here, or from where AWS's own programs find them: never from a file that
    # is shown to others.
    key, secret = os.environ.get(KEY_VARIABLE, ""), os.environ.get(SECRET_VARIABLE, "")
    return S3Options(endpoint, region, profile, key, secret)


def place_of(url: str, s3: S3Options | None = None) -> Place:
    """The place at `file:///folder` or `s3://bucket/prefix`.

    **Errors**: `PlaceRefused` for another address, and for a bucket without boto3.
    """
    parts = urlsplit(url)
    if parts.scheme == "file" and parts.netloc in ("", "localhost") and parts.path:
        return FilePlace(Path(unquote(parts.path)))
    if parts.scheme == "s3" and parts.netloc and not parts.query:
        from tweetcrawler.keeping.s3 import S3Place

        return S3Place(parts.netloc, unquote(parts.path).strip("/"), s3 or S3Options())
    raise PlaceRefused(f"{url} is no place: write file:///folder or s3://bucket/prefix")


def sha256_at(place: Place, name: str) -> str:
    """The hash of an object as it is read back.

    **Errors**: as `Place.read`.
    """
    found = hashlib.sha256()
    for piece in _pieces(place, name):
        found.update(piece)
    return found.hexdigest()


def fetch(place: Place, name: str, path: Path) -> None:
    """Copies an object into a new file.

    **Errors**: as `Place.read`, and OSError when the file cannot be written.
    """
    with path.open("wb") as target:
        for piece in _pieces(place, name):
            target.write(piece)


def _pieces(place: Place, name: str) -> Iterator[bytes]:
    with place.read(name) as stream:
        while True:
            try:
                piece = stream.read(PIECE)
            except OSError as error:
                raise PlaceError(
                    f"{place.url} cannot be read at {name}: {error.strerror}; look at its disk"
                ) from None
            if not piece:
                return
            yield piece


def put_once(place: Place, name: str, path: Path, sha256: str) -> None:
    """Stores a file under a name, or finds that it is stored there already.

    The answer to an upload can be lost after the upload was done, so a taken name with the
    same content is a success.

    **Errors**: `NameTaken` when the name has other content.
    """
    try:
        place.put(name, path, sha256)
    except NameTaken:
        if sha256_at(place, name) != sha256:
            raise


def trial(place: Place) -> list[str]:
    """What the place does not check, a sentence each; it is asked with objects of 1 kB.

    **Errors**: `PlaceError` and `PlaceRefused` when it cannot be used at all.
    """
    name = f"check-{secrets.token_hex(8)}"
    with TemporaryDirectory() as folder:
        path = Path(folder) / name
        path.write_bytes(os.urandom(1024))
        sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
        try:
            return _asked(place, name, path, sha256)
        finally:
            for used in (name, f"{name}-wrong"):
                place.delete(used)


def _asked(place: Place, name: str, path: Path, sha256: str) -> list[str]:
    found: list[str] = []
    place.put(name, path, sha256)
    if sha256_at(place, name) != sha256:
        raise PlaceRefused(f"{place.url} gives back other bytes: name another place")
    if name not in (one.name for one in place.names()):
        raise PlaceRefused(f"{place.url} does not list what it has: name another place")
    if not _refuses(place, name, path, sha256):
        found.append(f"{place.url} overwrites: names that never repeat are what protects there")
    if not _refuses(place, f"{name}-wrong", path, "0" * 64):
        found.append(f"{place.url} compares no SHA-256: reading back is what finds a flipped bit")
    return found


def _refuses(place: Place, name: str, path: Path, sha256: str) -> bool:
    try:
        place.put(name, path, sha256)
    except PlaceError:
        return True
    return False


class FilePlace:
    """A folder, such as a mounted disk."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    @property
    def url(self) -> str:
        """The address of the folder."""
        return self._folder.absolute().as_uri()

    def put(self, name: str, path: Path, sha256: str) -> None:
        """See `Place`. The object is on disk when this returns."""
        del sha256  # the reading back tells
        own = self._folder / f".{name}.part"
        with self._sentences(name):
            if not self._folder.is_dir():
                self._folder.mkdir(parents=True)
            with path.open("rb") as source, own.open("wb") as target:
                while piece := source.read(PIECE):
                    target.write(piece)
                target.flush()
                os.fsync(target.fileno())
                # Reading back is to ask the disk, not the memory of this machine.
                with suppress(OSError, AttributeError):
                    os.posix_fadvise(target.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
            # The folder shows an object when it is whole; a reader never meets half of one.
            try:
                _move_to_new_name(own, self._folder / name)
            finally:
                own.unlink(missing_ok=True)

    @contextmanager
    def read(self, name: str) -> Iterator[BinaryIO]:
        """See `Place`."""
        with self._sentences(name):
            file = (self._folder / name).open("rb")
        with file:
            yield file

    def names(self) -> Iterator[Stored]:
        """See `Place`."""
        with self._sentences("its list"):
            for path in sorted(self._folder.iterdir()) if self._folder.exists() else ():
                if path.is_file() and not path.name.startswith("."):
                    yield Stored(path.name, path.stat().st_size)

    def delete(self, name: str) -> None:
        """See `Place`."""
        with self._sentences(name):
            (self._folder / name).unlink(missing_ok=True)
            sync_folder(self._folder)

    @contextmanager
    def _sentences(self, name: str) -> Iterator[None]:
        try:
            yield
        except FileExistsError as error:
            if error.filename == str(self._folder):
                raise PlaceError(f"{self.url} is no folder: name another place") from None
            raise NameTaken(f"{self.url} has another file {name}: look at both") from None
        except FileNotFoundError:
            raise NothingThere(f"{self.url} has no file {name}: look for it elsewhere") from None
        except OSError as error:
            raise PlaceError(
                f"{self.url} cannot be used for {name}: {error.strerror}; correct it, run again"
            ) from None


def _move_to_new_name(own: Path, final: Path) -> None:
    """A rename that replaces nothing: a rename of POSIX would replace the other file."""
    try:
        final.hardlink_to(own)
    except FileExistsError:
        raise
    except OSError:
        # FAT and some network disks know no hard links. A kill between the next two lines
        # leaves an empty file, and the segment goes to another name.
        os.close(os.open(final, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))
        own.rename(final)
    sync_folder(final.parent)
