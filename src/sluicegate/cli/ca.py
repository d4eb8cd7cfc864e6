"""``sluicegate ca``: the authority that signs what clients see where TLS is opened.

It works on files, whether or not a gate runs. The invariant: a private key is never printed and
never exported, and the authority that nobody is to trust is not exported either.
"""

from __future__ import annotations

import os
import pathlib
import sys
from typing import Final, get_args

import click
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import pkcs7

from sluicegate.access_limits import AUTHORITY_LIFETIME_DAYS_MAX
from sluicegate.app.authority_store import (
    AuthorityStore,
    KeyKind,
    Shown,
    generate_key,
    load_key,
    owner_of,
)
from sluicegate.app.secret_files import read_secret_of
from sluicegate.app.service_config import StatePaths, find_state
from sluicegate.clock import SystemClock
from sluicegate.documents import Findings
from sluicegate.errors import ConfigError
from sluicegate.tls.authority import SigningKey, name_for_people
from sluicegate.tls.name_constraints import constraints_on
from sluicegate.tls.pkcs11_key import KeyUnusable, open_token_key
from sluicegate.tls.pkcs11_uri import parse_pkcs11_uri
from sluicegate.tls.trust_hints import PLATFORMS, hints_for

from .display import printable, show_json, show_table
from .options import config_option, find_config, json_option

__all__ = ["ca"]

_CLOCK: Final = SystemClock()
_DAYS: Final = 1825

days_option = click.option(
    "--days",
    type=click.IntRange(1, AUTHORITY_LIFETIME_DAYS_MAX),
    default=_DAYS,
    show_default=True,
    help="How long the authority is valid.",
)
name_option = click.option("--name", default="", help="Its name, as browsers show it.")
kind_option = click.option(
    "--key",
    "kind",
    type=click.Choice(get_args(KeyKind)),
    default="p256",
    show_default=True,
    help="The kind of its key; P-256 is the fastest, and known to all clients.",
)


@click.group()
def ca() -> None:
    """Make, show, export and replace the authority that signs where TLS is opened.

    Where a rule says so, the gate opens TLS: it verifies the server, and shows the client a
    certificate of its own for the same name. Clients have to trust the authority that signs it.
    Its key is in "dir" of [ca] (by default the folder ca in state_dir), or in a token; only the
    signer process of a running gate reads it.

    A second authority, which nobody is to trust, signs for servers that could not be verified.

    \b
    Examples:
        sluicegate ca init
        sluicegate ca export -o sluicegate-ca.pem
        sluicegate ca export --hints debian
    """


@ca.command()
@config_option
@name_option
@days_option
@kind_option
@click.option(
    "--permit",
    "permitted",
    multiple=True,
    metavar="DOMAIN",
    help="It may certify this domain (or network) only; may be given several times.",
)
@click.option(
    "--exclude",
    "excluded",
    multiple=True,
    metavar="DOMAIN",
    help="It may not certify this domain (or network); may be given several times.",
)
@click.option(
    "--import",
    "imported",
    type=(
        click.Path(path_type=pathlib.Path, dir_okay=False, exists=True),
        click.Path(path_type=pathlib.Path, dir_okay=False, exists=True),
    ),
    metavar="CERTIFICATE KEY",
    help="Take over an authority that exists, as PEM; behind an intermediate one, its issuers.",
)
@json_option
def init(
    config: pathlib.Path | None,
    *,
    name: str,
    days: int,
    kind: KeyKind,
    permitted: tuple[str, ...],
    excluded: tuple[str, ...],
    imported: tuple[pathlib.Path, pathlib.Path] | None,
    as_json: bool,
) -> None:
    """Make the authorities, or take one over that exists.

    With --permit or --exclude, clients themselves refuse what it must not certify (RFC 5280, name
    constraints), whoever has its key. With "token" in [ca], the key is made in the token, unless
    it is there already.

    Whose files they are: root's, where the gate is started as root and changes to "user" in
    [service]; else those of the owner of state_dir, as whom the gate is started.

    \b
    Examples:
        sluicegate ca init --name "Example Org inspection CA"
        sluicegate ca init --permit example.org --permit 10.0.0.0/8
        sluicegate ca init --import corporate-sub-ca.pem corporate-sub-ca.key
    """
    state, store = _find(config)
    if imported is not None:
        chain, key = _load(imported[0], imported[1])
        store.put(chain, key)
        certificate = chain[0]
    else:
        try:
            constraints = constraints_on(permitted, excluded) if permitted or excluded else None
        except ValueError as error:
            raise ConfigError("ca init", str(error), "--permit example.org") from error
        key = _token_key(state, config) if store.settings.token else generate_key(kind)
        certificate = store.make(key, name, days, constraints)
    if as_json:
        show_json(_fields(Shown("current", certificate)))
        return
    folder = printable(os.fspath(store.settings.folder))
    click.echo(f"made {printable(name_for_people(certificate))} in {folder}")
    click.echo(f"SHA-256 {_fingerprint(certificate)}")
    if not state.has_authority:
        click.echo("\nAdd to sluicegate.toml, and start the gate again:\n    [ca]")
    click.echo("\nThen let clients trust it: sluicegate ca export --hints debian (or --help)")


