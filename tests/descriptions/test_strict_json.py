"""JSON: the same limits as YAML, the place of what is wrong, and two parsers that agree."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shoal.descriptions.document import Limits, Value, shown
from shoal.descriptions.errors import DescriptionError
from shoal.descriptions.strict_json import load_json, locate

REFUSED = [
    ('{"a":1,}', "<input>:1:8: not JSON: unexpected '}'; expected a text key in double quotes"),
    ("[1,]", "<input>:1:4: not JSON: unexpected ']'; expected a value"),
    ('{"a": 1,\n "a": 2}', "<input>:2:2: duplicate key 'a', first on line 1"),
    ("NaN", "<input>:1:1: not JSON: unexpected 'NaN'; expected a value"),
    ("[1, Infinity]", "<input>:1:5: not JSON: unexpected 'Infinity]'; expected a value"),
    ("9223372036854775808", "<input>:1:1: 9223372036854775808 does not fit in 64 bits"),
    ("1e999", "<input>:1:1: 1e999 is too large; expected a finite number"),
    ('"\\ud800"', "<input>:1:1: half of a surrogate pair is not a character"),
    ('"\\u0000"', "<input>:1:1: a NUL character is not allowed"),
    ('{"\\u0000": 1}', "<input>:1:2: a NUL character is not allowed"),
    ('"a\nb"', "<input>:1:3: not JSON: Invalid control character"),
    ("", "<input>:1:1: not JSON: unexpected end of the text; expected a value"),
    ("{", "<input>:1:2: not JSON: unexpected end of the text; expected a text key in double quotes"),
    ('{"a"}', "<input>:1:5: not JSON: a key without its value; expected ':'"),
    ("[1 2]", "<input>:1:4: not JSON: unexpected '2]'; expected ',' or ']'"),
    ("[] []", "<input>:1:4: more text after the end of the document"),
    ("01", "<input>:1:2: more text after the end of the document"),
    ("[" * 40, "<input>:1:33: nested deeper than 32 levels"),
    ("[" * 200_000, "<input>:1:33: nested deeper than 32 levels"),
    ('{"a":' * 40, "<input>:1:161: nested deeper than 32 levels"),
]


@pytest.mark.parametrize(("text", "message"), REFUSED, ids=[repr(text[:20]) for text, _ in REFUSED])
def test_refuses_and_says_where(text: str, message: str) -> None:
    with pytest.raises(DescriptionError) as raised:
        load_json(text)
    assert str(raised.value).startswith(message)


def test_refuses_what_is_not_utf8() -> None:
    with pytest.raises(DescriptionError, match="byte 1 is not UTF-8"):
        load_json(b'"\xff"')


@pytest.mark.parametrize(
    ("limits", "message"),
    [
        (Limits(document_bytes_max=5), "9 bytes, over"),
        (Limits(nodes_max=3), "more than 3 values"),
        (Limits(depth_max=0), "deeper"),
    ],
    ids=["bytes", "values", "depth"],
)
def test_every_limit_is_held(limits: Limits, message: str) -> None:
    with pytest.raises(DescriptionError, match=message):
        load_json("[1, 2, 3]", limits=limits)


def test_locate_remembers_places() -> None:
    document = locate('{\n  "a": [1, {"b": null}]\n}')
    places = {shown(path): (place.line, place.column) for path, place in document.values.items()}
    assert places == {"": (1, 1), "a": (2, 8), "a[0]": (2, 9), "a[1]": (2, 12), "a[1].b": (2, 18)}


PIECES = st.sampled_from([
    "{", "}", "[", "]", ":", ",", '"a"', '"b"', "1", "-0.5", "1e400", "true", "null", " ", "\n", '"', "\\", "NaN",
    "9223372036854775807", "-9223372036854775809", '"\\ud83d\\ude00"', '"\\ud83d"', '"\\u0000"', "\x00", "\x1f",
    "1.", "01", "-", "é",
])  # fmt: skip
JSON_TEXT = st.lists(PIECES, max_size=15).map("".join)


def outcome(parse: Callable[[str], object], text: str) -> object:
    try:
        return parse(text)
    except DescriptionError as error:
        return str(error)


def test_any_text_is_a_document_or_a_precise_error(count_case: Callable[[], None]) -> None:
    @given(JSON_TEXT | st.text(max_size=100) | st.recursive(st.none(), st.lists, max_leaves=50).map(json.dumps))
    @settings(max_examples=600)
    def the_two_parsers_agree(text: str) -> None:
        count_case()
        fast = outcome(lambda text: load_json(text).value, text)
        slow = outcome(lambda text: locate(text).value, text)
        assert fast == slow
        assert type(fast) is type(slow)

    the_two_parsers_agree()


@given(
    st.recursive(
        st.none()
        | st.booleans()
        | st.integers(-(2**63), 2**63 - 1)
        | st.floats(allow_nan=False, allow_infinity=False)
        | st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0")),
        lambda inner: (
            st.lists(inner, max_size=4) | st.dictionaries(st.text(st.characters(categories=["L"])), inner, max_size=4)
        ),
        max_leaves=20,
    ),
    st.booleans(),
)
@settings(max_examples=150)
def test_what_json_writes_is_read_back(value: Value, is_ascii: bool) -> None:
    text = json.dumps(value, ensure_ascii=is_ascii, indent=1)
    assert load_json(text.encode()).value == value
    assert locate(text).value == value
