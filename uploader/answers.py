"""The central service's answers as outcomes: a plain function of status, headers and body."""

from collections.abc import Mapping, Sequence
from typing import Literal

from pydantic import ConfigDict, JsonValue, ValidationError
from pydantic_core import to_json

from schemas.base import Model
from schemas.problems import sentence
from schemas.responses import FieldError
from schemas.wire import WireEvent
from uploader.backoff import retry_after
from uploader.base import Accepted, Outcome, Refused, Retry

_PER_EVENT = (200, 201, 207)
_UNAUTHORISED = (401, 403)
TOO_LARGE = 413
_REFUSED = (400, TOO_LARGE, 422)


class _Result(Model):
    """One entry of a batch answer. A newer server may say more than we read."""

    model_config = ConfigDict(extra="ignore")

    index: int
    idempotency_key: str | None = None
    status: Literal["ingested", "queued", "deduped", "rejected"]
    problem: "_Problem | None" = None


class _FieldError(FieldError):
    model_config = ConfigDict(extra="ignore")


class _Problem(Model):
    """As much of an ErrorResponse as is read; RFC 9457 lets a server add members."""

    model_config = ConfigDict(extra="ignore")

    title: str
    errors: list[_FieldError] | None = None


class _BatchAnswer(Model):
    model_config = ConfigDict(extra="ignore")

    results: list[JsonValue]


def outcomes(events: Sequence[WireEvent], status: int, headers: Mapping[str, str], body: bytes) -> list[Outcome]:
    """An outcome per event. A 2xx counts only where the body names the event by index and key."""
    if status in _PER_EVENT:
        return _per_event(events, body)
    if status in _UNAUTHORISED:
        reason = "the central service does not accept this gateway's API key (HTTP 401)"
        if status == 403:
            reason = "this gateway's API key is not allowed to do this, or names another tenant (HTTP 403)"
        return [Retry(reason, unauthorised=True)] * len(events)
    if status in _REFUSED and len(events) == 1:
        problem = _problem(body)
        # A proxy's own 400 says nothing about the event; a 413 says its size.
        if problem or status == TOO_LARGE:
            return [Refused(problem or "too large for the central service (HTTP 413)")]
    return [Retry(f"HTTP {status}", retry_after(headers.get("retry-after")))] * len(events)


def _per_event(events: Sequence[WireEvent], body: bytes) -> list[Outcome]:
    try:
        results = _BatchAnswer.model_validate_json(body).results
    except ValidationError:
        return [Retry("the answer is not one of a central service")] * len(events)
    found: list[Outcome] = [Retry("the answer does not name this event") for _ in events]
    for entry in results:
        try:
            result = _Result.model_validate_json(to_json(entry))
        except ValidationError:
            continue
        if not 0 <= result.index < len(events) or events[result.index].idempotency_key != result.idempotency_key:
            continue
        if result.status == "rejected":
            found[result.index] = Refused(_words(result.problem))
        else:
            found[result.index] = Accepted(deduped=result.status == "deduped")
    return found


def is_refused_whole(status: int, body: bytes) -> bool:
    """Are halves worth trying, until the event at fault stands alone? Where one makes the service fail (500) too; not
    where a proxy refuses, whatever is sent.
    """
    return status in {TOO_LARGE, 500} or (status in _REFUSED and _problem(body) is not None)


def _words(problem: _Problem | None) -> str:
    if problem is None:
        return "rejected without a reason"
    fields = f": {sentence([*problem.errors])}" if problem.errors else ""
    return f"{problem.title}{fields}"


def _problem(body: bytes) -> str | None:
    """The service's own words; None where the body is not an ErrorResponse."""
    try:
        return _words(_Problem.model_validate_json(body))
    except ValidationError:
        return None
