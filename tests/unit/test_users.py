"""The users file's text: every mistake named, every edit exact."""

from __future__ import annotations

import pathlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sluicegate.documents import ConfigRefused, Findings, Wrong
from sluicegate.errors import ConfigError
from sluicegate.identity.passwords import DEFAULT_COST, make_dummy_hash
from sluicegate.identity.users import (
    User,
    Users,
    check_user_name,
    parse_users,
    with_user,
    without_user,
)
from tests.unit.identity_kit import CHEAP, cheap_hash, user

HASH = cheap_hash("open sesame").text
ANN = f'[[user]]\nname = "ann"\npassword_hash = "{HASH}"\n'
BOB = f'[[user]]\nname = "bob"\npassword_hash = "{HASH}"\ngroups = ["staff"]\n'


def read(text: str) -> list[User]:
    findings = Findings()
    users = parse_users(text, "users.toml", findings)
    findings.raise_errors()
    assert users is not None
    return list(users)


def errors_of(text: str) -> list[str]:
    findings = Findings()
    assert parse_users(text, "users.toml", findings) is None
    return [str(error) for error in findings.errors]


def test_users_are_read_with_groups_in_their_order() -> None:
    assert read(f"{ANN}\n{BOB}") == [user("ann"), user("bob", "open sesame", "staff")]


def test_example_of_the_reference_is_a_users_file() -> None:
    page = pathlib.Path(__file__).parents[2] / "docs" / "reference" / "users.md"
    example = page.read_text(encoding="utf-8").partition("```toml\n")[2].partition("```")[0]

    [ann] = read(example)

    assert (ann.name, ann.groups) == ("ann", ("staff", "build"))


def test_empty_file_has_no_users() -> None:
    assert read("") == []


@pytest.mark.parametrize(
    ("text", "error"),
    [
        (
            f'[[user]]\nname = "ann"\npasword_hash = "{HASH}"\n',
            "users.toml:3: user[0].pasword_hash: unknown key (did you mean 'password_hash'?)",
        ),
        (
            ANN + 'password = "open sesame"\n',
            "users.toml:4: user[0].password: unknown key (did you mean 'password_hash'?)",
        ),
        ('[[user]]\nname = "ann"\n', "users.toml:1: user[0].password_hash: is missing"),
        (
            '[[user]]\nname = "ann"\npassword_hash = "open sesame"\n',
            "users.toml:3: user[0].password_hash: is not an argon2id hash (let ",
        ),
        (
            ANN + "\n" + ANN,
            "users.toml:6: user[1].name: the name 'ann' is taken by user[0] (give each user one",
        ),
        ("[[users]]\n", "users.toml:1: users: unknown key (did you mean 'user'?)"),
        ("user = 1\n", "users.toml:1: user: is 1, must be a list"),
        ("[[user]\n", "users.toml:1: not TOML: Expected ']]' at the end of an array declaration"),
    ],
)
def test_mistakes_are_named_with_place_and_cure(text: str, error: str) -> None:
    assert [one[: len(error)] for one in errors_of(text)] == [error]


@pytest.mark.parametrize(
    "name", ["", "-a", ".a", "a b", "a:b", "a/b", "ä", "a\n", "a" * 65, "a,b", "a\\b"]
)
def test_name_that_records_or_protocols_could_not_carry_is_refused(name: str) -> None:
    assert errors_of(ANN.replace('"ann"', repr(name).replace("'", '"')))
    with pytest.raises(Wrong):
        check_user_name(name)


def test_groups_are_names_and_not_too_many() -> None:
    assert "groups[0]" in errors_of(ANN + 'groups = ["a b"]\n')[0]
    many = ", ".join(f'"g{number}"' for number in range(65))
    assert "groups" in errors_of(ANN + f"groups = [{many}]\n")[0]


@pytest.mark.parametrize("name", [b"ANN", b"ann\0", b"ann ", b"", b"\xff", "änn".encode()])
def test_user_is_found_by_the_exact_name_only(name: bytes) -> None:
    users = Users([user("ann")])

    assert users.find(b"ann") is not None
    assert users.find(name) is None
    assert len(users) == 1


