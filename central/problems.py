"""Errors as the contract's ErrorResponse (RFC 9457), never repeating a value."""

from collections.abc import Mapping

from starlette.responses import Response

from schemas.responses import ErrorResponse, FieldError

_TYPE = "urn:patch-central:problem:"

TITLES = {
    "validation": (422, "The event does not fit the contract"),
    "too-large": (413, "Too large"),
    "occurred-at-out-of-range": (422, "The event's time is out of range"),
    "idempotency-key-reused": (422, "The idempotency key belongs to another event"),
    "not-json": (400, "The body is not JSON of the expected form"),
    "unsupported-encoding": (415, "The content encoding is not supported"),
    "unauthorised": (401, "An API key is needed"),
    "forbidden": (403, "The API key does not allow this"),
    "other-tenant": (403, "The event names another tenant"),
    "unavailable": (503, "Not available just now"),
    "not-found": (404, "There is nothing here"),
    "method-not-allowed": (405, "The method is not allowed here"),
    "internal": (500, "Internal error"),
}


def problem(kind: str, detail: str | None = None, errors: list[FieldError] | None = None) -> ErrorResponse:
    """A problem of a known kind."""
    status, title = TITLES[kind]
    return ErrorResponse(type=_TYPE + kind, title=title, status=status, detail=detail, errors=errors or None)


def problem_response(found: ErrorResponse, headers: Mapping[str, str] | None = None) -> Response:
    """The problem as an HTTP answer."""
    return Response(found.to_json(), found.status, dict(headers or {}), media_type="application/problem+json")


class ProblemError(Exception):
    """Ends a request with a problem; nothing of it was stored."""

    def __init__(self, found: ErrorResponse, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(found.title)
        self.problem, self.headers = found, headers
