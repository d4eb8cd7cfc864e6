"""Payment cards: by their issuers' ranges, lengths and the Luhn check digit.

``catalogue`` lists the kind. The invariant: digits are a card only whole: neither a part of a
longer run of digits or letters, nor the decimals of a number.
"""

from __future__ import annotations

from typing import Final

from .check_digits import luhn_is_valid
from .kind import Expression, Find, Kind

__all__ = ["CARD", "issuer_of"]


def issuer_of(digits: bytes) -> str:
    """Return who issues cards with such a number, by its range and length; empty: nobody."""
    for first, last, lengths, issuer in _RANGES:
        if len(digits) in lengths and first <= int(digits[: len(str(first))]) <= last:
            return issuer
    return ""


def _read_card(text: bytes, end: int) -> Find | None:
    """Read backwards from the byte behind the last digit."""
    if text[end - 1 : end] == b"." and text[end : end + 1].isdigit():
        # 4111111111111111.5 is a number.
        return None
    near = text[max(0, end - 1 - _DIGITS_MAX) : end - 1]
    digits = near[len(near.rstrip(_DIGITS)) :]
    start = end - 1 - len(digits)
    if len(digits) >= _DIGITS_MIN and _is_card(text, start, digits):
        return Find(start, end - 1, digits)
    return _read_grouped(text, end - 1) if text[start - 1] in _SEPARATORS else None


def _read_grouped(text: bytes, end: int) -> Find | None:
    """Read digits with separators; the longest card that ends there."""
    digits = bytearray()
    starts: list[int] = []
    at = end - 1
    while at >= 0 and len(digits) < _DIGITS_MAX:
        if text[at] in _DIGITS:
            digits.append(text[at])
            starts.append(at)
        elif text[at] not in _SEPARATORS or at == 0 or text[at - 1] not in _DIGITS:
            break
        at -= 1
    digits.reverse()
    for count in range(len(digits), _DIGITS_MIN - 1, -1):
        card = bytes(digits[-count:])
        if _is_card(text, starts[count - 1], card):
            return Find(starts[count - 1], end, card)
    return None


def _is_card(text: bytes, start: int, digits: bytes) -> bool:
    return (
        luhn_is_valid(digits)
        and bool(issuer_of(digits))
        and not text[start - 1 : start].isalnum()
        and not _is_fraction(text, start)
    )


def _is_fraction(text: bytes, start: int) -> bool:
    """Tell whether digits stand behind a decimal point: ``0.4111111111111111``."""
    return text[start - 1 : start] == b"." and text[max(0, start - 2) : start - 1].isdigit()


_DIGITS: Final = b"0123456789"
_SEPARATORS: Final = b" -+"
"""Between groups; ``+`` is a space in a form (URL Standard, 5.1)."""
_DIGITS_MIN, _DIGITS_MAX = 12, 19

#: First and last number of a range, lengths, and whose it is (ISO/IEC 7812; the issuers' pages).
_RANGES: Final = (
    (4, 4, (13, 16, 19), "Visa"),
    (51, 55, (16,), "Mastercard"),
    (2221, 2720, (16,), "Mastercard"),
    (34, 34, (15,), "American Express"),
    (37, 37, (15,), "American Express"),
    (6011, 6011, (16, 17, 18, 19), "Discover"),
    (644, 659, (16, 17, 18, 19), "Discover"),
    (300, 305, (14, 15, 16, 17, 18, 19), "Diners Club"),
    (3095, 3095, (14, 15, 16, 17, 18, 19), "Diners Club"),
    (36, 36, (14, 15, 16, 17, 18, 19), "Diners Club"),
    (38, 39, (14, 15, 16, 17, 18, 19), "Diners Club"),
    (3528, 3589, (16, 17, 18, 19), "JCB"),
    (62, 62, (16, 17, 18, 19), "UnionPay"),
    (2200, 2204, (16, 17, 18, 19), "Mir"),
    (5018, 5018, tuple(range(12, 20)), "Maestro"),
    (5020, 5020, tuple(range(12, 20)), "Maestro"),
    (5038, 5038, tuple(range(12, 20)), "Maestro"),
    (5893, 5893, tuple(range(12, 20)), "Maestro"),
    (6304, 6304, tuple(range(12, 20)), "Maestro"),
    (6759, 6763, tuple(range(12, 20)), "Maestro"),
    (6521, 6522, (16,), "RuPay"),
    (817200, 819999, (16,), "RuPay"),
    (508500, 508999, (16,), "RuPay"),
    (9792, 9792, (16,), "Troy"),
)

#: A digit that begins some range, and as many behind it as the shortest and the longest have.
_CANDIDATE: Final = (
    rb"[^0-9A-Za-z](?:4|5[0-58]|2[2-7]|3[0-9]|6[0-9]|8[12]|97)(?:[ +-]?[0-9]){10,18}[^0-9A-Za-z]"
)

CARD: Final = Kind("payment-card", "payment card", (Expression(_CANDIDATE, _read_card),))
