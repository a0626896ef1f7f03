"""Signing: what was sealed opens to the very bytes; what is changed, replayed elsewhere or another's does not."""

from __future__ import annotations

import base64
import json
import stat
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shoal.descriptions.errors import ProtocolError, ShoalError, TransportError
from shoal.descriptions.messages.joining import VerifyKey
from shoal.descriptions.signing import (
    ENVELOPE_MAX,
    generate_key,
    key_ring,
    load_key,
    load_or_create_key,
    open_sealed,
    save_key,
    seal,
)

KEY = generate_key()
KEYS = key_ring([KEY.verify_key])


@given(
    st.dictionaries(st.text(max_size=5), st.integers() | st.text(max_size=5)), st.text(max_size=20), st.integers(0, 4)
)
@settings(max_examples=50)
def test_the_very_bytes_come_back(value: dict[str, object], context: str, indent: int) -> None:
    body = json.dumps(value, indent=indent, ensure_ascii=False).encode("utf-8", "replace")
    sealed = seal(KEY, body, context=context.encode("utf-8", "replace").decode())
    assert open_sealed(KEYS, sealed, context=context.encode("utf-8", "replace").decode()) == body
    assert len(sealed) - len(body) <= ENVELOPE_MAX
    assert json.loads(sealed)["body"] == json.loads(body)


@given(st.data())
@settings(max_examples=100)
def test_no_changed_byte_goes_unseen(data: st.DataObject) -> None:
    body = b'{"generation":7}'
    sealed = bytearray(seal(KEY, body))
    at = data.draw(st.integers(0, len(sealed) - 1))
    sealed[at] ^= data.draw(st.integers(1, 255))
    opened: bytes | None = None
    try:
        opened = open_sealed(KEYS, bytes(sealed))
    except ProtocolError:
        return
    assert opened == body  # a letter of an ignored field's name, or of base64 padding


def test_a_document_of_one_node_is_not_one_of_another() -> None:
    sealed = seal(KEY, b"{}", context="shoal/1/home/u1/down/desired")
    with pytest.raises(ProtocolError, match="not signed by the key"):
        open_sealed(KEYS, sealed, context="shoal/1/home/u2/down/desired")


def test_a_context_can_not_run_over_into_the_body() -> None:
    sealed = json.loads(seal(KEY, b'"b"', context="a"))
    with pytest.raises(ProtocolError):
        open_sealed(KEYS, json.dumps(sealed).encode(), context='a\0"b"')


@pytest.mark.parametrize(
    ("envelope", "message"),
    [
        ({"kid": "other", "sig": "", "body": {}}, "signed with the unknown key 'other'"),
        ({"kid": KEY.kid, "sig": "*", "body": {}}, "a signature that isn't base64"),
        ({"kid": KEY.kid, "sig": "AAAA", "body": {}}, "not signed by the key"),
        ({"kid": KEY.kid, "sig": base64.b64encode(bytes(64)).decode(), "body": {}}, "not signed by the key"),
        ({"kid": KEY.kid, "sig": "é", "body": {}}, "a signature that isn't base64"),
        ({"kid": KEY.kid, "body": {}}, "missing required field `sig`"),
        ([], "Expected `object`"),
    ],
    ids=["unknown key", "no base64", "short", "zeros", "not ascii", "no signature", "a list"],
)
def test_refuses(envelope: object, message: str) -> None:
    with pytest.raises(ProtocolError, match=message):
        open_sealed(KEYS, json.dumps(envelope, ensure_ascii=False).encode())


def test_size_is_capped() -> None:
    with pytest.raises(ProtocolError, match="over the limit of 100"):
        open_sealed(KEYS, seal(KEY, b'"' + b"x" * 100 + b'"'), 100)


def test_two_keys_are_trusted_while_they_are_exchanged() -> None:
    new = generate_key()
    both = key_ring([KEY.verify_key, new.verify_key])
    assert open_sealed(both, seal(KEY, b"1")) == b"1"
    assert open_sealed(both, seal(new, b"2")) == b"2"
    with pytest.raises(ProtocolError, match="unknown key"):
        open_sealed(KEYS, seal(new, b"2"))


@pytest.mark.parametrize("public_key", ["", "AAAA", "*", "é"])
def test_a_public_key_that_is_none(public_key: str) -> None:
    with pytest.raises(ProtocolError, match="not an Ed25519 public key"):
        key_ring([VerifyKey(kid="k", public_key=public_key)])


def test_a_key_file_is_made_once_and_private(tmp_path: Path) -> None:
    path = tmp_path / "keys" / "signing.pem"
    key = load_or_create_key(path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert load_or_create_key(path).kid == key.kid
    assert [file.name for file in path.parent.iterdir()] == ["signing.pem"]
    assert "PRIVATE" not in repr(key)


def test_an_existing_key_is_never_overwritten(tmp_path: Path) -> None:
    path = tmp_path / "signing.pem"
    save_key(KEY, path)
    with pytest.raises(TransportError, match="File exists"):
        save_key(generate_key(), path)
    assert load_key(path).kid == KEY.kid


def test_a_key_that_others_can_read_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "signing.pem"
    save_key(KEY, path)
    path.chmod(0o640)
    with pytest.raises(ShoalError, match="can be read by others"):
        load_key(path)


@pytest.mark.parametrize(
    "content", [b"", b"not a key", b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"]
)
def test_a_file_that_is_no_key(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "signing.pem"
    path.write_bytes(content)
    path.chmod(0o600)
    with pytest.raises(ShoalError, match="is not a private key"):
        load_key(path)


def test_a_missing_key_file(tmp_path: Path) -> None:
    with pytest.raises(TransportError, match="No such file"):
        load_key(tmp_path / "none.pem")
