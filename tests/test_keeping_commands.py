"""Commands of the room, as an operator runs them."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from s3_server import BUCKET, KEY, SECRET, S3Server
from test_keeping_segments import chain, data_files


def run(folder: Path, *words: str, expect: int = 0) -> str:
    folder.mkdir(exist_ok=True)
    done = subprocess.run(
        [sys.executable, "-m", "tweetcrawler", "archive", *words],
        cwd=folder,
        env=os.environ | {"TWEETCRAWLER_S3KEY": KEY, "TWEETCRAWLER_S3SECRET": SECRET},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == expect, done.stdout + done.stderr
    for text in (done.stdout, done.stderr):
        assert SECRET not in text
        assert KEY not in text
    return done.stdout + done.stderr


def test_segments_go_to_the_bucket_and_then_locally(dsn: str, tmp_path: Path, s3: S3Server) -> None:
    chain(tmp_path / "segments", 3)
    ini = f"archivePlace = s3://{BUCKET}/x\ns3Endpoint = http://127.0.0.1:{s3.port}\n"
    ini += f'dbname = "{dsn}"\n'
    (tmp_path / "tweet.ini").write_text(f"{ini}s3Region = us-east-1\nkeepLocal = 0\n")
    said = run(tmp_path, "--once")
    assert "3 segments uploaded, 3 verified by reading them back, 3 deleted here" in said
    assert data_files(tmp_path / "segments") == []
    assert len(s3.objects("x/")) == 6
    assert run(tmp_path, "list").count("1 post ") == 3
    assert "3 of 3 segments whole" in run(tmp_path, "verify")
    assert "can be used: it stores, gives" in run(tmp_path, "check")
    (tmp_path / "tweet.ini").write_text(ini.replace(BUCKET, "no-bucket"))
    assert "there is no such bucket" in run(tmp_path, "list", expect=2)


def test_damage_at_the_place_is_named(dsn: str, tmp_path: Path) -> None:
    chain(tmp_path / "segments", 2)
    where = ("--archive-place", (tmp_path / "place").as_uri())
    (tmp_path / "tweet.ini").write_text(f'dbname = "{dsn}"\n')
    run(tmp_path, "--once", *where)
    first, second = data_files(tmp_path / "place")
    assert len(data_files(tmp_path / "segments")) == 2
    first.write_bytes(b"rot")
    said = run(tmp_path, "verify", *where, expect=1)
    assert "1 of 2 segments whole" in said
    assert f"{first.name} is not what its manifest tells" in said
    name = second.name.removesuffix(".jsonl.zst")
    assert "1 of 1 segment whole" in run(tmp_path, "verify", name, *where)
    assert "has no segment nobody" in run(tmp_path, "verify", "nobody", *where, expect=2)


def test_a_missing_place_is_a_sentence(tmp_path: Path) -> None:
    assert "archive needs a place" in run(tmp_path, expect=2)
    where = ("--archive-place", "file:///tmp/x")
    assert "the settings say CSV" in run(tmp_path, "--csv", *where, expect=2)
    assert "archive takes check, list, verify" in run(tmp_path, "chekc", *where, expect=2)
    assert "is no place" in run(tmp_path, "--archive-place", "ftp://x", expect=2)
