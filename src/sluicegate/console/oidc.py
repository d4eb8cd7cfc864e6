"""Oidc: people who log in at a provider of their organization's (OpenID Connect Core 1.0).

``pages.oidc`` sends browsers there and takes them back. The flow is the code flow with PKCE (RFC
7636). The invariant: nobody is let in but by an ID token that the provider signed for us, for this
very attempt of this very browser, and whose claims give a role.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import re
import secrets
import urllib.parse
from collections import OrderedDict
from dataclasses import dataclass
from typing import Any, Final, cast

import httpx
from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import KeySet

from sluicegate.clock import Clock
from sluicegate.console_limits import (
    OIDC_ANSWER_BYTES_MAX,
    OIDC_ATTEMPT_S,
    OIDC_ATTEMPTS_MAX,
    OIDC_TIMEOUT_S,
    STEP_UP_S,
)

from .accounts import Account
from .link import OidcSettings
from .oidc_refused import OidcRefused
from .roles import Role

__all__ = ["Attempt", "Oidc"]

_ALGORITHMS: Final = ["RS256", "PS256", "ES256", "ES384", "EdDSA"]
"""Of signatures; none of them by a secret that we share."""

_LEEWAY_S: Final = 60.0
"""By how much the provider's clock may differ."""

_NAME: Final = re.compile(r"[^\s\x00-\x1f\x7f]{1,128}")
_CALLBACK: Final = "/login/oidc/return"


@dataclass(frozen=True, slots=True)
class Attempt:
    """One way to the provider and back."""

    state: str
    nonce: str
    verifier: str
    path: str
    """Where to go on afterwards."""
    is_proof: bool
    """Whether somebody who is logged in proves to be still there."""
    until: float


@dataclass(frozen=True, slots=True)
class _Provider:
    """What a provider says of itself."""

    authorize: str
    token: str
    keys: str


