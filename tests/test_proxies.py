"""Proxies of credentials: one that is dead costs its credential, not the run."""

from __future__ import annotations

import csv
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from crawls import Crawler, truth
from sandbox_server import Sandbox

HANDLES = [f"writer_{n}" for n in range(12)]
PASSWORD = "proxy-password-57"


@pytest.fixture
def sandbox() -> Iterator[Sandbox]:
    with Sandbox("--credentials", "2", "--posts", "60-300") as running:
        yield running


@pytest.fixture
def dead() -> Iterator[str]:
    """The URL of a proxy that does not listen."""
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        yield f"http://user:{PASSWORD}@127.0.0.1:{held.getsockname()[1]}"


def with_proxies(sandbox: Sandbox, folder: Path, proxies: dict[str, str]) -> Path:
    """The sandbox's credentials, some of them with a proxy, by the name of the credential."""
    path = folder / "auth.csv"
    rows = [{**row, "proxy": proxies.get(row["name"], "")} for row in sandbox.credentials]
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    path.chmod(0o600)
    return path


def crawler_of(sandbox: Sandbox, folder: Path, dsn: str, proxies: dict[str, str]) -> Crawler:
    auth = with_proxies(sandbox, folder, proxies)
    return Crawler(folder, dsn=dsn, auth_csv=auth, api_url=sandbox.url, handles=HANDLES)


def requests_of(books: dict[str, Any], name: str) -> int:
    return sum(n for by in books["requests"].get(name, {}).values() for n in by.values())


def test_one_dead_proxy_of_two_costs_its_credential_only(
    sandbox: Sandbox, dsn: str, tmp_path: Path, dead: str
) -> None:
    crawler = crawler_of(sandbox, tmp_path, dsn, {"c1": dead})
    ended = crawler.run()
    assert crawler.stored_ids() == truth(sandbox, HANDLES)
    books = sandbox.books()
    assert requests_of(books, "c1") == 0
    assert requests_of(books, "c2") > len(HANDLES)
    left_alone = "SELECT endpoint FROM api_bucket WHERE subject = '*' AND failures > 0"
    assert crawler.select(left_alone) == []
    [(report,)] = crawler.select("SELECT report FROM crawl_run")
    assert set(report["refusals"]) == {"c1: ProxyFailed"}
    assert "c1 (app) on" in ended.stderr
    assert "no connection to X through the proxy; not used again for" in ended.stderr
    assert PASSWORD not in ended.stdout + ended.stderr


def test_with_every_proxy_dead_the_run_ends_with_the_names_of_their_credentials(
    sandbox: Sandbox, dsn: str, tmp_path: Path, dead: str
) -> None:
    crawler = crawler_of(sandbox, tmp_path, dsn, {"c1": dead, "c2": dead})
    ended = crawler.run(expect=4)
    said = ended.stdout + ended.stderr
    assert "no request reaches X through the proxy of c1 and c2: correct the column proxy" in said
    assert PASSWORD not in said
    assert sandbox.books()["requests"] == {}
