"""Bank accounts and people: IBANs, national identity numbers, e-mail addresses.

``catalogue`` lists the kinds. The invariant: a number counts only with its check digits right,
where its scheme has some; weak schemes are looked for only if an operator says so.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Final

from .check_digits import (
    IBAN_LENGTHS,
    iban_is_valid,
    luhn_is_valid,
    mod_11_10_is_valid,
    weighted_sum,
)
from .kind import Expression, Find, Kind, is_masked

__all__ = ["ACCOUNT_KINDS"]


def _read_iban(text: bytes, end: int) -> Find | None:
    start = max(0, end - _IBAN_SPAN)
    region = text[start : end - 1]
    for begin in _IBAN_START.finditer(region):
        value = region[begin.start(1) :].translate(None, _SEPARATORS)
        if iban_is_valid(value):
            return Find(start + begin.start(1), end - 1, value)
    return None


def _read_address(text: bytes, end: int) -> Find | None:
    start = max(0, text.rfind(b"@", 0, end) - _LOCAL_PART_MAX)
    found = _ADDRESS.search(text[start:end])
    if found is None or is_masked(found[1]):
        return None
    return Find(start + found.start(1), start + found.end(1), found[1].lower())


def _number(pattern: bytes, is_valid: Callable[[bytes], bool]) -> Expression:
    """Return the expression of a number that stands alone, with its reader."""
    compiled = re.compile(rb"(?<![0-9A-Za-z])(%s)[^0-9A-Za-z]\Z" % pattern, re.DOTALL)

    def read(text: bytes, end: int) -> Find | None:
        start = max(0, end - _NUMBER_SPAN)
        found = compiled.search(text[start:end])
        if found is None:
            return None
        value = found[1].translate(None, _SEPARATORS + b"./").upper()
        if is_masked(found[1]) or not is_valid(value):
            return None
        return Find(start + found.start(1), start + found.end(1), value)

    return Expression(rb"[^0-9A-Za-z](?:%s)[^0-9A-Za-z]" % pattern, read)


def _is_ssn(value: bytes) -> bool:
    """Areas 000, 666 and 900 to 999, group 00 and serial 0000 were never given (SSA)."""
    area, group, serial = value[:3], value[3:5], value[5:]
    return (
        area not in {b"000", b"666"}
        and area < b"900"
        and group != b"00"
        and serial != b"0000"
        and value not in {b"078051120", b"219099999", b"123456789"}
    )


def _is_nino(value: bytes) -> bool:
    """HMRC's manual NIM39110 says which prefixes are not used."""
    return value[:2] not in {b"BG", b"GB", b"KN", b"NK", b"NT", b"TN", b"ZZ"}


def _is_steuer_id(value: bytes) -> bool:
    """One digit of the first ten comes twice or three times, not all alike in a row; MOD 11,10."""
    counts = sorted(value[:10].count(one) for one in set(value[:10]))
    return value[0] != _ZERO and counts[-1] in {2, 3} and mod_11_10_is_valid(value)


def _is_nir(value: bytes) -> bool:
    """13 digits and a key of two, 97 less the number mod 97; 2A and 2B are Corsica."""
    number = value[:13].replace(b"2A", b"19").replace(b"2B", b"18")
    return number.isdigit() and 97 - int(number) % 97 == int(value[13:])


def _is_dni(value: bytes) -> bool:
    """A letter from the number mod 23; X, Y and Z before a foreigner's stand for 0, 1 and 2."""
    number = value[:-1].translate(bytes.maketrans(b"XYZ", b"012"))
    return b"TRWAGMYFPDXBNJZSQVHLCKE"[int(number) % 23] == value[-1]


def _is_codice_fiscale(value: bytes) -> bool:
    """A letter from the fifteen before it; odd and even places count otherwise."""
    total = sum(_CODICE_ODD[int(chr(one), 36) % 36] for one in value[:15:2])
    total += sum(int(chr(one), 36) - (10 if one > _NINE else 0) for one in value[1:15:2])
    return ord("A") + total % 26 == value[15]


def _is_pesel(value: bytes) -> bool:
    return weighted_sum(value[:10], (1, 3, 7, 9) * 2 + (1, 3)) % 10 == (10 - value[10] + 48) % 10


def _is_ahv(value: bytes) -> bool:
    return weighted_sum(value, (1, 3) * 6 + (1,)) % 10 == 0


def _is_bsn(value: bytes) -> bool:
    """The test of eleven."""
    return weighted_sum(value, (9, 8, 7, 6, 5, 4, 3, 2, -1)) % 11 == 0


def _is_personnummer(value: bytes) -> bool:
    return luhn_is_valid(value[-10:])


_ZERO, _NINE = b"09"
_SEPARATORS: Final = b" -+"

