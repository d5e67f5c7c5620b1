"""Owners whose lease may be ended at once.

Only a process of this machine that is certainly gone.
"""

from __future__ import annotations

import os
import subprocess
import sys

from tweetcrawler.identity import is_gone, new_owner

OWN = "from tweetcrawler.identity import new_owner; print(new_owner(1), flush=True); input()"


def test_a_living_process_is_not_gone_and_a_killed_one_is() -> None:
    with subprocess.Popen(
        [sys.executable, "-c", OWN], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        owner = process.stdout.readline().strip()
        assert not is_gone(owner)
        process.kill()
        process.wait()
        assert is_gone(owner)
    assert not is_gone(new_owner(1))


def test_a_process_id_that_is_used_again_is_another_process() -> None:
    run, machine, pid, start, token = new_owner(1).split("|")
    assert is_gone("|".join((run, machine, pid, str(int(start) - 1), token)))


def test_processes_of_other_machines_and_foreign_names_are_never_called_gone() -> None:
    run, _, _, start, token = new_owner(1).split("|")
    for owner in (
        f"{run}|other-machine|999999|{start}|{token}",
        "w",
        "",
        None,
        f"1||{os.getpid()}|5|x",
    ):
        assert not is_gone(owner)
