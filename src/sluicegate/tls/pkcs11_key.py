"""Keys of tokens: what signs for an authority whose key never leaves its hardware (PKCS#11).

The signer process opens one, and ``sluicegate ca init`` to make a certificate for it. It needs the
extra ``sluicegate[pkcs11]``. The invariant: the private key stays in the token, digests go in and
signatures come out; whatever fails there is ``KeyUnusable``.
"""

from __future__ import annotations

import contextlib
from collections.abc import Generator
from typing import TYPE_CHECKING, Any, Final, NoReturn, Self

from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from typing_extensions import override

from sluicegate.errors import SluicegateError

if TYPE_CHECKING:
    from .authority import SigningKey
    from .pkcs11_uri import Pkcs11Uri

__all__ = ["KeyUnusable", "open_token_key"]


class KeyUnusable(SluicegateError):
    """A token does not sign, or has no such key: ``cause`` says why."""

    def __init__(self, cause: str) -> None:
        super().__init__(cause)
        self.cause = cause


def open_token_key(uri: Pkcs11Uri, module: str, pin: str, *, makes: bool = False) -> SigningKey:
    """Log in and find the one private key that a URI names; once in a process.

    Args:
        uri: Which key.
        module: The library of the token's maker.
        pin: Of the token's user; empty: none is needed.
        makes: Have the token make a P-256 key, which it never gives away, if it has none.

    Raises:
        KeyUnusable: There is no such key, or several, or the token refuses.
    """
    session = _open_session(uri, module, pin, is_writing=makes)
    import pkcs11  # noqa: PLC0415 - an extra; ``_open_session`` has found it

    with _translated(f"the token {uri.token!r}"):
        found = list(session.get_objects(_wanted(uri, pkcs11.ObjectClass.PRIVATE_KEY)))
        if makes and not found:
            return _make_key(session, uri)
        public = list(session.get_objects(_wanted(uri, pkcs11.ObjectClass.PUBLIC_KEY)))
        return _key_of(_only(found), _only(public))


def _make_key(session: Any, uri: Pkcs11Uri) -> SigningKey:
    import pkcs11  # noqa: PLC0415 - an extra
    from pkcs11.util.ec import encode_named_curve_parameters  # noqa: PLC0415 - as above

    parameters = session.create_domain_parameters(
        pkcs11.KeyType.EC,
        {pkcs11.Attribute.EC_PARAMS: encode_named_curve_parameters("secp256r1")},
        local=True,
    )
    public, private = parameters.generate_keypair(
        id=uri.id or None, label=uri.object or None, store=True
    )
    return _key_of(private, public)


def _open_session(uri: Pkcs11Uri, module: str, pin: str, *, is_writing: bool) -> Any:
    try:
        import pkcs11  # noqa: PLC0415 - an extra
        from pkcs11.exceptions import PKCS11Error  # noqa: PLC0415 - as above
    except ImportError:
        raise KeyUnusable("the extra is not installed: pip install sluicegate[pkcs11]") from None
    try:
        library = pkcs11.lib(module)
    except (PKCS11Error, RuntimeError, OSError) as error:
        raise KeyUnusable(f"{module} cannot be loaded: {_words(error)}") from error
    with _translated(f"the token {uri.token!r}"):
        token = library.get_token(
            **({"token_label": uri.token} if uri.token else {}),
            **({"token_serial": uri.serial.encode()} if uri.serial else {}),
        )
        return token.open(rw=is_writing, user_pin=pin or None)


def _wanted(uri: Pkcs11Uri, kind: Any) -> dict[Any, Any]:
    from pkcs11 import Attribute  # noqa: PLC0415 - an extra

    wanted: dict[Any, Any] = {Attribute.CLASS: kind}
    if uri.object:
        wanted[Attribute.LABEL] = uri.object
    if uri.id:
        wanted[Attribute.ID] = uri.id
    return wanted


def _only(found: list[Any]) -> Any:
    if len(found) != 1:
        count = f"{len(found)} keys" if found else "no key"
        raise KeyUnusable(f"the token has {count} that the URI names, and needs one of each half")
    return found[0]


def _key_of(private: Any, public: Any) -> SigningKey:
    import pkcs11  # noqa: PLC0415 - an extra
    from pkcs11.util.ec import encode_ec_public_key  # noqa: PLC0415 - as above
    from pkcs11.util.rsa import encode_rsa_public_key  # noqa: PLC0415 - as above

    if private.key_type is pkcs11.KeyType.EC:
        loaded = serialization.load_der_public_key(encode_ec_public_key(public))
        assert isinstance(loaded, ec.EllipticCurvePublicKey), "it says that it is EC"
        return _EcKey(private, loaded)
    if private.key_type is pkcs11.KeyType.RSA:
        numbers = serialization.load_der_public_key(_spki_of_rsa(encode_rsa_public_key(public)))
        assert isinstance(numbers, rsa.RSAPublicKey), "it says that it is RSA"
        return _RsaKey(private, numbers)
    raise KeyUnusable(f"it is a key of the kind {private.key_type}: EC or RSA is needed")


