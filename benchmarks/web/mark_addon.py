"""The addon of mitmproxy that does what the bench's web filter does (`benchmarks.filters.Mark`)."""

from typing import Any


def request(flow: Any) -> None:
    """Reads one field of the request and sets another."""
    flow.request.headers["X-Mark"] = flow.request.headers.get("Host", "")


def response(flow: Any) -> None:
    """The same for the response."""
    flow.response.headers["X-Mark"] = flow.response.headers.get("Content-Type", "")
