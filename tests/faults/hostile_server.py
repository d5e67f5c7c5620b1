"""A server that answers each request with another mutation of a true page.

The fuzz test starts it as a process.

`python hostile_server.py PAGES SEED` reads one page of JSON a line, prints its port, and
serves until its stdin ends.
"""

from __future__ import annotations

import contextlib
import gzip
import json
import random
import socket
import sys
import threading
from pathlib import Path

TYPES = (
    b"application/json; charset=utf-8",
    b"text/html",
    b"application/octet-stream",
    b"text/plain; charset=utf-16",
    b"",
)
STATUSES = (
    200,
    200,
    200,
    200,
    200,
    200,
    200,
    204,
    206,
    301,
    302,
    400,
    401,
    402,
    403,
    404,
    409,
    418,
    429,
    500,
    503,
    599,
)
WRONG = (
    "null",
    "true",
    "-1",
    "0",
    "1e400",
    "-0.0",
    "[]",
    "{}",
    '""',
    '"\\ud800"',
    '"\\u0000"',
    "18446744073709551616",
    "99999999999999999999999999999",
    '"2026-13-45T99:99:99Z"',
    '"https://evil.example/\\u202e"',
    "[[[[[[]]]]]]",
    '{"id":{"id":{"id":1}}}',
    "1.5",
    '"1"',
    "NaN",
    "Infinity",
)


class Mutator:
    """Makes the n-th answer, the same for the same seed."""

    def __init__(self, pages: list[bytes], seed: str) -> None:
        self._pages = pages
        self._seed = seed

    def answer(self, number: int) -> tuple[bytes, bool]:
        """An HTTP answer, whole or cut, and whether its connection stays open."""
        chance = random.Random(f"{self._seed} {number}")
        # Millions of bytes and of objects take seconds, so they come as often as they must
        # and not by chance.
        body = (
            b'{"data":[' + b"{}," * 600_000 + b"{}]}"
            if number % 2_500 == 1_999
            else self._body(chance)
        )
        status = chance.choice(STATUSES)
        headers = [f"HTTP/1.1 {status} Whatever".encode(), b"Content-Type: " + chance.choice(TYPES)]
        headers += [
            b"Date: "
            + chance.choice((b"Sat, 21 Nov 2026 03:00:00 GMT", b"yesterday", b"", b"\xff\xfe"))
        ]
        for name in (b"x-rate-limit-limit", b"x-rate-limit-remaining", b"x-rate-limit-reset"):
            value = chance.choice(
                (
                    b"900",
                    b"0",
                    b"-1",
                    b"",
                    b"soon",
                    b"9" * 25,
                    b"1e9",
                    "\u0663".encode(),
                    b"4102444800",
                )
            )
            headers.append(name + b": " + value)
        encoding = chance.random()
        if encoding < 0.1:
            body = gzip.compress(body, 1)
            headers.append(b"Content-Encoding: gzip")
            if chance.random() < 0.3:
                body = _flipped(body, chance, 3)
        elif encoding < 0.13:
            headers.append(
                b"Content-Encoding: "
                + chance.choice((b"br", b"zstd", b"deflate", b"gzip", b"x-nothing"))
            )
        length = len(body)
        if chance.random() < 0.05:
            length = max(0, length + chance.choice((-50, -1, 1, 5_000)))
        headers.append(b"Content-Length: " + str(length).encode())
        goes_on = length == len(body)
        if status in (301, 302):
            headers.append(
                b"Location: "
                + chance.choice((b"http://127.0.0.1:1/", b"//", b"\xff", b"/2/users/1/tweets"))
            )
        whole = b"\r\n".join(headers) + b"\r\n\r\n" + body
        if chance.random() < 0.03:
            whole, goes_on = whole[: chance.randrange(len(whole))], False
        if chance.random() < 0.01:
            whole, goes_on = chance.randbytes(400), False
        return whole, goes_on

    def _body(self, chance: random.Random) -> bytes:
        page = chance.choice(self._pages)
        how = chance.randrange(10)
        if how == 0:
            return page[: chance.randrange(len(page))]
        if how in (1, 2):
            return _flipped(page, chance, chance.choice((1, 1, 3, 30)))
        if how == 3:
            return self._wrapped(page, chance)
        if how == 4:
            depth = chance.choice((10, 500, 100_000))
            return b'{"data":' + b"[" * depth + b"]" * depth + b"}"
        if how == 5:
            return chance.choice(
                (
                    b"",
                    b"null",
                    b"[]",
                    b"{}",
                    b'"data"',
                    b"<html>",
                    b"\xef\xbb\xbf{}",
                    page * 2,
                    b"\0" * 99,
                )
            )
        return self._with_wrong_values(page, chance)

    def _wrapped(self, page: bytes, chance: random.Random) -> bytes:
        return (
            chance.choice(
                (
                    b'{"data":%s}',
                    b"[%s]",
                    b'{"data":[%s]}',
                    b'{"data":[],"includes":%s,"meta":{}}',
                    b'{"errors":%s}',
                    b'{"errors":[%s],"title":%s}'.replace(b"%s}", b"1}"),
                )
            )
            % page
        )

    def _with_wrong_values(self, page: bytes, chance: random.Random) -> bytes:
        """Some values anywhere in the page become values of another kind."""
        text = page.decode(errors="replace")
        for _ in range(chance.choice((1, 1, 2, 5, 20))):
            at = text.find(":", chance.randrange(len(text)))
            if at < 0 or at + 1 >= len(text):
                continue
            try:
                _, end = json.JSONDecoder().raw_decode(text, at + 1)
            except (ValueError, RecursionError):
                continue
            text = text[: at + 1] + chance.choice(WRONG) + text[end:]
        return text.encode(errors="replace")


def _flipped(data: bytes, chance: random.Random, count: int) -> bytes:
    changed = bytearray(data)
    for _ in range(count):
        if changed:
            changed[chance.randrange(len(changed))] ^= 1 << chance.randrange(8)
    return bytes(changed)


def main() -> None:
    pages = [line for line in Path(sys.argv[1]).read_bytes().splitlines() if line]
    mutator = Mutator(pages, sys.argv[2])
    server = socket.create_server(("127.0.0.1", 0), backlog=16)
    print(server.getsockname()[1], flush=True)

    def until_told() -> None:
        sys.stdin.read()
        server.close()

    threading.Thread(target=until_told, daemon=True).start()
    number = 0
    while True:
        try:
            client, _ = server.accept()
        except OSError:
            return
        with client, contextlib.suppress(OSError):
            client.settimeout(10)
            client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            goes_on = True
            while goes_on and client.recv(65_536):
                answer, goes_on = mutator.answer(number)
                number += 1
                if number % 2_500 == 500:
                    _hang(client, answer, drips=number % 5_000 == 500)
                    break
                client.sendall(answer)


def _hang(client: socket.socket, answer: bytes, *, drips: bool) -> None:
    """The end of the answer does not come; with `drips` each half second a byte of it does."""
    client.sendall(answer[:20])
    client.settimeout(0.5)
    for byte in answer[20:40]:
        try:
            if not client.recv(1):
                return  # the client gave up
        except TimeoutError:
            if drips:
                client.sendall(bytes([byte]))


if __name__ == "__main__":
    main()
