"""Secrets for tests: put together here, so that nobody's scanner finds them in this tree."""

from __future__ import annotations

import base64
import itertools
import json
import zlib

from sluicegate.protocols.secrets import KINDS, Search, SecretPatterns, Sighting

CARD = b"4111" + b"1111" * 3
CARD_GROUPED = b"4111 1111 1111 1111"
IBAN = b"DE89" + b"370400440532013000"

EVERY = SecretPatterns(tuple(KINDS.values()), {"email-list": 1})
DEFAULT = SecretPatterns([one for one in KINDS.values() if one.is_default])

ED25519 = (
    b"-----BEGIN " + b"PRIVATE KEY-----\n"
    b"MC4CAQAwBQYDK2VwBCIEINTuctv5E1hK1bbY8fdp+K06/nwoy/HU++CXqI9EdVhC\n"
    b"-----END PRIVATE KEY-----\n"
)
"""Of RFC 8410, 10.3."""


def long_key() -> bytes:
    """Return a PEM of the length of an RSA key, with the beginning of its ASN.1."""
    inside = base64.encodebytes(b"\x30\x82\x04\xbe\x02\x01\x00\x30" + bytes(range(256)) * 4)
    return b"-----BEGIN RSA " + b"PRIVATE KEY-----\n" + inside + b"-----END RSA PRIVATE KEY-----\n"


def openssh_key() -> bytes:
    """Return what ``ssh-keygen`` writes, with nothing behind its head."""
    inside = base64.encodebytes(b"openssh-key-v1\0" + bytes(range(120)))
    head, end = (
        b"-----BEGIN OPENSSH " + b"PRIVATE KEY-----\n",
        b"-----END OPENSSH PRIVATE KEY-----\n",
    )
    return head + inside + end


def github_token(kind: bytes = b"p") -> bytes:
    """Return the token that GitHub's engineers have shown, or one of another kind."""
    return b"gh" + kind + b"_zQWBuTSOoRi4A9spHcVY5ncnsDkxkJ" + b"0mLq17"


def jwt() -> bytes:
    """Return a JSON web token, signed by nobody."""
    header = base64.urlsafe_b64encode(json.dumps({"alg": "HS256", "typ": "JWT"}).encode())
    claims = base64.urlsafe_b64encode(json.dumps({"sub": "1234567890", "name": "Jane"}).encode())
    return b".".join(one.rstrip(b"=") for one in (header, claims, b"c2lnbmF0dXJl"))


def noise(count: int, alphabet: bytes, seed: int = 1) -> bytes:
    """Return characters of an alphabet that look made by dice, the same each time."""
    out = bytearray()
    while len(out) < count:
        seed = zlib.crc32(seed.to_bytes(8, "big")) + len(out)
        out.append(alphabet[seed % len(alphabet)])
    return bytes(out)


def found_in(
    text: bytes, patterns: SecretPatterns = EVERY, cuts: tuple[int, ...] = ()
) -> dict[str, Sighting]:
    """Search a text, cut at some places."""
    search = Search(patterns)
    edges = [0, *sorted(one for one in cuts if one <= len(text)), len(text)]
    for start, end in itertools.pairwise(edges):
        search.feed(text[start:end])
    search.finish()
    return search.sightings
