r"""What a CONNECT is answered with: a table of whole responses (RFC 9110, section 15).

The gate chooses one; the parser's refusal is one of them. The invariant: no byte that a client sent
is in an answer: the reasons are written here, and a reference is one of the gate's own identifiers.

>>> print(encode_connect_answer(ConnectAnswer.ESTABLISHED).decode().rstrip())
HTTP/1.1 200 Connection established
"""

from __future__ import annotations

import enum
import re
from typing import Final

__all__ = ["ConnectAnswer", "encode_connect_answer"]


class ConnectAnswer(enum.Enum):
    """Status, reason phrase, and what people read."""

    ESTABLISHED = (200, "Connection established", "")
    MALFORMED = (400, "Bad Request", "The request is not a valid CONNECT.")
    NOT_ALLOWED = (403, "Forbidden", "The policy of this gate does not allow this connection.")
    CREDENTIALS_NEEDED = (
        407,
        "Proxy Authentication Required",
        "This gate needs a user name and a password.",
    )
    NAME_UNKNOWN = (502, "Bad Gateway", "The name of the server could not be resolved.")
    SERVER_UNREACHABLE = (502, "Bad Gateway", "The server could not be reached.")
    SERVER_REFUSED = (502, "Bad Gateway", "The server refused the connection.")
    GATE_BUSY = (503, "Service Unavailable", "The gate has reached one of its limits.")
    GATE_FAILED = (503, "Service Unavailable", "The gate could not decide; it refuses then.")
    SERVER_TIMED_OUT = (504, "Gateway Timeout", "The server did not answer in time.")

    def __init__(self, status: int, phrase: str, text: str) -> None:
        self.status = status
        self.phrase = phrase
        self.text = text


def encode_connect_answer(answer: ConnectAnswer, reference: str = "") -> bytes:
    """Return the whole response.

    Every answer but 200 ends the connection: what the client sent behind its request must not be
    taken for another one.

    Args:
        answer: The outcome.
        reference: The gate's identifier of the connection, for the reader to quote; it is shown
            only where it looks like one.
    """
    status_line = f"HTTP/1.1 {answer.status} {answer.phrase}\r\n"
    if answer is ConnectAnswer.ESTABLISHED:
        # RFC 9110 9.3.6: no Content-Length, no Transfer-Encoding; the tunnel begins behind it.
        return f"{status_line}\r\n".encode("ascii")
    text = answer.text
    if _REFERENCE.fullmatch(reference):
        text += f" Reference: {reference}"
    body = f"{text}\n"
    fields = [
        "Content-Type: text/plain; charset=us-ascii",
        f"Content-Length: {len(body)}",
        "Cache-Control: no-store",
        "X-Content-Type-Options: nosniff",
        "Connection: close",
    ]
    if answer is ConnectAnswer.CREDENTIALS_NEEDED:
        fields.append(_CHALLENGE)
    return (status_line + "\r\n".join(fields) + f"\r\n\r\n{body}").encode("ascii")


#: RFC 7617, section 2.1: the charset tells clients to encode in UTF-8.
_CHALLENGE: Final = 'Proxy-Authenticate: Basic realm="Sluicegate", charset="UTF-8"'
_REFERENCE: Final = re.compile(r"[A-Za-z0-9-]{1,64}", re.ASCII)
