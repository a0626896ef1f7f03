"""SIGKILL at any moment: each write that was acknowledged is there afterwards, and nothing half-done is.

A child process writes from several threads and prints each acknowledgement; the test kills it at a random moment and
opens the database again. (The machine stays up, so this shows that nothing acknowledged waits in our memory; that
commits wait for the disk is `test_commits_wait_for_the_disk`.)
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from shoal.control_plane.store.database import Database
from shoal.control_plane.store.records import EventQuery

Open = Callable[..., AbstractContextManager[Database]]

CHILD = """
import sys, threading
from shoal.control_plane.store.database import Database
from shoal.control_plane.store.records import EventEntry

url, round_ = sys.argv[1:]
database = Database(url)
lock = threading.Lock()

def write(thread):
    for number in range(1_000_000):
        name = f"r{round_}-t{thread}-n{number}"
        def job(tx):
            tx.put("Node", name, name.encode() * 20)
            tx.put("Twin", name, b"{}")
            tx.append_event(EventEntry("Written", name))
            return tx.next_generation()
        generation = database.write(job).result()
        with lock:
            sys.stdout.write(f"{name} {generation}\\n")
            sys.stdout.flush()

for thread in range(4):
    threading.Thread(target=write, args=(thread,), daemon=True).start()
threading.Event().wait()
"""


def killed_while_writing(url: str, log: Path, round_: int, after_s: float) -> dict[str, int]:
    """Acknowledged names and generations of one child's life."""
    with log.open("w+") as told:
        child = subprocess.Popen([sys.executable, "-c", CHILD, url, str(round_)], stdout=told)
        deadline_s = time.monotonic() + 30
        while not log.stat().st_size:
            assert child.poll() is None, "the child ended by itself"
            assert time.monotonic() < deadline_s, "the child never wrote"
            time.sleep(0.005)
        time.sleep(after_s)
        os.kill(child.pid, signal.SIGKILL)
        child.wait(10)
        complete = [line for line in log.read_text().splitlines(keepends=True) if line.endswith("\n")]
    return {name: int(generation) for name, generation in (line.split() for line in complete)}


def check(database: Database, acknowledged: dict[str, int]) -> None:
    rows = {row.name: row for row in database.read(lambda tx: tx.all("Node")).result()}
    lost = acknowledged.keys() - rows.keys()
    assert not lost, f"{len(lost)} acknowledged writes are lost: {sorted(lost)[:5]}"
    assert all(row.doc == name.encode() * 20 for name, row in rows.items())
    twins = {row.name for row in database.read(lambda tx: tx.all("Twin")).result()}
    assert twins == rows.keys(), "a transaction is whole or not there"
    events = database.read(lambda tx: tx.events(EventQuery(limit=10_000, reason="Written"))).result()
    assert len({event.entry.message for event in events}) == len(events)
    versions = [row.resource_version for row in rows.values()] + [event.version for event in events]
    assert len(set(versions)) == len(versions), "a version is given once"
    assert max(versions) <= database.read(lambda tx: tx.version).result()


@pytest.mark.parametrize("rounds", [4, pytest.param(40, marks=pytest.mark.slow)])
def test_acknowledged_writes_survive_sigkill(
    url: str, tmp_path: Path, opened: Open, rounds: int, record_property: Callable[[str, object], None]
) -> None:
    random_ = random.Random(rounds)
    acknowledged: dict[str, int] = {}
    for round_ in range(rounds):
        told = killed_while_writing(url, tmp_path / "acknowledged", round_, random_.uniform(0.0, 0.3))
        assert not told.keys() & acknowledged.keys()
        assert not set(told.values()) & set(acknowledged.values()), "a generation is given once"
        acknowledged |= told
        with opened() as database:
            check(database, acknowledged)
    assert len(acknowledged) > rounds
    record_property("cases", len(acknowledged))
