"""The private PostgreSQL in folders of before, after crashes of the machine, on odd machines."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import psycopg
import pytest
from crawls import PROGRAM
from test_embedded import DEBIAN, ROOT, as_root, ask, base, data, new, nobody_runs, server_account

from tweetcrawler.db import Database
from tweetcrawler.local.embedded import Server, find_binaries, lend

__all__ = ["base", "data", "new"]  # fixtures


def is_superuser(url: str) -> object:
    return ask(url, "SELECT rolsuper FROM pg_roles WHERE rolname = current_user")


def as_before(folder: Path) -> None:
    """A folder as the first versions made it: one role, the first superuser."""
    folder.mkdir(mode=0o711)
    (folder / "password").write_text("of-before")
    (folder / "password").chmod(0o600)
    shutil.copy(folder / "password", folder / "for-initdb")
    account = server_account()
    for path in (folder, folder / "for-initdb"):
        shutil.chown(path, account or os.getuid())

    def run(*words: str | Path, text: str = "") -> None:
        subprocess.run(
            words,
            input=text.encode(),
            user=account,
            extra_groups=[] if account else None,
            cwd="/",
            check=True,
            capture_output=True,
        )

    cluster = folder / "cluster"
    access = ["-U", "tweetcrawler", "-A", "scram-sha-256", f"--pwfile={folder / 'for-initdb'}"]
    run(find_binaries() / "initdb", "-D", cluster, *access, "-E", "UTF8", "--locale=C")
    run(
        find_binaries() / "postgres",
        "--single",
        "-D",
        cluster,
        "postgres",
        text="CREATE DATABASE tweetcrawler;\n",
    )


def test_a_folder_of_before_gets_a_crawler_that_is_no_superuser(new: Path) -> None:
    as_before(new)
    with lend(new) as url:
        assert is_superuser(url) is False
        assert ask(Server(new).superuser_url() or "", "SELECT current_user") != "tweetcrawler"


# What an operator may have made in such a database, beside our own tables.
_MADE = """
CREATE SCHEMA mine;
CREATE TYPE mine.mood AS ENUM ('good');
CREATE TABLE mine."Notes" (id serial, identity bigint GENERATED ALWAYS AS IDENTITY, m mine.mood);
CREATE VIEW mine.short AS SELECT id FROM mine."Notes";
CREATE MATERIALIZED VIEW mine.kept AS SELECT 1 AS one;
CREATE SEQUENCE mine.numbers;
CREATE FUNCTION mine.twice(n int) RETURNS int LANGUAGE sql AS 'SELECT 2 * n';
CREATE EXTENSION pg_trgm;
"""


def test_all_that_the_superuser_made_is_the_crawler_s_afterwards(data: Path) -> None:
    """As after an upgrade of a folder of before, whose superuser made everything."""
    server = Server(data)
    with server.hold():
        Database(server.superuser_url() or "").upgrade()
        with psycopg.connect(server.superuser_url() or "") as connection:
            connection.execute(_MADE)
    assert server.stop()
    (data / "superuser-password").unlink()
    with lend(data) as url:
        Database(url).upgrade()
        owned = "SELECT count(*) FROM {} WHERE {} = 10 AND {}::regnamespace::text !~ '^(pg_|info)'"
        for where in (
            ("pg_class", "relowner", "relnamespace"),
            ("pg_type JOIN pg_class ON typrelid = pg_class.oid", "typowner", "typnamespace"),
            ("pg_statistic_ext", "stxowner", "stxnamespace"),
        ):
            assert ask(url, owned.format(*where)) == 0, where
        with psycopg.connect(url) as connection:
            connection.execute("ALTER TABLE crawl_page ADD COLUMN mine int")
            connection.execute("INSERT INTO mine.\"Notes\" (m) VALUES ('good')")
            connection.execute("REFRESH MATERIALIZED VIEW mine.kept")
            connection.execute("DROP FUNCTION mine.twice(int)")


# --- crashes of the machine -----------------------------------------------------------------------


def empty(path: Path) -> None:
    path.write_bytes(b"")


def zeros(path: Path) -> None:
    path.write_bytes(bytes(max(24, path.stat().st_size if path.exists() else 0)))


@pytest.mark.parametrize("left", [empty, zeros])
def test_files_that_were_not_on_disk_are_made_again(
    data: Path, left: Callable[[Path], None]
) -> None:
    for name in ("password", "superuser-password", "port", "pgpass", "cluster/postmaster.pid"):
        left(data / name)
    shutil.chown(data / "cluster" / "postmaster.pid", server_account() or os.getuid())
    with lend(data) as url:
        assert ask(url, "SELECT 1") == 1
        assert is_superuser(url) is False
        assert ask(Server(data).superuser_url() or "", "SELECT 1") == 1


# --- odd machines ---------------------------------------------------------------------------------


@pytest.mark.skipif(DEBIAN is None, reason="no PostgreSQL of another major version is here")
def test_data_of_an_older_major_version_is_served_by_its_own_programs(new: Path) -> None:
    with lend(new, DEBIAN) as url:
        version = ask(url, "SHOW server_version_num")
    with lend(new) as url:
        assert ask(url, "SHOW server_version_num") == version


@as_root
@pytest.mark.parametrize("shm", ["mount -t tmpfs -o ro none /dev/shm", "umount -l /dev/shm"])
def test_a_machine_without_shared_memory_has_its_server(data: Path, shm: str) -> None:
    """In a mount namespace of its own, in which the folder, made before, is seen at /mnt."""
    program = (
        "from pathlib import Path; from tweetcrawler.local.embedded import Server\n"
        "server = Server(Path('/mnt'))\n"
        "with server.hold() as url:\n"
        "    import psycopg; print(psycopg.connect(url).execute('SELECT 1').fetchone())\n"
        "assert server.stop()"
    )
    inner = f'mount --bind "$1" /mnt && {shm} && exec "$0" -c "$2"'
    words = ["unshare", "--mount", "sh", "-c", inner, PROGRAM[0], str(data), program]
    done = subprocess.run(words, capture_output=True, text=True, check=False, cwd=ROOT)
    if done.stderr.startswith(("unshare:", "mount:", "umount:")):
        pytest.skip("this machine allows no mounts")
    assert (done.stdout, done.returncode) == ("(1,)\n", 0), done.stderr


@as_root
def test_a_user_without_a_home_or_a_name_is_told_so(base: Path) -> None:
    python = next(path for path in (sys.executable, "/usr/bin/python3") if nobody_runs(path))
    base.chmod(0o777)
    shutil.copytree(ROOT / "tweetcrawler", base / "site" / "tweetcrawler")
    program = (
        "import sys; from pathlib import Path\n"
        "from tweetcrawler.errors import ConfigurationError\n"
        "from tweetcrawler.local.embedded import Server\n"
        "try: Server(*map(Path, sys.argv[2:])).start()\n"
        "except ConfigurationError as error: print(error)"
    )
    for words, said in (
        ([], "HOME is not set and this user has no home"),
        ([base / "pg", find_binaries()], "the user id 54321 has no entry in /etc/passwd"),
    ):
        done = subprocess.run(
            [python, "-c", program, "", *words],
            env={"PATH": os.environ["PATH"], "PYTHONPATH": str(base / "site")},
            user=54_321,
            group=54_321,
            extra_groups=[],
            cwd="/",
            capture_output=True,
            text=True,
            check=False,
        )
        assert said in done.stdout, done.stderr
        assert (done.stdout.count("\n"), done.stderr) == (1, "")
