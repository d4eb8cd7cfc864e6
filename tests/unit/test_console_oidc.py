"""What the console takes for a provider's word, and what not."""

from __future__ import annotations

import asyncio
import sys
import urllib.parse
from types import SimpleNamespace
from typing import Any, cast

import pytest
from joserfc import jwt
from joserfc.jwk import ECKey, KeySet, OctKey, RSAKey

from sluicegate.console.link import OidcSettings
from sluicegate.console.oidc import Oidc
from sluicegate.console.oidc_refused import OidcRefused
from sluicegate.console.pages.oidc import ENTRIES
from sluicegate.console.roles import Role
from sluicegate.console_limits import OIDC_ATTEMPT_S, STEP_UP_S

ISSUER = "https://id.example"
KEY = ECKey.generate_key("P-256", {"kid": "ours"})
OTHER = ECKey.generate_key("P-256", {"kid": "ours"})
SHARED = OctKey.import_key("a secret of a client that is long enough", {"kid": "ours"})


class Clock:
    """Time that passes when a test says so."""

    def __init__(self) -> None:
        self.now = 1_000_000.0

    def monotonic(self) -> float:
        return self.now

    def wall(self) -> float:
        return self.now


class Provider:
    """Answers what a provider would, with an ID token as a test wants it."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.clock = Clock()
        settings = OidcSettings(
            issuer=ISSUER,
            client_id="gate",
            administrators=("admins",),
            operators=("helpdesk",),
            viewers=("staff",),
        )
        self.oidc = Oidc(settings, "https://gate.example", self.clock)
        self.told = {
            "issuer": ISSUER,
            "authorization_endpoint": f"{ISSUER}/authorize",
            "token_endpoint": f"{ISSUER}/token",
            "jwks_uri": f"{ISSUER}/keys",
        }
        self.key: Any = KEY
        self.algorithm = "ES256"
        self.claims: dict[str, Any] = {}
        self.sent: dict[str, str] = {}
        monkeypatch.setattr(self.oidc, "_ask", self._ask)

    async def _ask(
        self, method: str, url: str, form: dict[str, str] | None = None
    ) -> dict[str, Any]:
        if url.endswith("openid-configuration"):
            return dict(self.told)
        if url.endswith("keys"):
            return dict(KeySet([KEY]).as_dict(private=False))
        assert (method, url) == ("POST", f"{ISSUER}/token")
        self.sent = form or {}
        header = {"alg": self.algorithm, "kid": "ours"}
        return {"id_token": jwt.encode(header, self.claims, self.key, algorithms=[self.algorithm])}

    def come_back(self, *, is_proof: bool = False, state: str = "", **claims: Any) -> Any:
        """Go there and back, with claims in place of right ones."""

        async def go() -> Any:
            url, kept = await self.oidc.begin("/log", is_proof=is_proof)
            asked = dict(urllib.parse.parse_qsl(urllib.parse.urlsplit(url).query))
            right = {
                "iss": ISSUER,
                "aud": "gate",
                "exp": self.clock.now + 300,
                "nonce": asked["nonce"],
                "preferred_username": "ann",
                "groups": ["staff", "helpdesk"],
            }
            self.claims = {**right, **claims}
            return await self.oidc.finish(kept, state or asked["state"], "code")

        return asyncio.run(go())


@pytest.fixture
def provider(monkeypatch: pytest.MonkeyPatch) -> Provider:
    return Provider(monkeypatch)


def test_right_token_gives_the_greatest_role(provider: Provider) -> None:
    attempt, account = provider.come_back()
    assert (account.name, account.role, attempt.path) == ("oidc:ann", Role.OPERATOR, "/log")
    assert set(provider.sent) >= {"code", "code_verifier", "redirect_uri"}


@pytest.mark.parametrize(
    ("claims", "cause"),
    [
        ({"iss": "https://evil.example"}, "another provider"),
        ({"aud": "other"}, "somebody else"),
        ({"aud": ["other"]}, "somebody else"),
        ({"aud": ["other", "gate"], "azp": "other"}, "somebody else"),
        ({"exp": 0}, "too old"),
        ({"exp": "never"}, "too old"),
        ({"nonce": "x"}, "another attempt"),
        ({"preferred_username": ""}, "names nobody"),
        ({"preferred_username": "a\nb"}, "names nobody"),
        ({"preferred_username": 7}, "names nobody"),
        ({"groups": []}, "no role"),
        ({"groups": "guests"}, "no role"),
        ({"groups": None}, "no role"),
    ],
)
def test_wrong_claims_let_nobody_in(provider: Provider, claims: dict[str, Any], cause: str) -> None:
    with pytest.raises(OidcRefused, match=cause):
        provider.come_back(**claims)


@pytest.mark.parametrize(
    ("key", "algorithm"),
    [(OTHER, "ES256"), (SHARED, "HS256"), (RSAKey.generate_key(2048, {"kid": "ours"}), "RS256")],
)
def test_signature_of_another_key_or_kind_lets_nobody_in(
    provider: Provider, key: Any, algorithm: str
) -> None:
    provider.key, provider.algorithm = key, algorithm
    with pytest.raises(OidcRefused, match="no signature"):
        provider.come_back()


def test_state_of_another_attempt_lets_nobody_in(provider: Provider) -> None:
    with pytest.raises(OidcRefused, match="not the way in"):
        provider.come_back(state="x")


def test_attempt_is_good_once_and_in_time(provider: Provider) -> None:
    async def begin() -> tuple[str, str]:
        return await provider.oidc.begin("/")

    _, kept = asyncio.run(begin())
    provider.clock.now += OIDC_ATTEMPT_S + 1
    for _ in range(2):
        with pytest.raises(OidcRefused, match="too long ago"):
            asyncio.run(provider.oidc.finish(kept, "", ""))


def test_proof_needs_a_password_that_was_given_lately(provider: Provider) -> None:
    provider.come_back(is_proof=True, auth_time=provider.clock.now - 10)
    for claims in ({}, {"auth_time": provider.clock.now - 2 * STEP_UP_S}, {"auth_time": "now"}):
        with pytest.raises(OidcRefused, match="given lately"):
            provider.come_back(is_proof=True, **claims)


@pytest.mark.parametrize(
    "told",
    [
        {"issuer": "https://evil.example"},
        {"token_endpoint": "http://id.example/token"},
        {"jwks_uri": ""},
    ],
)
def test_provider_that_is_none_lets_nobody_in(provider: Provider, told: dict[str, str]) -> None:
    provider.told |= told
    with pytest.raises(OidcRefused):
        provider.come_back()


def test_who_asks_a_console_without_a_provider_needs_no_library_of_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "sluicegate.console.oidc", None)  # as without the extra
    asked: Any = SimpleNamespace(
        console=SimpleNamespace(oidc=None),
        request=SimpleNamespace(cookies={}),
        page=lambda _template, status_code, **_: status_code,
        record=lambda *_, **__: None,
    )
    assert [asyncio.run(cast("Any", entry.page(asked))) for entry in ENTRIES] == [404, 403]
