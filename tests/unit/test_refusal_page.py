"""What a refused client is told, in which form, and that nothing of the client's is in it."""

from __future__ import annotations

import html.parser
import json
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sluicegate.gate.web.refusal_page import DEFAULT_PAGES, Refusal, RefusalPages, wants_page
from sluicegate.gate.web.refusal_template import RefusalTemplate, TemplateError

BROWSER = b"text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,*/*;q=0.8"
REFUSAL = Refusal(403, "a method that is not allowed", "office", "r-1a2b-3")


@pytest.mark.parametrize(
    ("accepted", "is_page"),
    [
        ([BROWSER], True),
        ([b"text/html"], True),
        ([b"TEXT/HTML"], True),
        ([b"application/xhtml+xml"], True),
        ([b"application/json", b"text/html"], True),
        ([], False),
        ([b""], False),
        ([b"*/*"], False),
        ([b"text/*"], False),
        ([b"image/avif,image/webp,*/*"], False),
        ([b"application/json, text/html;q=0.5"], False),
        ([b"application/problem+json, text/html;q=0.9"], False),
        ([b"text/html;q=0"], False),
        ([b"text/html;q=nan"], False),
        ([b"text/html;q=-1"], False),
        ([b"text/html;q=x"], False),
    ],
)
def test_page_is_for_those_who_name_html(accepted: list[bytes], is_page: bool) -> None:
    assert wants_page(accepted) is is_page


def test_browser_gets_a_page_with_reason_rule_and_record() -> None:
    response, body = DEFAULT_PAGES.render(REFUSAL, [BROWSER])
    text = body.decode()
    for part in ("403 Forbidden", "a method that is not allowed", "office", "r-1a2b-3"):
        assert part in text
    assert response.status == 403
    assert response.framing.length == len(body)
    assert response.fields.first(b"content-type") == b"text/html; charset=utf-8"


def test_others_get_a_problem_document() -> None:
    response, body = DEFAULT_PAGES.render(REFUSAL, [b"*/*"])
    assert response.fields.first(b"content-type") == b"application/problem+json"
    assert json.loads(body) == {
        "type": "about:blank",
        "title": "Forbidden",
        "status": 403,
        "detail": "a method that is not allowed",
        "reason": "a method that is not allowed",
        "rule": "office",
        "record": "r-1a2b-3",
        "instance": "urn:sluicegate:r-1a2b-3",
    }


@pytest.mark.parametrize("accepted", [[BROWSER], [b"*/*"]])
def test_no_cache_keeps_it_and_no_browser_guesses(accepted: list[bytes]) -> None:
    response, _ = DEFAULT_PAGES.render(REFUSAL, accepted)
    fields = response.fields
    assert fields.first(b"cache-control") == b"no-store"
    assert fields.first(b"x-content-type-options") == b"nosniff"
    assert fields.first(b"referrer-policy") == b"no-referrer"
    assert fields.first(b"vary") == b"Accept"
    policy = (fields.first(b"content-security-policy") or b"").decode()
    assert policy.startswith("default-src 'none'; ")
    assert "unsafe" not in policy
    assert "frame-ancestors 'none'" in policy


class Tags(html.parser.HTMLParser):
    def __init__(self, text: str) -> None:
        super().__init__()
        self.seen: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attrs) -> None:
        self.seen.append(f"{tag} {sorted(attrs)}")


@given(st.text(max_size=400), st.text(max_size=400))
def test_no_reason_and_no_rule_becomes_markup(reason: str, rule: str) -> None:
    plain = DEFAULT_PAGES.render(REFUSAL, [BROWSER])[1].decode()
    body = DEFAULT_PAGES.render(Refusal(403, reason, rule, "r-1"), [BROWSER])[1]
    assert Tags(body.decode()).seen == Tags(plain).seen
    assert len(body) < len(plain) + 4000
    problem = DEFAULT_PAGES.render(Refusal(403, reason, rule, "r-1"), [])[1]
    assert json.loads(problem)["status"] == 403
    assert problem.isascii()