@ca.command()
@config_option
@json_option
def show(config: pathlib.Path | None, *, as_json: bool) -> None:
    """Show the authorities: the current one, a prepared successor, previous ones, the untrusted.

    \b
    Examples:
        sluicegate ca show
        sluicegate ca show --json | jq -r '.[] | select(.part == "current") | .sha256'
    """
    _, store = _find(config)
    shown = store.shown()
    if as_json:
        show_json([_fields(one) for one in shown])
        return
    show_table(
        ("", "NAME", "FROM", "TO", "KEY", "MAY CERTIFY"),
        [
            (
                one.part,
                name_for_people(one.certificate),
                f"{one.certificate.not_valid_before_utc:%Y-%m-%d}",
                f"{one.certificate.not_valid_after_utc:%Y-%m-%d}",
                _kind_of(one.certificate),
                _describe_constraints(one.certificate),
            )
            for one in shown
        ],
    )
    click.echo("")
    for one in shown:
        click.echo(f"{one.part:<10} SHA-256 {_fingerprint(one.certificate)}")
    where = store.settings.token.uri if store.settings.token else store.settings.key_path
    click.echo(f"\nkey: {printable(str(where))}")


@ca.command()
@config_option
@click.option(
    "--format",
    "form",
    type=click.Choice(("pem", "der", "pkcs7")),
    default="pem",
    show_default=True,
    help="PEM for most, DER for Windows and Android, PKCS#7 for several in one file.",
)
@click.option(
    "--output",
    "-o",
    type=click.Path(path_type=pathlib.Path, dir_okay=False),
    help="The file  [default: standard output]",
)
@click.option(
    "--all",
    "has_all",
    is_flag=True,
    help="Previous ones that are still valid and a prepared successor, too.",
)
@click.option(
    "--hints",
    "platform",
    type=click.Choice((*PLATFORMS, "all")),
    help="Say how a system, browser or language is told to trust it, instead.",
)
def export(
    config: pathlib.Path | None,
    form: str,
    output: pathlib.Path | None,
    platform: str | None,
    *,
    has_all: bool,
) -> None:
    """Write the certificate that clients have to trust; never a key.

    A prepared successor is part of it from the moment that it is there, so that clients have both
    before anything is signed by the new one; DER has room for one certificate only: the current
    one.

    \b
    Examples:
        sluicegate ca export -o sluicegate-ca.pem
        sluicegate ca export --format der -o sluicegate-ca.cer
        sluicegate ca export --format pkcs7 --all -o sluicegate-cas.p7b
        sluicegate ca export --hints all
    """
    if platform is not None:
        click.echo(hints_for(platform))
        return
    _, store = _find(config)
    wanted = {"current", "next", "previous"} if has_all else {"current", "next"}
    certificates = [one.certificate for one in store.shown() if one.part in wanted]
    match form:
        case "pem":
            content = b"".join(one.public_bytes(serialization.Encoding.PEM) for one in certificates)
        case "der":
            content = certificates[0].public_bytes(serialization.Encoding.DER)
        case _:
            content = pkcs7.serialize_certificates(certificates, serialization.Encoding.DER)
    if output is None:
        sys.stdout.buffer.write(content)
        return
    try:
        output.write_bytes(content)
    except OSError as error:
        raise ConfigError(os.fspath(output), f"cannot be written: {error.strerror}") from error
    click.echo(f"wrote {len(certificates) if form != 'der' else 1} to {printable(str(output))}")


