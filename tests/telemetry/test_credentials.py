from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shoal.descriptions.errors import DescriptionError
from shoal.telemetry.credentials import BrokerCredentials, broker_password, is_password_right

KEY = bytes(range(32))


def test_a_password_follows_from_key_and_username() -> None:
    # printf control-plane | openssl dgst -sha256 -mac HMAC -macopt hexkey:0001…1f -binary | base32
    assert broker_password(KEY, "control-plane") == "5oqjteiwg6npfn53j4rqw6eabanghj2n5uwsire3crmp4dn4dpxa"
    assert len({broker_password(KEY, "n1"), broker_password(KEY, "n2"), broker_password(KEY[::-1], "n1")}) == 3


@given(username=st.text(), password=st.text())
def test_only_the_derived_password_of_a_proper_username_is_right(username: str, password: str) -> None:
    assert not is_password_right(KEY, username, password)


@pytest.mark.parametrize("username", ["", "a.b", "+", "#", "a/b", "A", "-a", "a" * 64, "_"])
def test_usernames_that_no_node_has_are_refused_even_with_their_password(username: str) -> None:
    assert not is_password_right(KEY, username, broker_password(KEY, username))


def test_a_proper_username_with_its_password_passes() -> None:
    uid = "0190a5e2-7b1c-7def-8abc-0123456789ab"
    assert is_password_right(KEY, uid, broker_password(KEY, uid))


def test_the_file_is_private_and_comes_back(tmp_path: Path) -> None:
    credentials = BrokerCredentials.create("demo")
    credentials.save(tmp_path / "broker.json")
    assert (tmp_path / "broker.json").stat().st_mode & 0o777 == 0o600
    assert BrokerCredentials.load(tmp_path / "broker.json") == credentials
    assert credentials.key.hex() not in repr(credentials)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "credentials"),
        ('{"slice": "demo"}', "key"),
        ('{"slice": "demo", "key": "zz"}', "hex"),
        ('{"slice": "demo", "key": "00"}', "1 bytes"),
        ('{"slice": "De/mo", "key": "' + "00" * 32 + '"}', "slice name"),
        ('{"slice": "demo", "key": "' + "00" * 32 + '", "more": 1}', "more"),
        ("[" * 5000, "credentials"),
    ],
)
def test_a_malformed_file_is_told(tmp_path: Path, text: str, told: str) -> None:
    file = tmp_path / "broker.json"
    file.write_text(text)
    file.chmod(0o600)
    with pytest.raises(DescriptionError, match=told):
        BrokerCredentials.load(file)


def test_a_file_that_others_may_read_is_refused(tmp_path: Path) -> None:
    BrokerCredentials.create("demo").save(tmp_path / "broker.json")
    (tmp_path / "broker.json").chmod(0o644)
    with pytest.raises(DescriptionError, match="others may read"):
        BrokerCredentials.load(tmp_path / "broker.json")
