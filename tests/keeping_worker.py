"""A process that writes segments and archives them, and kills itself at a chosen moment.

`python keeping_worker.py FOLDER PLACE PORT FIRST MOMENT` writes 30 messages in segments of 10
from number FIRST on, says of each when it is on disk, and archives. MOMENT counts what the
interpreter is about to do to files and lines (audit events), so every state change is one.
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

from s3_server import KEY, SECRET

from tweetcrawler.keeping.archive import Archive, FolderLedger
from tweetcrawler.keeping.lines import stream_line
from tweetcrawler.keeping.places import S3Options, place_of
from tweetcrawler.keeping.segments import Limits, Writer

EVENTS = {"open", "os.rename", "os.remove", "os.link", "os.truncate", "fcntl.flock"}
EVENTS |= {"http.client.connect", "http.client.send", "socket.connect"}


class Moments:
    """Counts the moments, and ends the process at one of them as `kill -9` would."""

    def __init__(self, last: int) -> None:
        self.passed = 0
        self.last = last
        self.counting = False

    def __call__(self, event: str, _: object) -> None:
        if self.counting and event in EVENTS:
            self.passed += 1
            if self.passed == self.last:
                os.kill(os.getpid(), signal.SIGKILL)


def main() -> None:
    folder, url, port, first, moment = sys.argv[1:]
    moments = Moments(int(moment))
    sys.addaudithook(moments)
    options = S3Options(f"http://127.0.0.1:{port}", "us-east-1", key=KEY, secret=SECRET)
    place = place_of(url, options)
    if url.startswith("s3:"):
        list(place.names())  # boto3 reads dozens of its own files at the first request
    moments.counting = True
    writer = Writer(Path(folder), "stream", node="here", limits=Limits(posts=10))
    for number in range(int(first), int(first) + 30):
        writer.append(stream_line(b'{"data":{"id":"%d","text":"x"}}' % number))
        writer.sync()
        print(number, flush=True)
    writer.close_segment()
    report = Archive(Path(folder), place, FolderLedger(Path(folder))).once()
    moments.counting = False
    writer.close()
    print(f"moments {moments.passed} faults {report.faults}", file=sys.stderr)


if __name__ == "__main__":
    main()