@ca.command()
@config_option
@name_option
@days_option
@kind_option
@click.option("--prepare", is_flag=True, help="Only make the successor; it does not sign yet.")
@json_option
def rotate(
    config: pathlib.Path | None,
    name: str,
    days: int,
    kind: KeyKind,
    *,
    prepare: bool,
    as_json: bool,
) -> None:
    """Replace the authority by a successor, without a gap.

    First --prepare: the successor is made, and export has both, for clients. When clients have
    it, rotate: it signs from the next reload on. The authority before vouches for it in a
    certificate that is sent along, so clients that know only the old one go on until that
    expires. Leaves that were signed by the old one stay in use as long as they are valid.

    A key that got into wrong hands is another matter: rotate, start the gate again, and have
    clients distrust the old one.

    \b
    Examples:
        sluicegate ca rotate --prepare && sluicegate ca export -o both.pem
        sluicegate ca rotate && sluicegate reload
    """
    _, store = _find(config)
    if store.settings.token is not None:
        raise ConfigError(
            "ca rotate",
            "the key is in a token, where no successor can take its place",
            "name another object in uri, another dir in [ca], sluicegate ca init, and restart",
        )
    if prepare:
        certificate = store.prepare(generate_key(kind), name, days)
    else:
        if not store.has_next:
            store.prepare(generate_key(kind), name, days)
        certificate = store.rotate()
    part = "next" if prepare else "current"
    if as_json:
        show_json(_fields(Shown(part, certificate)))
        return
    what = "prepared" if prepare else "in place"
    click.echo(f"{what}: {printable(name_for_people(certificate))}")
    click.echo(f"SHA-256 {_fingerprint(certificate)}")
    click.echo(
        "next: sluicegate ca export, give it to all clients, then sluicegate ca rotate"
        if prepare
        else "next: sluicegate reload (where root owns the keys: start the gate again)"
    )


# -- private -----------------------------------------------------------------------------------


def _find(config: pathlib.Path | None) -> tuple[StatePaths, AuthorityStore]:
    findings = Findings()
    state = find_state(find_config(config), findings)
    findings.raise_errors()
    assert state is not None, "a state that cannot be found is a finding"
    owner = owner_of(state.authority, state.has_user)
    return state, AuthorityStore(state.authority, _CLOCK, owner)


def _load(
    certificate: pathlib.Path, key: pathlib.Path
) -> tuple[list[x509.Certificate], SigningKey]:
    try:
        chain = x509.load_pem_x509_certificates(certificate.read_bytes())
    except (OSError, ValueError) as error:
        raise ConfigError(os.fspath(certificate), f"cannot be read: {error}") from error
    try:
        return chain, load_key(key.read_bytes())
    except (OSError, ValueError) as error:
        raise ConfigError(os.fspath(key), f"cannot be read: {error}") from error


def _token_key(state: StatePaths, config: pathlib.Path | None) -> SigningKey:
    """Return the token's key, which is made if it is not there."""
    token = state.authority.token
    assert token is not None, "there is one"
    pin = ""
    if token.pin is not None:
        pin = read_secret_of(find_config(config), token.pin, ("ca", "token", "pin"))
    uri = parse_pkcs11_uri(token.uri)
    try:
        return open_token_key(uri, token.module, pin, makes=True)
    except KeyUnusable as error:
        raise ConfigError("the token", error.cause) from error


def _fields(one: Shown) -> dict[str, object]:
    certificate = one.certificate
    return {
        "part": one.part,
        "name": name_for_people(certificate),
        "sha256": certificate.fingerprint(hashes.SHA256()).hex(),
        "serial": f"{certificate.serial_number:x}",
        "not_before": certificate.not_valid_before_utc.timestamp(),
        "not_after": certificate.not_valid_after_utc.timestamp(),
        "key": _kind_of(certificate),
        "may_certify": _describe_constraints(certificate),
    }


def _fingerprint(certificate: x509.Certificate) -> str:
    text = certificate.fingerprint(hashes.SHA256()).hex().upper()
    return ":".join(text[at : at + 2] for at in range(0, len(text), 2))


def _kind_of(certificate: x509.Certificate) -> str:
    key = certificate.public_key()
    if isinstance(key, ec.EllipticCurvePublicKey):
        return f"EC {key.curve.name}"
    return f"RSA {getattr(key, 'key_size', '')}"


def _describe_constraints(certificate: x509.Certificate) -> str:
    try:
        found = certificate.extensions.get_extension_for_class(x509.NameConstraints).value
    except x509.ExtensionNotFound:
        return "all names"
    may = ", ".join(str(one.value) for one in found.permitted_subtrees or ()) or "all names"
    may_not = ", ".join(str(one.value) or "any name" for one in found.excluded_subtrees or ())
    return f"{may}; not {may_not}" if may_not else may
