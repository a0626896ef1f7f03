"""The two slots of the desired document: a crash at any byte leaves one whole, signed document."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shoal.agents.slots import DOCUMENT_MAX, Slots
from shoal.descriptions.messages.codec import encode
from shoal.descriptions.messages.desired import Desired, DesiredSpec, digest_of
from shoal.descriptions.signing import generate_key, key_ring, seal

KEY, OTHER_KEY = generate_key(), generate_key()
TOPIC = "shoal/1/test/n-1/down/desired"


def document(generation: int) -> Desired:
    spec = DesiredSpec()
    return Desired("n-1", "test", 1, generation, 1, f"{digest_of(spec)}-{generation}", spec)


def sealed(generation: int) -> bytes:
    return seal(KEY, encode(document(generation)), context=TOPIC)


@pytest.fixture
def slots(tmp_path: Path) -> Slots:
    return Slots(tmp_path, key_ring([KEY.verify_key]), TOPIC)


def loaded(slots: Slots) -> int | None:
    kept, _ = slots.load()
    return kept.desired.generation if kept else None


def test_nothing_at_first(slots: Slots) -> None:
    assert slots.load() == (None, ())


def test_the_newest_counts_and_the_other_stays(slots: Slots) -> None:
    for generation in range(1, 6):
        slots.save(sealed(generation), "")
        assert loaded(slots) == generation
    assert sorted(one.desired.generation for one in slots._valid()) == [4, 5]
    assert all(path.stat().st_mode & 0o777 == 0o600 for path in slots.paths)


def test_the_last_known_good_is_never_overwritten(slots: Slots) -> None:
    slots.save(sealed(1), "")
    good = document(1).digest
    for generation in range(2, 6):
        slots.save(sealed(generation), good)
        assert sorted(one.desired.generation for one in slots._valid()) == [1, generation]


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"shoal-desired-1 ",
        b"shoal-desired-1 " + b"0" * 64 + b"\n" + b"{}",
        b"\xff" * 5000,
    ],
    ids=["empty", "cut in the header", "wrong digest", "noise"],
)
def test_what_is_not_whole_is_left_out_and_told(slots: Slots, data: bytes) -> None:
    slots.save(sealed(1), "")
    slots.paths[1].write_bytes(data)
    kept, problems = slots.load()
    assert kept is not None
    assert kept.desired.generation == 1
    assert [problem.partition(":")[0] for problem in problems] == ["desired-b"]
    slots.save(sealed(2), "")  # goes where nothing valid is
    assert loaded(slots) == 2


def test_a_document_that_another_key_signed_is_not_used(slots: Slots, tmp_path: Path) -> None:
    foreign = Slots(tmp_path, key_ring([OTHER_KEY.verify_key]), TOPIC)
    slots.save(sealed(3), "")
    kept, problems = foreign.load()
    assert kept is None
    assert "unknown key" in problems[0]


def test_a_document_of_another_node_is_not_used(slots: Slots) -> None:
    slots.save(seal(KEY, encode(document(3)), context=TOPIC.replace("n-1", "n-2")), "")
    assert slots.load()[0] is None


def test_an_endless_file_is_not_read(slots: Slots) -> None:
    with slots.paths[0].open("wb") as stream:
        stream.truncate(DOCUMENT_MAX * 4)
    kept, problems = slots.load()
    assert kept is None
    assert "over the limit" in problems[0]


def test_a_document_without_its_spec_is_kept_as_it_is(slots: Slots) -> None:
    pointer = msgspec.structs.replace(document(4), spec=None, url="/v1/blobs/x")
    slots.save(seal(KEY, encode(pointer), context=TOPIC), "")
    kept, _ = slots.load()
    assert kept is not None
    assert kept.desired.spec is None


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_damage_anywhere_never_gives_another_document(data: st.DataObject) -> None:
    """I8: torn, flipped or replaced bytes of one slot leave the other document, or the same one; never a third."""
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        slots = Slots(Path(folder), key_ring([KEY.verify_key]), TOPIC)
        slots.save(sealed(1), "")
        slots.save(sealed(2), "")
        path = data.draw(st.sampled_from(slots.paths))
        content = bytearray(path.read_bytes())
        start = data.draw(st.integers(0, len(content) - 1))
        noise = data.draw(st.binary(max_size=40))
        is_torn = data.draw(st.booleans())
        changed = (
            bytes(content[:start] + noise)
            if is_torn
            else bytes(content[:start] + noise + content[start + len(noise) :])
        )
        path.write_bytes(changed)
        expected = {1, 2} if changed == bytes(content) else {2 if path == slots.paths[0] else 1}
        kept, problems = slots.load()
        assert kept is not None
        assert kept.desired.generation == max(expected)
        assert len(problems) == 2 - len(expected)
