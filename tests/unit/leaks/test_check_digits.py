"""Check digits: the published examples of each scheme, and each of them with one digit changed."""

from __future__ import annotations

import pytest

from sluicegate.protocols.secrets.check_digits import (
    base58_is_valid,
    bech32_is_valid,
    entropy_bits,
    iban_is_valid,
    luhn_is_valid,
    mod_11_10_is_valid,
    token_checksum,
)

LUHN = [b"79927398713", b"4111111111111111", b"378282246310005", b"8112189876", b"0"]
IBANS = [
    b"DE89370400440532013000",
    b"GB82WEST12345698765432",
    b"FR1420041010050500013M02606",
    b"NL91ABNA0417164300",
    b"ES9121000418450200051332",
    b"CH9300762011623852957",
    b"NO9386011117947",
    b"MT84MALT011000012345MTLCAST001S",
]


@pytest.mark.parametrize("number", LUHN)
def test_luhn_takes_published_numbers(number: bytes) -> None:
    assert luhn_is_valid(number)


@pytest.mark.parametrize("number", [one for one in LUHN if len(one) > 1])
def test_luhn_takes_no_number_with_one_digit_changed(number: bytes) -> None:
    for at, digit in enumerate(number):
        for other in b"0123456789":
            if other != digit:
                assert not luhn_is_valid(number[:at] + bytes([other]) + number[at + 1 :])


@pytest.mark.parametrize("iban", IBANS)
def test_ibans_of_the_registry_are_valid(iban: bytes) -> None:
    assert iban_is_valid(iban)


@pytest.mark.parametrize("iban", IBANS)
def test_an_iban_with_one_digit_changed_or_another_length_is_not_valid(iban: bytes) -> None:
    assert not iban_is_valid(iban + b"0")
    assert not iban_is_valid(iban[:-1])
    for at in range(4, len(iban)):
        other = b"1" if iban[at : at + 1] == b"0" else b"0"
        assert not iban_is_valid(iban[:at] + other + iban[at + 1 :])


def test_an_iban_of_no_country_is_not_valid() -> None:
    assert not iban_is_valid(b"XX89370400440532013000")


@pytest.mark.parametrize("number", [b"86095742719", b"47036892816", b"65929970489"])
def test_mod_11_10_takes_published_numbers_and_no_neighbours(number: bytes) -> None:
    assert mod_11_10_is_valid(number)
    assert not mod_11_10_is_valid(number[:-1] + bytes([48 + (number[-1] - 47) % 10]))


def test_checksum_of_a_token_is_the_one_of_github() -> None:
    assert token_checksum(b"zQWBuTSOoRi4A9spHcVY5ncnsDkxkJ") == b"0mLq17"


@pytest.mark.parametrize(
    ("text", "is_valid"),
    [
        (b"A12UEL5L", True),  # BIP 173
        (b"a12uel5l", True),
        (b"split1checkupstagehandshakeupstreamerranterredcaperred2y9e3w", True),
        (b"split1checkupstagehandshakeupstreamerranterredcaperred2y9e3x", False),
        (b"A1G7SGD8", False),
        (b"10a06t8", False),
        (b"pzry9x0s0muk", False),
        (b"x1b4n0q5v", False),
        (b"", False),
    ],
)
def test_bech32_is_checked_as_bip_173_has_it(text: bytes, is_valid: bool) -> None:
    assert bech32_is_valid(text) is is_valid


@pytest.mark.parametrize(
    ("text", "is_valid"),
    [
        (b"5HueCGU8rMjxEXxiPuD5BDku4MkFqeZyd4dZ1jvhTVqvbTLvyTJ", True),  # the Bitcoin wiki's
        (b"5HueCGU8rMjxEXxiPuD5BDku4MkFqeZyd4dZ1jvhTVqvbTLvyTK", False),
        (b"5Hue0GU8rMjxEXxiPuD5BDku4MkFqeZyd4dZ1jvhTVqvbTLvyTJ", False),
        (b"", False),
        (b"1", False),
    ],
)
def test_base58_is_checked_by_its_last_four_bytes(text: bytes, is_valid: bool) -> None:
    assert base58_is_valid(text) is is_valid


@pytest.mark.parametrize(
    ("text", "bits"), [(b"", 0.0), (b"aaaa", 0.0), (b"abab", 1.0), (b"abcdefgh", 3.0)]
)
def test_entropy_is_in_bits_for_each_character(text: bytes, bits: float) -> None:
    assert entropy_bits(text) == bits
