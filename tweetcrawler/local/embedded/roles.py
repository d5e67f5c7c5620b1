"""Roles and passwords of a cluster, set through the single-user backend while no server runs.

The role of the crawl is no superuser: a statement that gets into a query by mistake can then
run no program and read no file. The superuser is a role of its own, for `db psql --superuser`.
In folders of before, the role of the crawl was the first superuser of the cluster, which
PostgreSQL does not let go of its rights: it is renamed, and a new role takes its name and tables.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tweetcrawler import files
from tweetcrawler.errors import DatabaseUnreachable
from tweetcrawler.local.embedded.folder import INIT_S, Folder
from tweetcrawler.local.embedded.system import Account, call, last_lines

DATABASE = "tweetcrawler"
ROLE = "tweetcrawler"
SUPERUSER = "tweetcrawler_admin"

_FIRST_WITH_ITERATIONS = 16  # has the setting scram_iterations
# The last processes of a server whose first process was killed; they end within a minute.
ORPHANS_LEFT = "is still in use"
_ORPHANS_S = 90


@dataclass(frozen=True)
class SingleUser:
    """The single-user backend of one cluster, which needs neither a port nor psql."""

    cluster: Path
    binaries: Path
    major: int
    account: Account | None

    def run(self, statements: Sequence[str], database: str = "postgres") -> str:
        """Runs statements, one on a line. Gives what it said of a failure, else nothing."""
        options = ["-c", "exit_on_error=on", *shared_memory(self.account)]
        words = ["--single", "-D", str(self.cluster), *options, database]
        text = "\n".join(" ".join(statement.split()) for statement in statements) + "\n"
        deadline = time.monotonic() + _ORPHANS_S
        while True:
            code, said = call(
                [self.binaries / "postgres", *words], self.account, timeout_s=INIT_S, text=text
            )
            if code == 0:
                return ""
            if ORPHANS_LEFT not in said or time.monotonic() > deadline:
                return last_lines(said)
            time.sleep(0.2)


@dataclass(frozen=True)
class Passwords:
    """New passwords of both roles."""

    role: str
    superuser: str

    @classmethod
    def made(cls) -> Passwords:
        """Random ones, so long that a single hash guards them."""
        return cls(secrets.token_urlsafe(24), secrets.token_urlsafe(24))

    def statements(self, major: int) -> list[str]:
        """Statements that set them, of roles that are there."""
        # Hashing many times guards weak passwords; of a random one it only doubles the time
        # of each connection.
        lighter = ["SET scram_iterations = 1"] if major >= _FIRST_WITH_ITERATIONS else []
        return [
            *lighter,
            f"ALTER ROLE {ROLE} LOGIN NOSUPERUSER PASSWORD '{self.role}'",
            f"ALTER ROLE {SUPERUSER} PASSWORD '{self.superuser}'",
        ]

    def keep(self, folder: Folder) -> None:
        """Writes both files; that of the superuser last, as it tells that all is done."""
        files.replace_whole(folder.password, self.role.encode(), mode=0o600)
        files.replace_whole(folder.superuser_password, self.superuser.encode(), mode=0o600)


def part_roles(folder: Folder, backend: SingleUser) -> None:
    """Parts the superuser from the role of the crawl, and gives both a password.

    For a folder of before, and for one whose files of passwords were lost in a crash of the
    machine. A kill in between does no harm: it is done again.
    """
    passwords = Passwords.made()
    statements = [_PART, *passwords.statements(backend.major), _OWN_DATABASE]
    said = backend.run(statements) or backend.run([_OWN_ALL], DATABASE)
    if said:
        raise DatabaseUnreachable(
            f"the roles of the private PostgreSQL in {folder.data} cannot be set; correct that, "
            f"then run again:\n{said}"
        )
    passwords.keep(folder)


def shared_memory(account: Account | None) -> list[str]:
    """Options for a machine without a /dev/shm to write to, as some containers are."""
    if not Path("/proc/self").exists():  # only Linux has /dev/shm
        return []
    code, _ = call(["/bin/sh", "-c", "test -w /dev/shm"], account, timeout_s=30)
    return [] if code == 0 else ["-c", "dynamic_shared_memory_type=sysv"]


# Nobody can rename the role of their own session, hence a third one for a moment. RESET finds
# no one to go back to in this backend.
_PART = f"""
DO $$ BEGIN
    IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = '{SUPERUSER}') THEN
        CREATE ROLE tweetcrawler_for_now SUPERUSER;
        SET SESSION AUTHORIZATION tweetcrawler_for_now;
        ALTER ROLE {ROLE} RENAME TO {SUPERUSER};
        SET SESSION AUTHORIZATION {SUPERUSER};
        DROP ROLE tweetcrawler_for_now;
        CREATE ROLE {ROLE} LOGIN;
    END IF;
END $$
"""
_OWN_DATABASE = f"ALTER DATABASE {DATABASE} OWNER TO {ROLE}"
# All that the first superuser (its id is always 10) owns, but for the system's and that of
# extensions. A sequence of a column goes with its table.
_OWN_ALL = f"""
DO $$ DECLARE change text; BEGIN
    FOR change IN
        SELECT format('ALTER %s %s OWNER TO {ROLE}', kind, name) FROM (
            SELECT 'pg_class'::regclass AS of, oid, relnamespace AS space, oid::regclass::text,
                CASE relkind WHEN 'v' THEN 'VIEW' WHEN 'm' THEN 'MATERIALIZED VIEW'
                    WHEN 'S' THEN 'SEQUENCE' WHEN 'f' THEN 'FOREIGN TABLE' ELSE 'TABLE' END
            FROM pg_class WHERE relowner = 10 AND relkind IN ('r', 'p', 'v', 'm', 'S', 'f')
            UNION ALL
            SELECT 'pg_proc'::regclass, oid, pronamespace, oid::regprocedure::text, 'ROUTINE'
            FROM pg_proc WHERE proowner = 10
            UNION ALL
            SELECT 'pg_type'::regclass, t.oid, typnamespace, t.oid::regtype::text, 'TYPE'
            FROM pg_type t LEFT JOIN pg_class c ON c.oid = typrelid
            WHERE typowner = 10 AND (typtype IN ('e', 'd', 'r') OR c.relkind = 'c')
            UNION ALL
            SELECT 'pg_statistic_ext'::regclass, oid, stxnamespace,
                format('%I.%I', stxnamespace::regnamespace::text, stxname), 'STATISTICS'
            FROM pg_statistic_ext WHERE stxowner = 10
            UNION ALL
            SELECT 'pg_namespace'::regclass, oid, oid, oid::regnamespace::text, 'SCHEMA'
            FROM pg_namespace WHERE nspowner = 10
        ) AS owned (of, oid, space, name, kind)
        WHERE space::regnamespace::text !~ '^(pg_|information_schema)' AND NOT EXISTS (
            SELECT FROM pg_depend d WHERE d.classid = owned.of AND d.objid = owned.oid
            AND (d.deptype = 'e' OR kind = 'SEQUENCE' AND d.deptype IN ('a', 'i'))
        )
    LOOP EXECUTE change; END LOOP;
END $$
"""  # noqa: S608 - the names are constants of this file
