"""Values in filters and distinguished names: exactly what was meant, whatever they are made of."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sluicegate.identity import DistinguishedName, LdapTextError, fill_filter
from sluicegate.identity.ldap_link import check_filter
from sluicegate.identity.ldap_text import escape_filter_value

BASE = DistinguishedName.parse("ou=people,dc=example,dc=org")


def unescaped(text: str) -> bytes:
    return re.sub(
        rb"\\([0-9a-f]{2})", lambda found: bytes.fromhex(found[1].decode()), text.encode()
    )


@given(st.text())
def test_q7_an_escaped_value_has_no_operator_and_means_what_it_meant(value: str) -> None:
    escaped = escape_filter_value(value)
    assert re.fullmatch(r"([A-Za-z0-9]|\\[0-9a-f]{2})*", escaped)
    assert unescaped(escaped) == value.encode("utf-8", "surrogateescape")


@given(st.text(min_size=1))
def test_q7_a_filter_with_any_value_in_it_is_still_one_filter(value: str) -> None:
    filled = fill_filter("(&(objectClass=person)(uid={user}))", user=value)
    assert filled.count("(") == filled.count(")") == 3
    assert filled.startswith("(&(objectClass=person)(uid=")
    assert check_filter(filled) == ""


FILLED = [
    ("(uid={user})", {"user": "ann"}, "(uid=ann)"),
    ("(uid={user})", {"user": "*"}, r"(uid=\2a)"),
    ("(uid={user})", {"user": "ann)(uid=*"}, r"(uid=ann\29\28uid\3d\2a)"),
    ("(|(uid={user})(m={dn}))", {"user": "{dn}", "dn": "x"}, r"(|(uid=\7bdn\7d)(m=x))"),
    ("(m={dn}{user})", {"user": "{user}", "dn": "{user}"}, r"(m=\7buser\7d\7buser\7d)"),
    ("(a={other}{user})", {"user": "u"}, "(a={other}u)"),
    ("(a={{user}})", {"user": "u"}, "(a={u})"),
    ("(a=}{)", {"user": "u"}, "(a=}{)"),
    ("(uid={user})", {"user": "\x00"}, r"(uid=\00)"),
    ("(uid={user})", {"user": "ä"}, r"(uid=\c3\a4)"),
]  # fmt: skip


@pytest.mark.parametrize(("template", "values", "expected"), FILLED)
def test_q7_places_are_filled_once(template: str, values: dict[str, str], expected: str) -> None:
    assert fill_filter(template, **values) == expected


READ = [
    ("cn=staff", [[("cn", "staff")]]),
    ("CN=Staff,OU=Groups", [[("cn", "Staff")], [("ou", "Groups")]]),
    ("cn = a b , ou = c", [[("cn", "a b")], [("ou", "c")]]),
    (r"cn=Doe\, John,ou=x", [[("cn", "Doe, John")], [("ou", "x")]]),
    (r"cn=Doe\2c John", [[("cn", "Doe, John")]]),
    (r"cn=\20a\20", [[("cn", " a ")]]),
    (r"cn=a\ ", [[("cn", "a ")]]),
    (r"cn=\23a\"\+\<\>\=\\", [[("cn", '#a"+<>=\\')]]),
    ("cn=a+uid=b,ou=c", [[("cn", "a"), ("uid", "b")], [("ou", "c")]]),
    (r"cn=\c3\a4", [[("cn", "ä")]]),
    ("cn=ä", [[("cn", "ä")]]),
    ("2.5.4.3=a", [[("2.5.4.3", "a")]]),
    ("cn=", [[("cn", "")]]),
    ("cn=a=b", [[("cn", "a=b")]]),
    ("cn=a;ou=b", [[("cn", "a")], [("ou", "b")]]),
]  # fmt: skip


@pytest.mark.parametrize(("text", "parts"), READ)
def test_distinguished_names_are_taken_apart(text: str, parts: list[list[tuple[str, str]]]) -> None:
    assert [list(part) for part in DistinguishedName.parse(text).parts] == parts


@pytest.mark.parametrize(
    "text",
    [
        "", " ", "cn", "=a", "cn=a,", "cn=a+", ",cn=a", "cn=a,,ou=b", "cn=a\\",
        r"cn=\zz", r"cn=\c3", 'cn="a"', "cn=<a>", "cn=a\x00", "c n=a", "cn,ou=a", "ä=b",
        "cn=" + "a" * 2000,
    ],
)  # fmt: skip
def test_what_is_no_distinguished_name_is_an_error(text: str) -> None:
    with pytest.raises(LdapTextError):
        DistinguishedName.parse(text)


@given(st.text(alphabet='cn=a,+\\ ;2#"ä\x00<', max_size=40))
def test_any_text_is_a_name_or_an_error(text: str) -> None:
    try:
        name = DistinguishedName.parse(text)
    except LdapTextError:
        return
    assert name.parts
    assert name.is_same(name)
    assert name.is_within(name)


WITHIN = [
    ("ou=people,dc=example,dc=org", True),
    ("uid=ann,ou=people,dc=example,dc=org", True),
    ("UID=Ann,OU=People,DC=EXAMPLE,DC=ORG", True),
    ("uid=ann, ou=people , dc=example,dc=org", True),
    (r"uid=ann,ou=peo\70le,dc=example,dc=org", True),
    ("dc=example,dc=org", False),
    ("uid=ann,ou=people,dc=example,dc=org,dc=evil", False),
    ("uid=ann,ou=xpeople,dc=example,dc=org", False),
    (r"uid=a\,ou=people,dc=example,dc=org", False),
    (r"cn=x\,ou=people\,dc=example\,dc=org", False),
    ("uid=ann,ou=people+cn=x,dc=example,dc=org", False),
]  # fmt: skip


@pytest.mark.parametrize(("text", "expected"), WITHIN)
def test_an_entry_is_within_a_base_by_whole_parts(text: str, expected: bool) -> None:
    assert DistinguishedName.parse(text).is_within(BASE) is expected