def _spki_of_rsa(der: bytes) -> bytes:
    """Wrap an RSAPublicKey as SubjectPublicKeyInfo."""
    bits = _der(0x03, b"\0" + der)
    return _der(0x30, _RSA_ALGORITHM + bits)


def _der(tag: int, content: bytes) -> bytes:
    length = len(content)
    if length < 0x80:  # noqa: PLR2004 - the short form of X.690, 8.1.3.4
        return bytes((tag, length)) + content
    encoded = length.to_bytes((length.bit_length() + 7) // 8, "big")
    return bytes((tag, 0x80 | len(encoded))) + encoded + content


_RSA_ALGORITHM: Final = bytes.fromhex("300d06092a864886f70d0101010500")
"""AlgorithmIdentifier of rsaEncryption (RFC 3279 section 2.3.1)."""


class _KeptKey:
    """What all keys of tokens do alike: a copy is the same key, and nobody reads it."""

    def private_bytes(self, *_options: object, **_named: object) -> bytes:
        _refuse()

    def __copy__(self) -> Self:
        return self

    def __deepcopy__(self, memo: dict[Any, Any]) -> Self:
        return self


class _EcKey(_KeptKey, ec.EllipticCurvePrivateKey):
    """An EC key of a token, as ``cryptography`` signs certificates with one."""

    def __init__(self, private: Any, public: ec.EllipticCurvePublicKey) -> None:
        self._private = private
        self._public = public

    @override
    def sign(self, data: Any, signature_algorithm: ec.EllipticCurveSignatureAlgorithm) -> bytes:
        import pkcs11  # noqa: PLC0415 - an extra

        algorithm = signature_algorithm.algorithm
        assert isinstance(algorithm, hashes.HashAlgorithm), "it signs what it hashes"
        digest = hashes.Hash(algorithm)
        digest.update(bytes(data))
        with _translated("the token"):
            raw = self._private.sign(digest.finalize(), mechanism=pkcs11.Mechanism.ECDSA)
        half = len(raw) // 2
        return encode_dss_signature(
            int.from_bytes(raw[:half], "big"), int.from_bytes(raw[half:], "big")
        )

    @override
    def public_key(self) -> ec.EllipticCurvePublicKey:
        return self._public

    @property
    @override
    def curve(self) -> ec.EllipticCurve:
        return self._public.curve

    @property
    @override
    def key_size(self) -> int:
        return self._public.key_size

    @override
    def exchange(self, algorithm: ec.ECDH, peer_public_key: ec.EllipticCurvePublicKey) -> bytes:
        _refuse()

    @override
    def private_numbers(self) -> ec.EllipticCurvePrivateNumbers:
        _refuse()


class _RsaKey(_KeptKey, rsa.RSAPrivateKey):
    """The same with RSA."""

    def __init__(self, private: Any, public: rsa.RSAPublicKey) -> None:
        self._private = private
        self._public = public

    @override
    def sign(self, data: Any, padding: Any, algorithm: Any) -> bytes:
        import pkcs11  # noqa: PLC0415 - an extra

        assert isinstance(padding, _PKCS1), "certificates are signed so"
        assert isinstance(algorithm, hashes.SHA256), "certificates are signed so"
        with _translated("the token"):
            signature = self._private.sign(bytes(data), mechanism=pkcs11.Mechanism.SHA256_RSA_PKCS)
        return bytes(signature)

    @override
    def public_key(self) -> rsa.RSAPublicKey:
        return self._public

    @property
    @override
    def key_size(self) -> int:
        return self._public.key_size

    @override
    def decrypt(self, ciphertext: bytes, padding: Any) -> bytes:
        _refuse()

    @override
    def private_numbers(self) -> rsa.RSAPrivateNumbers:
        _refuse()


_PKCS1: Final = padding.PKCS1v15


def _refuse() -> NoReturn:
    raise KeyUnusable("a token's key only signs")


@contextlib.contextmanager
def _translated(what: str) -> Generator[None]:
    """Let what the library raises be ``KeyUnusable``."""
    from pkcs11.exceptions import PKCS11Error  # noqa: PLC0415 - an extra

    try:
        yield
    except PKCS11Error as error:
        raise KeyUnusable(f"{what}: {_words(error)}") from error


def _words(error: Exception) -> str:
    """Say what a library says, whose errors are often classes without words."""
    return str(error) or type(error).__name__
