"""Messages about operators' files: the place, the cause, the cure, all of them at once."""

from __future__ import annotations

import dataclasses
import enum
import ipaddress

import msgspec
import pydantic
import pytest

from sluicegate.documents import (
    ConfigRefused,
    Document,
    Findings,
    Model,
    Wrong,
    read_document,
    suggest,
    typed,
)
from sluicegate.documents.document import format_key


def document(text: str) -> Document:
    findings = Findings()
    read = read_document(text, "file.toml", findings)
    assert read is not None
    assert findings.errors == []
    return read


def messages(text: str, kind: type) -> list[str]:
    findings = Findings()
    assert typed(document(text), kind, findings) is None
    return [str(error) for error in findings.errors]


class Color(enum.StrEnum):
    RED = "red"
    BLUE = "blue"


class Inner(Model):
    size: int = pydantic.Field(default=1, ge=1, le=9)
    colors: tuple[Color, ...] = ()


class Outer(Model):
    name: str = pydantic.Field(examples=["left"])
    inner: Inner = Inner()
    many: tuple[Inner, ...] = ()
    ratio: float = 1.0
    network: ipaddress.IPv4Network | None = None


def test_good_table_becomes_its_model() -> None:
    findings = Findings()
    text = 'name = "a"\nratio = 2\nnetwork = "10.0.0.0/8"\n[[many]]\nsize = 3\ncolors = ["red"]'
    model = typed(document(text), Outer, findings)
    assert findings.errors == []
    assert model is not None
    assert model.many == (Inner(size=3, colors=(Color.RED,)),)
    assert model.network == ipaddress.IPv4Network("10.0.0.0/8")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", ['file.toml: name: is missing (for example: name = "left")']),
        ("name = 5", [
            'file.toml:1: name: is 5, must be a text in quotes (for example: name = "left")',
        ]),
        ('nam = "a"', ["file.toml:1: nam: unknown key (did you mean 'name'?)"]),
        ('name = "a"\n\n[inner]\nsise = 3', [
            "file.toml:4: inner.sise: unknown key (did you mean 'size'?)",
        ]),
        ('name = "a"\n[inner]\nsize = "3"', [
            'file.toml:3: inner.size: is "3", must be a whole number',
        ]),
        ('name = "a"\ninner.size = 10', ["file.toml:2: inner.size: is 10, must be at most 9"]),
        ('name = "a"\ninner = 1', ["file.toml:2: inner: is 1, must be a table"]),
        ('name = "a"\nmany = 1', ["file.toml:2: many: is 1, must be a list"]),
        ('name = "a"\nratio = inf', ["file.toml:2: ratio: is Infinity, must be a finite number"]),
        ('name = "a"\nratio = true', ["file.toml:2: ratio: is true, must be a number"]),
        ('name = "a"\n[[many]]\n[[many]]\ncolors = ["red",\n"gren"]', [
            "file.toml:5: many[1].colors[1]: is \"gren\", must be 'red' or 'blue'",
        ]),
        ('x = 1\nname = "a"\n[inner]\ny = 1\nsize = 0', [
            "file.toml:1: x: unknown key (one of: inner, many, name, network, ratio)",
            "file.toml:4: inner.y: unknown key (one of: colors, size)",
            "file.toml:5: inner.size: is 0, must be at least 1",
        ]),
    ],
)  # fmt: skip
def test_wrong_table_is_refused_with_place_cause_and_cure(text: str, expected: list[str]) -> None:
    assert messages(text, Outer) == expected


def test_alternatives_of_a_union_do_not_appear_in_the_key() -> None:
    class Either(Model):
        value: int | bool = 1

    found = messages('value = "x"', Either)
    assert {message.partition(": is")[0] for message in found} == {"file.toml:1: value"}


def test_own_message_of_a_validator_reaches_the_operator() -> None:
    def refuse(value: object) -> str:
        raise Wrong(f"is {value!r}, which is odd", "make it even")

    class Even(Model):
        number: str = pydantic.Field(default="")
        _check = pydantic.field_validator("number", mode="before")(refuse)

    assert messages("number = 3", Even) == [
        "file.toml:1: number: is 3, which is odd (make it even)"
    ]


@dataclasses.dataclass
class Plain:
    size: int
    inner: list[Inner] = dataclasses.field(default_factory=list)


class Packed(msgspec.Struct):
    size: int
    name: str = ""


class Open(pydantic.BaseModel):
    size: int = 1


@pytest.mark.parametrize(
    ("kind", "text", "expected"),
    [
        (Plain, "size = 1\nsiz = 2", "file.toml:2: siz: unknown key (did you mean 'size'?)"),
        (Plain, "size = 1\n[[inner]]\nsiz = 2", "file.toml:3: inner[0].siz: unknown key"),
        (Plain, 'size = "1"', 'file.toml:1: size: is "1", must be a whole number'),
        (Packed, "size = 1\nnme = 2", "file.toml:2: nme: unknown key (did you mean 'name'?)"),
        (Packed, 'size = "1"', "file.toml:1: size: expected `int`, got `str`"),
        (Packed, "", "file.toml: object missing required field `size`"),
        (Open, "x = 1", "file.toml:1: x: unknown key (one of: size)"),
    ],
)
def test_settings_models_of_filter_authors_are_closed_and_strict_too(
    kind: type, text: str, expected: str
) -> None:
    (message,) = messages(text, kind)
    assert message.startswith(expected)


@pytest.mark.parametrize("kind", [Plain, Packed])
def test_settings_models_of_every_kind_are_made(kind: type) -> None:
    findings = Findings()
    model = typed(document("[a]\nsize = 2"), kind, findings, ("a",))
    assert findings.errors == []
    assert isinstance(model, kind)
    assert model.size == 2


def test_model_whose_types_cannot_be_read_is_a_finding() -> None:
    @dataclasses.dataclass
    class Broken:
        value: Nowhere  # type: ignore[name-defined]  # noqa: F821

    (message,) = messages("", Broken)
    assert "cannot be read as a model" in message


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a = 1\nb\n", "file.toml:2: not TOML: Expected '=' after a key in a key/value pair"),
        ("a = [1,", "file.toml:1: not TOML: "),
        ("a = 1\na = 2", "file.toml:2: not TOML: Cannot overwrite a value"),
    ],
)
def test_text_that_is_not_toml_is_refused_with_its_line(text: str, expected: str) -> None:
    findings = Findings()
    assert read_document(text, "file.toml", findings) is None
    assert str(findings.errors[0]).startswith(expected)


def test_key_that_needs_quotes_is_shown_with_them() -> None:
    assert format_key(("a", 0, "b c", "d")) == "a[0].'b c'.d"


def test_suggestion_without_a_close_name_lists_all() -> None:
    assert suggest("zzz", ["a", "b"]) == "one of: a, b"
    assert suggest("zzz", []) == "there is nothing to set here"


def test_findings_are_raised_together() -> None:
    findings = Findings()
    findings.raise_errors()
    findings.refuse("a:1", "one")
    findings.refuse("a:2", "two", "cure")
    with pytest.raises(ConfigRefused) as refused:
        findings.raise_errors()
    assert str(refused.value) == "a:1: one\na:2: two (cure)"
