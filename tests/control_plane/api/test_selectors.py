"""Label selectors, entity tags and continuation tokens: parsed exactly or refused."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shoal.control_plane.api.refusals import InvalidError
from shoal.control_plane.api.selectors import Selector, Term, parse_selector
from shoal.control_plane.api.tags import (
    continuation,
    parse_continuation,
    parse_continued_version,
    parse_tag,
    tag,
)


@pytest.mark.parametrize(
    ("text", "terms"),
    [
        ("", ()),
        ("  ", ()),
        ("a=b", (Term("a", "in", frozenset("b")),)),
        ("a == b", (Term("a", "in", frozenset("b")),)),
        ("a=", (Term("a", "in", frozenset({""})),)),
        ("a!=b", (Term("a", "notin", frozenset("b")),)),
        ("a in (x, y)", (Term("a", "in", frozenset("xy")),)),
        ("a notin (x)", (Term("a", "notin", frozenset("x")),)),
        ("shoal.dev/zone", (Term("shoal.dev/zone", "exists"),)),
        ("!a", (Term("a", "absent"),)),
        ("a=b,c in (d,e),!f", (Term("a", "in", frozenset("b")), Term("c", "in", frozenset("de")), Term("f", "absent"))),
    ],
)
def test_selectors_mean_what_kubernetes_means(text: str, terms: tuple[Term, ...]) -> None:
    assert parse_selector(text) == Selector(terms)


@pytest.mark.parametrize("text", ["a b", "=b", "a=b=c", "a in b", "a in (b", ",", "a,,b", "-a", "a=" + "x" * 300, "é"])
def test_what_is_no_selector_is_refused(text: str) -> None:
    with pytest.raises(InvalidError, match="labelSelector"):
        parse_selector(text)


def test_a_selector_has_a_cap() -> None:
    with pytest.raises(InvalidError, match="32"):
        parse_selector(",".join(["a"] * 33))


@given(st.text(max_size=100))
def test_any_text_is_parsed_or_refused(text: str) -> None:
    try:
        selector = parse_selector(text)
    except InvalidError:
        return
    assert selector.matches({}) in (True, False)


def test_tags_and_tokens_make_the_round_trip() -> None:
    assert parse_tag(tag(42)) == 42
    assert parse_continuation(continuation("edge-1")) == "edge-1"
    assert parse_continued_version(continuation("42")) == 42
    assert parse_continued_version("") is None


@pytest.mark.parametrize("text", ["", "42", 'W/"42"', '"x"', '"' + "9" * 19 + '"'])
def test_tags_that_we_never_gave_are_refused(text: str) -> None:
    with pytest.raises(InvalidError):
        parse_tag(text)


@given(st.text(alphabet="ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_", max_size=64))
def test_any_token_is_a_place_or_refused(token: str) -> None:
    for parse in (parse_continuation, parse_continued_version):
        try:
            parse(token)
        except InvalidError:
            continue
