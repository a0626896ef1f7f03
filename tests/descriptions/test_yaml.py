"""YAML: what is read, what is refused and where, and that text written is text read."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shoal.descriptions.document import Document, Limits, Value, shown
from shoal.descriptions.errors import DescriptionError
from shoal.descriptions.yaml import dump_yaml, load_yaml

SCALARS = [
    ("1", 1),
    ("-7", -7),
    ("1.5", 1.5),
    ("1e5", 100000.0),
    (".5", 0.5),
    ("true", True),
    ("False", False),
    ("~", None),
    ("null", None),
    ("'1'", "1"),
    ("no", "no"),
    ("on", "on"),
    ("1:30", "1:30"),
    ("2024-01-01", "2024-01-01"),
    ("007", "007"),
    ("0x1F", "0x1F"),
    ("1_000", "1_000"),
    ("|\n  two\n  lines\n", "two\nlines\n"),
    (">\n  one\n  line\n", "one line\n"),
]

REFUSED = [
    ("a: &x 1", "<input>:1:4: anchor &x is not allowed; expected a value without anchors"),
    ("b: *x", "<input>:1:4: alias *x is not allowed; expected the value itself"),
    ("&k a: 1", "<input>:1:1: anchor &k is not allowed; expected a value without anchors"),
    ("a: !!str 1", "<input>:1:4: tag !!str is not allowed; expected a value without tags"),
    ("a: !!python/object:os.system x", "<input>:1:4: tag !!python/object:os.system is not allowed"),
    ("a: 1\nb: 2\na: 3", "<input>:3:1: duplicate key 'a', first on line 1"),
    ("1: 2", "<input>:1:1: key '1' is not text; expected a text key; quote it if it is meant as text"),
    ("~: 2", "<input>:1:1: key '~' is not text; expected a text key; quote it if it is meant as text"),
    ("? [a]\n: b", "<input>:1:3: a list or mapping as key is not text"),
    ("a: [1", "<input>:2:1: not YAML: did not find expected ',' or ']', while parsing a flow sequence"),
    ("\ta: 1", "<input>:1:1: not YAML: found character that cannot start any token"),
    ("- a\nb", "<input>:2:1: not YAML: could not find expected ':', while scanning a simple key"),
    ("a: \x01", "<input>:1:4: character '\\x01' is not allowed in YAML"),
    ("a: \ud800", "<input>:1:4: character '\\ud800' is not allowed in YAML"),
    ('a: "\\0"', "<input>:1:4: a NUL character is not allowed"),
    ("a:\n  b: .nan", "<input>:2:6: .nan is not a number; expected a finite number"),
    ("a: -.inf", "<input>:1:4: -.inf is not a number; expected a finite number"),
    ("a: 1e999", "<input>:1:4: 1e999 is too large; expected a finite number"),
    ("a: 9223372036854775808", "<input>:1:4: 9223372036854775808 does not fit in 64 bits"),
    ("[" * 100, "<input>:1:33: nested deeper than 32 levels"),
    ("- " * 100 + "a", "<input>:1:65: nested deeper than 32 levels"),
]


@pytest.mark.parametrize(("text", "value"), SCALARS, ids=[repr(text) for text, _ in SCALARS])
def test_plain_scalars_follow_yaml_1_2(text: str, value: Value) -> None:
    (document,) = load_yaml(f"key: {text}")
    assert document.value == {"key": value}
    assert type(document.value) is dict
    assert type(document.value["key"]) is type(value)


@pytest.mark.parametrize(("text", "message"), REFUSED, ids=[repr(text[:20]) for text, _ in REFUSED])
def test_refuses_and_says_where(text: str, message: str) -> None:
    with pytest.raises(DescriptionError) as raised:
        load_yaml(text)
    assert str(raised.value).startswith(message)


def test_refuses_what_is_not_utf8() -> None:
    with pytest.raises(DescriptionError, match="byte 3 is not UTF-8"):
        load_yaml(b"a: \xff")


def test_a_byte_order_mark_is_no_text() -> None:
    assert load_yaml(b"\xef\xbb\xbfa: 1")[0].value == {"a": 1}


@pytest.mark.parametrize(
    ("text", "limits", "message"),
    [
        ("a: '" + "x" * 100 + "'", Limits(document_bytes_max=50), "a document over the limit of 50 bytes"),
        ("a: b\n---\nc: d", Limits(documents_max=1), "more than 1 documents in one file"),
        ("[1, 2, 3, 4]", Limits(nodes_max=4), "more than 4 values in one document"),
        ("a: " + "x" * 100, Limits(stream_bytes_max=50), "103 bytes, over the limit of 50"),
    ],
    ids=["document", "documents", "values", "stream"],
)
def test_every_limit_is_held(text: str, limits: Limits, message: str) -> None:
    with pytest.raises(DescriptionError, match=message):
        load_yaml(text, limits=limits)


def test_limits_are_those_of_one_document() -> None:
    half = "a: '" + "x" * 40 + "'\n"
    assert len(load_yaml(f"{half}---\n{half}---\n{half}", limits=Limits(document_bytes_max=60))) == 3


def test_empty_documents_are_left_out() -> None:
    assert [document.value for document in load_yaml("---\n---\na: 1\n--- # nothing\n...\n---\nb")] == [{"a": 1}, "b"]
    assert load_yaml("") == []


def test_remembers_the_place_of_every_value_and_key() -> None:
    (document,) = load_yaml("a: 1\nlist:\n  - x: y\n  - {z: [1, 2]}\n")
    places = {shown(path): (place.line, place.column) for path, place in document.values.items()}
    assert places == {
        "": (1, 1), "a": (1, 4), "list": (3, 3), "list[0]": (3, 5), "list[0].x": (3, 8),
        "list[1]": (4, 5), "list[1].z": (4, 9), "list[1].z[0]": (4, 10), "list[1].z[1]": (4, 13),
    }  # fmt: skip
    assert document.keys["list", 1, "z"].column == 6


def test_the_place_of_what_is_missing_is_that_of_its_parent() -> None:
    (document,) = load_yaml("spec:\n  components:\n    - name: a\n")
    place = document.place(("spec", "components", 0, "inference", "model"))
    assert place
    assert (place.line, place.column) == (3, 7)


def test_paths_read_as_people_write_them() -> None:
    assert shown(("spec", "components", 0, "labels", "a.b/c", "x_y")) == 'spec.components[0].labels["a.b/c"].x_y'


TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=20)
VALUES: st.SearchStrategy[Value] = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | TEXT
    | st.sampled_from(
        ["no", "1e5", "~", "null", "1:30", "2024-01-01", "0x1", ".5", "=", "<<", "", " ", "1.", "'", '"', "# a"]
    ),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT, inner, max_size=4),
    max_leaves=20,
)


@given(st.lists(VALUES, min_size=1, max_size=3))
@settings(max_examples=150)
def test_what_is_written_is_read_back(values: list[Value]) -> None:
    read = [document.value for document in load_yaml(dump_yaml(*values))]
    assert read == [value for value in values if value is not None]


WORDS = st.sampled_from([
    "a", "b: ", "- ", "\n", "  ", "    ", "{", "}", "[", "]", ", ", ": ", "&a ", "*a", "!t ", "'", '"', "|", ">", "?",
    "---\n", "...\n", "%YAML 1.2\n", "1", "1e9", "~", "\t", "\\", "<<", "@", "`", "\x85", "\u2028", "é", "\0", "\ufeff",
    "#",
])  # fmt: skip


def test_any_text_is_a_document_or_a_precise_error(count_case: Callable[[], None]) -> None:
    @given(st.text(max_size=200) | st.lists(WORDS, max_size=40).map("".join) | st.binary(max_size=100))
    @settings(max_examples=800)
    def load_or_refuse(text: str | bytes) -> None:
        count_case()
        documents: list[Document] = []
        error: DescriptionError | None = None
        try:
            documents = load_yaml(text, file="x.yaml")
        except DescriptionError as raised:
            error = raised
        assert error is None or str(error).startswith("x.yaml: byte" if error.line is None else f"x.yaml:{error.line}:")
        for document in documents:
            assert () in document.values

    load_or_refuse()