#: By the value of a character: what it counts in an odd place (Decreto 12/03/1974).
_ODD_OF_DIGITS: Final = (1, 0, 5, 7, 9, 13, 15, 17, 19, 21)
_CODICE_ODD: Final = (
    *_ODD_OF_DIGITS,
    *_ODD_OF_DIGITS,
    *(2, 4, 18, 20, 11, 3, 6, 8, 12, 14, 16, 10, 22, 25, 24, 23),
)

_IBAN_SPAN: Final = 2 * max(IBAN_LENGTHS.values()) + 2
_IBAN_START: Final = re.compile(rb"(?<![0-9A-Za-z])([A-Z]{2}[0-9]{2})")
_IBAN: Final = Kind(
    "iban",
    "IBAN",
    (
        Expression(
            # Not the countries by name: seventy literals of two letters cost the engine more.
            rb"[^0-9A-Za-z][A-Z]{2}[0-9]{2}(?:[ +-]?[0-9A-Z]){11,30}[^0-9A-Za-z]",
            _read_iban,
        ),
    ),
)

_LOCAL_PART_MAX: Final = 64
"""RFC 5321, 4.5.3.1.1."""
#: RFC 5321's addresses as people write them; a quoted local part is none of those.
_ADDRESS: Final = re.compile(
    rb"([A-Za-z0-9._%+-]{1,64}@[A-Za-z0-9-]{1,63}(?:\.[A-Za-z0-9-]{1,63}){1,4})"
    rb"(?:[^A-Za-z0-9.-]|\.[^A-Za-z0-9])\Z"
)
_EMAIL: Final = Kind(
    "email-list",
    "e-mail address",
    (
        Expression(
            rb"[A-Za-z0-9_%+-]@[A-Za-z0-9-]{1,63}(?:\.[A-Za-z0-9-]{1,63}){1,4}"
            rb"(?:[^A-Za-z0-9.-]|\.[^A-Za-z0-9])",
            _read_address,
        ),
    ),
    count_min=50,
)

_NUMBER_SPAN: Final = 40

#: Name, title, pattern, check, and whether the scheme is strong enough to look for it unasked.
_NATIONAL: Final = (
    ("us-ssn", "US social security number", rb"[0-9]{3}-[0-9]{2}-[0-9]{4}", _is_ssn, True),
    (
        "gb-nino",
        "UK national insurance number",
        rb"[A-CEGHJ-PR-TW-Z][A-CEGHJ-NPR-TW-Z][ +-]?(?:[0-9]{2}[ +-]?){3}[A-D]",
        _is_nino,
        False,
    ),
    (
        "de-steuer-id",
        "German tax number",
        rb"[0-9]{2}[ +]?[0-9]{3}[ +]?[0-9]{3}[ +]?[0-9]{3}",
        _is_steuer_id,
        False,
    ),
    (
        "fr-nir",
        "French social security number",
        rb"[1278](?:[ +]?[0-9]{2}){2}[ +]?[0-9][0-9AB](?:[ +]?[0-9]{3}){2}[ +]?[0-9]{2}",
        _is_nir,
        True,
    ),
    (
        "es-dni",
        "Spanish identity number",
        rb"(?:[0-9]|[XYZ])[0-9]{7}-?[A-HJ-NP-TV-Z]",
        _is_dni,
        False,
    ),
    (
        "it-codice-fiscale",
        "Italian tax code",
        rb"[A-Z]{6}[0-9LMNPQRSTUV]{2}[A-EHLMPRST][0-9LMNPQRSTUV]{2}[A-Z][0-9LMNPQRSTUV]{3}[A-Z]",
        _is_codice_fiscale,
        True,
    ),
    (
        "pl-pesel",
        "Polish identity number",
        rb"[0-9]{2}(?:[02468][1-9]|[13579][0-2])(?:0[1-9]|[12][0-9]|3[01])[0-9]{5}",
        _is_pesel,
        False,
    ),
    (
        "ch-ahv",
        "Swiss social security number",
        rb"756\.?[0-9]{4}\.?[0-9]{4}\.?[0-9]{2}",
        _is_ahv,
        True,
    ),
    ("nl-bsn", "Dutch citizen number", rb"[0-9]{9}", _is_bsn, False),
    (
        "se-personnummer",
        "Swedish identity number",
        rb"(?:19|20)?[0-9]{2}(?:0[1-9]|1[0-2])(?:0[1-9]|[12][0-9]|3[01])[-+]?[0-9]{4}",
        _is_personnummer,
        False,
    ),
)

ACCOUNT_KINDS: Final = (
    _IBAN,
    *(
        Kind(name, title, (_number(pattern, check),), is_default)
        for name, title, pattern, check, is_default in _NATIONAL
    ),
    _EMAIL,
)
