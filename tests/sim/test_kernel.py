"""Virtual time: order, ties, and clocks that are wrong in their own ways."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shoal.sim.clock import WALL_ORIGIN_S, Clock
from shoal.sim.disk import Disk, Journal
from shoal.sim.kernel import Kernel


@dataclass
class Notebook:
    kernel: Kernel
    name: str = "notebook"
    seen: list[tuple[float, object]] = field(default_factory=list)

    def handle(self, event: object) -> None:
        self.seen.append((self.kernel.now_s, event))


def test_events_happen_in_order_of_time_then_of_scheduling() -> None:
    kernel = Kernel(1)
    book = Notebook(kernel)
    for time_s, event in [(2.0, "late"), (1.0, "first"), (1.0, "second"), (0.5, "early")]:
        kernel.at(time_s, book, event)
    while len(kernel):
        kernel.step()
    assert book.seen == [(0.5, "early"), (1.0, "first"), (1.0, "second"), (2.0, "late")]


def test_the_past_is_now() -> None:
    kernel = Kernel(1)
    book = Notebook(kernel)
    kernel.at(5.0, book, "a")
    kernel.step()
    kernel.at(1.0, book, "b")
    kernel.step()
    assert book.seen[-1] == (5.0, "b")


def test_the_seed_decides() -> None:
    assert [Kernel(7).random.random() for _ in range(3)] == [Kernel(7).random.random() for _ in range(3)]
    assert Kernel(7).random.random() != Kernel(8).random.random()


@given(st.lists(st.tuples(st.floats(0.01, 1000), st.floats(0.5, 2.0)), max_size=10))
def test_a_monotonic_clock_never_goes_back_and_is_invertible(steps: list[tuple[float, float]]) -> None:
    clock, now_s = Clock(boot_age_s=3.0), 0.0
    for wait_s, rate in steps:
        before = clock.monotonic_s(now_s)
        now_s += wait_s
        assert clock.monotonic_s(now_s) > before
        assert clock.true_s(clock.monotonic_s(now_s)) == pytest.approx(now_s)
        clock.set_rate(rate, now_s)
        assert clock.monotonic_s(now_s) == pytest.approx(clock.monotonic_s(now_s))


def test_a_reboot_starts_the_monotonic_clock_again_and_a_jump_moves_only_the_wall() -> None:
    clock = Clock(boot_age_s=100.0)
    clock.wall_offset_s = -86_400.0 * 365
    assert clock.monotonic_s(10.0) == 110.0
    assert clock.wall_s(10.0) == WALL_ORIGIN_S + 10.0 - 86_400.0 * 365
    clock.reboot(20.0)
    assert clock.monotonic_s(25.0) == 5.0


def test_synced_writes_survive_and_unsynced_ones_may_not() -> None:
    fates = set()
    for seed in range(20):
        disk = Disk()
        disk.write("a", b"kept")
        disk.sync()
        disk.write("a", b"new")
        disk.write("b", b"new")
        assert disk.read("a") == b"new"
        disk.crash(Kernel(seed).random)
        assert disk.read("a") in (b"kept", b"new")
        fates.add((disk.read("a"), disk.read("b")))
    assert len(fates) == 4, "each write has a fate of its own"


def test_a_bad_medium_tears_what_was_not_synced_and_rots_what_was() -> None:
    torn = set()
    for seed in range(40):
        disk = Disk(torn_rate=1.0)
        disk.write("rots", b"abcdef")
        disk.sync()
        disk.write("tears", b"abcdef")
        disk.crash(Kernel(seed).random)
        torn.add(disk.read("tears"))
        assert disk.read("rots") == b"abcdef"
        disk.rot(Kernel(seed).random)
    assert None in torn
    assert any(value is not None and len(value) < 6 for value in torn)


def test_rot_flips_one_bit() -> None:
    disk = Disk()
    disk.write("a", b"abcdef")
    disk.sync()
    disk.rot(Kernel(1).random)
    rotten = disk.read("a") or b""
    assert len(rotten) == 6
    assert sum((old ^ new).bit_count() for old, new in zip(b"abcdef", rotten, strict=True)) == 1


def test_a_journal_keeps_its_first_transactions_whole() -> None:
    kept = set()
    for seed in range(40):
        journal = Journal()
        journal.write({"a": b"0", "b": b"0"})
        journal.sync()
        for number in (b"1", b"2", b"3"):
            journal.write({"a": number, "b": number})
        journal.write({"b": None})
        journal.crash(Kernel(seed).random)
        kept.add((journal.read("a"), journal.read("b")))
    assert kept == {(b"0", b"0"), (b"1", b"1"), (b"2", b"2"), (b"3", b"3"), (b"3", None)}


def test_a_full_disk_refuses_and_keeps_what_it_has() -> None:
    disk = Disk(capacity_bytes=10)
    assert disk.write("a", b"12345678")
    assert not disk.write("b", b"123")
    assert disk.write("a", b"1234567890")
    disk.delete("a")
    assert disk.used_bytes == 0
