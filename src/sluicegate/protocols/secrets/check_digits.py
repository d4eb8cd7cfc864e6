"""Check digits: what tells a number that means something from one that only looks like it.

The readers of ``secrets`` ask these of every candidate. The invariant: each function takes digits
(and letters) without separators, and is right about the published examples of its scheme; a text of
another shape is simply not valid.
"""

from __future__ import annotations

import hashlib
import math
import zlib
from collections import Counter
from collections.abc import Iterable
from typing import Final

__all__ = [
    "base58_is_valid",
    "bech32_is_valid",
    "entropy_bits",
    "iban_is_valid",
    "luhn_is_valid",
    "mod_11_10_is_valid",
    "token_checksum",
    "weighted_sum",
]


def luhn_is_valid(digits: bytes) -> bool:
    """Tell whether ASCII digits end in their Luhn check digit (ISO/IEC 7812-1, annex B)."""
    backwards = digits[::-1]
    total = sum(backwards[::2]) + sum(backwards[1::2].translate(_DOUBLED))
    # Each summand is the character's code, 48 above its digit: 48 * n is no multiple of 10.
    return (total - 48 * len(digits)) % 10 == 0


def iban_is_valid(iban: bytes) -> bool:
    """Tell whether an IBAN has its country's length and its check digits (ISO 13616, mod 97)."""
    if IBAN_LENGTHS.get(iban[:2]) != len(iban):
        return False
    number = "".join(str(int(chr(one), 36)) for one in iban[4:] + iban[:4])
    return int(number) % 97 == 1


def mod_11_10_is_valid(digits: bytes) -> bool:
    """Tell whether ASCII digits end in their check digit by ISO/IEC 7064, MOD 11,10."""
    product = 10
    for one in digits[:-1]:
        total = (one - 48 + product) % 10 or 10
        product = total * 2 % 11
    return (11 - product) % 10 == digits[-1] - 48


def weighted_sum(digits: bytes, weights: Iterable[int]) -> int:
    """Return the sum of ASCII digits, each times its weight; there are as many of both."""
    return sum((one - 48) * weight for one, weight in zip(digits, weights, strict=True))


def token_checksum(text: bytes) -> bytes:
    """Return six characters: the CRC-32 of a text in base 62, as GitHub and npm end tokens."""
    rest = zlib.crc32(text)
    out = bytearray()
    for _ in range(6):
        rest, one = divmod(rest, 62)
        out.append(_BASE62[one])
    return bytes(reversed(out))


def bech32_is_valid(text: bytes) -> bool:
    """Tell whether a text, all of one case, ends in its Bech32 checksum (BIP 173)."""
    prefix, _, data = text.lower().rpartition(b"1")
    try:
        values = [_BECH32[one] for one in data]
    except KeyError:
        return False
    expanded = [one >> 5 for one in prefix] + [0] + [one & 31 for one in prefix]
    check = 1
    for value in expanded + values:
        top = check >> 25
        check = (check & 0x1FFFFFF) << 5 ^ value
        for bit, generator in enumerate(_BECH32_GENERATORS):
            if top >> bit & 1:
                check ^= generator
    return bool(prefix) and check == 1


def base58_is_valid(text: bytes) -> bool:
    """Tell whether a text of Base58 ends in four bytes of its double SHA-256 (Bitcoin's keys)."""
    number = 0
    for one in text:
        value = _BASE58.find(one)
        if value < 0:
            return False
        number = number * 58 + value
    raw = number.to_bytes((number.bit_length() + 7) // 8, "big")
    body, check = raw[:-4], raw[-4:]
    return bool(body) and hashlib.sha256(hashlib.sha256(body).digest()).digest()[:4] == check


def entropy_bits(text: bytes) -> float:
    """Return the Shannon entropy of a text, in bits for each of its characters."""
    size = len(text)
    return -sum(one / size * math.log2(one / size) for one in Counter(text).values())


#: A digit's code when it is doubled, and its digits added: still 48 above the value.
_DOUBLED: Final = bytes.maketrans(
    b"0123456789", bytes(48 + sum(divmod(2 * n, 10)) for n in range(10))
)

_BASE62: Final = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
_BASE58: Final = b"123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"
_BECH32: Final = {one: at for at, one in enumerate(b"qpzry9x8gf2tvdw0s3jn54khce6mua7l")}
_BECH32_GENERATORS: Final = (0x3B6A57B2, 0x26508E6D, 0x1EA119FA, 0x3D4233DD, 0x2A1462B3)

_LENGTHS: Final = """
AD24 AE23 AL28 AT20 AZ28 BA20 BE16 BG22 BH22 BR29 BY28 CH21 CR22 CY28 CZ24 DE22 DK18 DO28 EE20 EG29
ES24 FI18 FO18 FR27 GB22 GE22 GI23 GL18 GR27 GT28 HR21 HU28 IE22 IL23 IQ23 IS26 IT27 JO30 KW30 KZ20
LB28 LC32 LI21 LT20 LU20 LV21 LY25 MC27 MD24 ME22 MK19 MR27 MT31 MU30 NL18 NO15 PK24 PL28 PS29 PT25
QA29 RO24 RS22 SA24 SC31 SD18 SE24 SI19 SK24 SM27 ST25 SV28 TL23 TN24 TR26 UA29 VA22 VG24 XK20
"""
IBAN_LENGTHS: Final = {one[:2].encode(): int(one[2:]) for one in _LENGTHS.split()}
"""How long an IBAN of each country is (SWIFT's IBAN registry)."""
