"""The document that describes the API to programs (OpenAPI 3.1).

The invariant: it is made of the operations themselves, so nothing is in it that is not so.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

import msgspec

from sluicegate.version import VERSION

from .operation import Operation, Problem

__all__ = ["make_document"]

_FAILURES: Final = {
    400: "What was sent is wrong.",
    401: "Nobody is logged in, and there is no token.",
    403: "Whoever asks may not.",
    429: "Too many requests; ask again in a moment.",
    503: "The gate or the store does not answer.",
}
_FAILURES_OF_BODIES: Final = {413: "That is too long."}
_REFERENCE: Final = "#/components/schemas/{name}"


def make_document(operations: Iterable[Operation]) -> dict[str, Any]:
    """Return the document of some operations."""
    listed = list(operations)
    types = [one.reply for one in listed] + [one.body for one in listed if one.body is not None]
    schemas, components = msgspec.json.schema_components([*types, Problem], ref_template=_REFERENCE)
    replies = dict(zip([one.name for one in listed], schemas, strict=False))
    bodies = dict(
        zip(
            [one.name for one in listed if one.body is not None],
            schemas[len(listed) :],
            strict=False,
        )
    )
    paths: dict[str, dict[str, Any]] = {}
    for one in listed:
        described = _describe(one, replies[one.name], bodies.get(one.name), schemas[-1])
        paths.setdefault(one.path, {})[one.method.lower()] = described
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Sluicegate console",
            "version": VERSION,
            "summary": "What the console shows and does, for programs.",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": "/api/v1"}],
        "security": [{"token": []}, {"session": []}],
        "paths": paths,
        "components": {
            "schemas": components,
            "securitySchemes": {
                "token": {
                    "type": "http",
                    "scheme": "bearer",
                    "description": "made by: sluicegate console token add",
                },
                "session": {
                    "type": "apiKey",
                    "in": "cookie",
                    "name": "__Host-sluicegate",
                    "description": "of a browser; what changes something needs x-csrf-token, too",
                },
            },
        },
    }


def _describe_rights(operation: Operation) -> str:
    if operation.role is None:
        return "For everybody."
    if not operation.needs_proof:
        return f"Needs the role {operation.role}."
    return (
        f"Needs the role {operation.role}, and the password: given by this session in the last "
        "five minutes, or sent as proof."
    )


def _describe(
    operation: Operation,
    reply: dict[str, Any],
    body: dict[str, Any] | None,
    problem: dict[str, Any],
) -> dict[str, Any]:
    failures = {**_FAILURES, **operation.failures}
    if operation.body is not None:
        failures |= _FAILURES_OF_BODIES
    described: dict[str, Any] = {
        "operationId": operation.name,
        "summary": operation.summary,
        "description": _describe_rights(operation),
        "responses": {
            "200": {
                "description": "It is so, or was done.",
                "content": {operation.reply_type: {"schema": reply}},
            },
            **{
                str(status): {
                    "description": text,
                    "content": {"application/problem+json": {"schema": problem}},
                }
                for status, text in sorted(failures.items())
            },
        },
    }
    if operation.role is None:
        described["security"] = []
    if operation.parameters:
        described["parameters"] = [
            {
                "name": one.name,
                "in": "path" if one.in_path else "query",
                "required": one.in_path,
                "description": one.description,
                "schema": dict(one.schema),
            }
            for one in operation.parameters
        ]
    if body is not None:
        described["requestBody"] = {
            "required": True,
            "content": {"application/json": {"schema": body}},
        }
    return described