def test_what_is_filled_in_is_bounded_and_has_one_line() -> None:
    body = DEFAULT_PAGES.render(Refusal(403, "x\r\ny\x1b[2J" + "z" * 1000, "", "r-1"), [])[1]
    reason = json.loads(body)["reason"]
    assert reason.startswith("x  y [2Jz")
    assert len(reason) == 300
    assert reason.endswith("…")


def test_a_status_may_have_a_template_of_its_own() -> None:
    pages = RefusalPages(
        RefusalTemplate("<p>$reason $record"), {407: RefusalTemplate("<p>Log in. $record")}
    )
    assert pages.render(REFUSAL, [BROWSER])[1] == b"<p>a method that is not allowed r-1a2b-3"
    other = Refusal(407, "r", "", "r-9")
    assert pages.render(other, [BROWSER])[1] == b"<p>Log in. r-9"


def test_a_template_says_dollars_and_every_place() -> None:
    template = RefusalTemplate("$$5 <b>$status</b> $title $rule $reason $record")
    values = dict.fromkeys(("status", "title", "rule", "reason", "record"), "<&>")
    assert template.fill(values) == b"$5 <b>&lt;&amp;&gt;</b>" + b" &lt;&amp;&gt;" * 4


def test_styles_of_a_template_are_allowed_by_their_hash() -> None:
    template = RefusalTemplate("<style>p { color: red }</style><p>$record</p>")
    assert re.fullmatch(r"'sha256-[A-Za-z0-9+/]{43}='", template.style_sources)
    response, _ = RefusalPages(template).render(REFUSAL, [BROWSER])
    policy = (response.fields.first(b"content-security-policy") or b"").decode()
    assert f"style-src {template.style_sources};" in policy
    assert RefusalTemplate("<p>$record").style_sources == ""


@pytest.mark.parametrize(
    ("text", "line", "cause"),
    [
        ("<p>hello</p>", 1, "does not say $record"),
        ("<p>\n$records $record", 2, "no place '$records'"),
        ("<p>$record ${record}", 1, "no place '${record}'"),
        ("<p>$record costs 5$", 1, "no place '$'"),
        ('<p title="$reason">$record', 1, "inside the tag <p>"),
        ("<p $reason>$record", 1, "inside the tag <p>"),
        ("<p>$record<!-- $reason -->", 1, "inside a comment"),
        ("<style>p { content: '$reason' }</style>$record", 1, "inside <style>"),
        ("<style>@import 'x';</style>$record", 1, "style with"),
        ("<style>p { background: URL(x) }</style>$record", 1, "style with"),
        ("$record\n<script>alert(1)</script>", 2, "<script> has no use"),
        ("$record<SCRIPT src=x>", 1, "<script> has no use"),
        ("$record<iframe></iframe>", 1, "<iframe> has no use"),
        ("$record<form></form>", 1, "<form> has no use"),
        ("$record<svg></svg>", 1, "<svg> has no use"),
        ("$record<link rel=stylesheet href=x>", 1, "<link> has no use"),
        ("$record<base href=x>", 1, "<base> has no use"),
        ("$record<p onclick=x>", 1, "onclick does nothing"),
        ("$record<p style=x>", 1, "style does nothing"),
        ("$record<img src=https://a.example/x.png>", 1, "src loads something"),
        ("$record<a href='javascript:alert(1)'>", 1, "no https, http or mailto"),
        ("$record<meta http-equiv=refresh content='0'>", 1, "http-equiv is set by the gate"),
        ("$record<!doctype html public 'x'>", 1, "is not <!doctype html>"),
        ("$record<?php echo ?>", 1, "processing instruction"),
    ],
)
def test_a_template_that_could_load_run_or_reflect_is_refused(
    text: str, line: int, cause: str
) -> None:
    with pytest.raises(TemplateError) as refused:
        RefusalTemplate(text)
    assert cause in str(refused.value)
    assert refused.value.line == line


def test_a_template_may_have_links_and_inline_images() -> None:
    text = (
        "<!doctype html><a href='https://help.example/'>help</a><a href='mailto:it@a.example'>it"
        "</a><img src='data:image/png;base64,AAAA' alt=logo>$record"
    )
    page = RefusalTemplate(text).fill({"record": "r-1"})
    assert page.decode() == text.replace("$record", "r-1")