class Oidc:
    """The provider of one console."""

    def __init__(self, settings: OidcSettings, origin: str, clock: Clock) -> None:
        """Prepare it; nothing is asked yet.

        Args:
            settings: Which one, and what its claims mean.
            origin: Of the console, where browsers come back.
            clock: For times of attempts and tokens.
        """
        self.settings = settings
        self._return_to = origin + _CALLBACK
        self._clock = clock
        self._attempts: OrderedDict[str, Attempt] = OrderedDict()
        self._known: _Provider | None = None

    async def begin(self, path: str, *, is_proof: bool = False) -> tuple[str, str]:
        """Return where to send the browser, and what it keeps meanwhile.

        Raises:
            OidcRefused: The provider does not answer, or not as one.
        """
        provider = await self._provider()
        attempt = Attempt(
            secrets.token_urlsafe(32),
            secrets.token_urlsafe(32),
            secrets.token_urlsafe(48),
            path,
            is_proof,
            self._clock.monotonic() + OIDC_ATTEMPT_S,
        )
        kept = secrets.token_urlsafe(32)
        self._attempts[_digest(kept)] = attempt
        while len(self._attempts) > OIDC_ATTEMPTS_MAX:
            self._attempts.popitem(last=False)
        challenge = hashlib.sha256(attempt.verifier.encode()).digest()
        asked = {
            "response_type": "code",
            "client_id": self.settings.client_id,
            "redirect_uri": self._return_to,
            "scope": " ".join(self.settings.scopes),
            "state": attempt.state,
            "nonce": attempt.nonce,
            "code_challenge": base64.urlsafe_b64encode(challenge).rstrip(b"=").decode(),
            "code_challenge_method": "S256",
        }
        if is_proof:
            asked |= {"prompt": "login", "max_age": str(int(STEP_UP_S))}
        joint = "&" if "?" in provider.authorize else "?"
        return f"{provider.authorize}{joint}{urllib.parse.urlencode(asked)}", kept

    async def finish(self, kept: str, state: str, code: str) -> tuple[Attempt, Account]:
        """Return who came back, and from which attempt; it is spent.

        Args:
            kept: What the browser kept.
            state: What the provider sent back with it.
            code: The same.

        Raises:
            OidcRefused: It is nobody's attempt, or the provider's word lets nobody in.
        """
        attempt = self._attempts.pop(_digest(kept), None)
        if attempt is None or self._clock.monotonic() > attempt.until:
            raise OidcRefused("this way in was not begun here, or too long ago")
        if not hmac.compare_digest(attempt.state.encode(), state.encode()):
            raise OidcRefused("this is not the way in that this browser began")
        provider = await self._provider()
        sent = {
            "grant_type": "authorization_code",
            "code": code,
            "redirect_uri": self._return_to,
            "client_id": self.settings.client_id,
            "code_verifier": attempt.verifier,
        }
        if self.settings.client_secret:
            sent["client_secret"] = self.settings.client_secret
        answer = await self._ask("POST", provider.token, sent)
        claims = await self._verify(provider, str(answer.get("id_token", "")), attempt)
        return attempt, self._account_of(claims)

    # -- private -------------------------------------------------------------------------------

    async def _provider(self) -> _Provider:
        if self._known is None:
            issuer = self.settings.issuer.rstrip("/")
            told = await self._ask("GET", f"{issuer}/.well-known/openid-configuration")
            if str(told.get("issuer", "")).rstrip("/") != issuer:
                raise OidcRefused("the provider says that it is another one")
            names = ("authorization_endpoint", "token_endpoint", "jwks_uri")
            places = [str(told.get(name, "")) for name in names]
            scheme = issuer.partition("://")[0]
            if not all(place.startswith((f"{scheme}://", "https://")) for place in places):
                raise OidcRefused("the provider names places without TLS")
            self._known = _Provider(*places)
        return self._known

    async def _verify(self, provider: _Provider, token: str, attempt: Attempt) -> dict[str, Any]:
        """Return the claims of an ID token that is for this attempt (Core, section 3.1.3.7)."""
        keys = await self._ask("GET", provider.keys)
        try:
            key_set = KeySet.import_key_set(cast("Any", keys))
            claims = jwt.decode(token, key_set, algorithms=_ALGORITHMS).claims
        except (JoseError, ValueError, KeyError, TypeError) as error:
            raise OidcRefused("the provider's ID token has no signature that holds") from error
        self._check_claims(claims, attempt)
        return claims

    def _check_claims(self, claims: dict[str, Any], attempt: Attempt) -> None:
        now = self._clock.wall()
        ours = self.settings.client_id
        audience = claims.get("aud")
        audiences = cast("list[object]", audience) if isinstance(audience, list) else [audience]
        if str(claims.get("iss", "")).rstrip("/") != self.settings.issuer.rstrip("/"):
            raise OidcRefused("the ID token is of another provider")
        if ours not in audiences or claims.get("azp", ours) != ours:
            raise OidcRefused("the ID token is for somebody else")
        if not isinstance(claims.get("exp"), int | float) or now > claims["exp"] + _LEEWAY_S:
            raise OidcRefused("the ID token is too old")
        if not hmac.compare_digest(str(claims.get("nonce", "")).encode(), attempt.nonce.encode()):
            raise OidcRefused("the ID token is of another attempt")
        if attempt.is_proof:
            proved = claims.get("auth_time")
            if not isinstance(proved, int | float) or now - proved > STEP_UP_S + _LEEWAY_S:
                raise OidcRefused("the provider does not say that the password was given lately")

    def _account_of(self, claims: dict[str, Any]) -> Account:
        """Return the account that claims give; its name cannot be that of a local user."""
        name = claims.get(self.settings.name_claim)
        if not isinstance(name, str) or _NAME.fullmatch(name) is None:
            raise OidcRefused(f"the claim {self.settings.name_claim} names nobody")
        given = claims.get(self.settings.roles_claim)
        values = set(map(str, cast("list[object]", given))) if isinstance(given, list) else {given}
        for role, wanted in (
            (Role.ADMINISTRATOR, self.settings.administrators),
            (Role.OPERATOR, self.settings.operators),
            (Role.VIEWER, self.settings.viewers),
        ):
            if not values.isdisjoint(wanted):
                return Account(f"oidc:{name}", role)
        raise OidcRefused(f"{name} has no role here: {self.settings.roles_claim} gives none")

    async def _ask(
        self, method: str, url: str, form: dict[str, str] | None = None
    ) -> dict[str, Any]:
        """Return the JSON object that the provider answers with."""
        try:
            async with (
                httpx.AsyncClient(timeout=OIDC_TIMEOUT_S, trust_env=False) as client,
                client.stream(method, url, data=form, headers={"Accept": _JSON}) as answer,
            ):
                body = b""
                async for part in answer.aiter_bytes():
                    body += part
                    if len(body) > OIDC_ANSWER_BYTES_MAX:
                        raise OidcRefused("the provider's answer is too long")
        except httpx.HTTPError as error:
            raise OidcRefused(f"the provider does not answer: {type(error).__name__}") from error
        if answer.status_code != _OK:
            raise OidcRefused(f"the provider answers {answer.status_code}")
        try:
            told: object = json.loads(body)
        except ValueError as error:
            raise OidcRefused("the provider's answer is not JSON") from error
        if not isinstance(told, dict):
            raise OidcRefused("the provider's answer is no object")
        return cast("dict[str, Any]", told)


_JSON: Final = "application/json"
_OK: Final = 200


def _digest(kept: str) -> str:
    return hashlib.sha256(kept.encode()).hexdigest()