def test_unknown_names_cost_what_most_users_cost() -> None:
    costly = User("carl", make_dummy_hash(DEFAULT_COST))

    assert Users([user("ann"), user("bob"), costly]).dummy.cost == CHEAP
    assert Users([]).dummy.cost == DEFAULT_COST


def test_user_is_added_behind_what_is_there() -> None:
    text = "# mine\n" + ANN.rstrip("\n")

    edited = with_user(text, user("bob", "open sesame", "staff"), "users.toml")

    assert edited == f"# mine\n{ANN}\n{BOB}"
    assert with_user("", user("ann"), "users.toml") == ANN


FILE = f"# head\n\n{ANN}# of ann, inside\n\n# before bob\n{BOB}\n# before zoe\n" + ANN.replace(
    "ann", "zoe"
)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("ann", FILE.replace(ANN, "")),
        ("bob", FILE.replace(BOB + "\n", "")),
        ("zoe", FILE.replace(ANN.replace("ann", "zoe"), "")),
    ],
)
def test_removed_user_takes_no_comment_and_no_neighbour_along(name: str, expected: str) -> None:
    assert without_user(FILE, name, "users.toml") == expected


def test_replaced_user_stays_in_place() -> None:
    edited = with_user(FILE, User("bob", cheap_hash("other words"), ("a", "b")), "users.toml")

    assert [one.name for one in read(edited)] == ["ann", "bob", "zoe"]
    assert read(edited)[1].groups == ("a", "b")
    assert [line for line in edited.split("\n") if line.startswith("#")] == [
        line for line in FILE.split("\n") if line.startswith("#")
    ]


def test_comment_of_a_replaced_user_is_written_back() -> None:
    comment = 'says "hi" \\ to\teverybody \u2028 \x85 é \U0001f600'
    text = with_user("", User("ann", cheap_hash("open sesame"), (), comment), "users.toml")

    assert read(text)[0].comment == comment
    assert read(with_user(text, user("bob"), "users.toml"))[0].comment == comment


@pytest.mark.parametrize("tail", ['comment = """\n# none\n"""\n', 'comment = """\n#"""\n'])
def test_text_that_looks_like_a_comment_does_not_mislead_an_edit(tail: str) -> None:
    edited = without_user(f"{BOB}{tail}\n{ANN}", "bob", "users.toml")

    assert read(edited) == [user("ann")]


def test_file_that_cannot_be_edited_by_lines_is_refused() -> None:
    inline = ", ".join(f'{{name = "{name}", password_hash = "{HASH}"}}' for name in ("ann", "bob"))
    assert len(read(f"user = [{inline}]\n")) == 2

    with pytest.raises(ConfigError, match="by hand"):
        without_user(f"user = [{inline}]\n", "bob", "users.toml")


def test_unknown_user_cannot_be_removed() -> None:
    with pytest.raises(ConfigError, match="there is no user 'carl'"):
        without_user(FILE, "carl", "users.toml")


def test_wrong_file_is_not_edited() -> None:
    with pytest.raises(ConfigRefused, match="unknown key"):
        with_user("x = 1\n", user("ann"), "users.toml")


NAMES = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9_.@-]{0,10}", fullmatch=True)
LINES = st.sampled_from(["", "# comment", "   ", "\t# tab", "#"])


@given(
    st.lists(st.tuples(NAMES, st.lists(NAMES, max_size=3)), max_size=5, unique_by=lambda u: u[0]),
    st.lists(LINES, min_size=6, max_size=6),
    st.data(),
)
def test_any_edit_changes_one_user_and_keeps_every_comment(
    people: list[tuple[str, list[str]]], lines: list[str], data: st.DataObject
) -> None:
    text = lines[0] + "\n"
    for place, (name, groups) in enumerate(people):
        text = with_user(text, user(name, "open sesame", *groups), "users.toml")
        text += lines[place + 1] + "\n"
    before = read(text)
    assert [(one.name, list(one.groups)) for one in before] == people
    if not people:
        return
    chosen = data.draw(st.sampled_from(before))

    removed = without_user(text, chosen.name, "users.toml")
    replaced = with_user(text, user(chosen.name, "other words"), "users.toml")

    assert read(removed) == [one for one in before if one != chosen]
    assert [one.name for one in read(replaced)] == [one.name for one in before]
    assert removed.count("#") == replaced.count("#") == text.count("#")
