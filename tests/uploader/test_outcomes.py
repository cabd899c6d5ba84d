"""Answers of a central service, honest and not, as outcomes; backoff and Retry-After."""

import json
from datetime import UTC, datetime

import pytest
from hypothesis import given, strategies as st

from schemas.wire import WireEvent
from uploader.answers import outcomes
from uploader.backoff import Backoff, retry_after
from uploader.base import Accepted, Refused, Retry

EVENTS = [WireEvent(f"NFLX_0A1B2C3D.sensor.1.{n}", b"{}") for n in range(3)]
PROBLEM = {"type": "urn:x:y", "title": "No", "status": 422, "errors": [{"field": "data.a", "message": "is wrong"}]}


def result(index, status="ingested", **more):
    return {"index": index, "idempotency_key": EVENTS[index].idempotency_key, "status": status, **more}


def answer(*results, status=200):
    return outcomes(EVENTS, status, {}, json.dumps({"results": list(results)}).encode())


def test_per_event():
    found = answer(result(2, "deduped"), result(0), result(1, "rejected", problem=PROBLEM), status=207)
    assert found == [Accepted(), Refused("No: data.a: is wrong"), Accepted(deduped=True)]


def test_a_problem_may_say_more_and_one_odd_result_holds_nobody_up():
    problem = PROBLEM | {"trace": "x", "errors": [{"field": "a", "message": "b", "code": 7}]}
    found = answer(result(0), result(1, "rejected", problem=problem), {"index": 2, "status": ["?"]})
    assert found[:2] == [Accepted(), Refused("No: a: b")]
    assert isinstance(found[2], Retry)


def test_an_event_that_is_not_named_is_kept():
    found = answer(result(0), {**result(1), "idempotency_key": "another"}, {**result(1), "index": 99})
    assert isinstance(found[0], Accepted)
    assert all(isinstance(outcome, Retry) for outcome in found[1:])


@pytest.mark.parametrize("body", [b"", b"ok", b"{}", b"[]", b'{"results":{}}', b'{"results":[{"index":"0"}]}'])
def test_a_2xx_without_names_counts_for_nothing(body):
    assert all(isinstance(outcome, Retry) for outcome in outcomes(EVENTS, 200, {}, body))


@given(st.sampled_from([200, 201, 207, 400, 401, 403, 413, 422, 429, 500, 503]), st.binary(max_size=200))
def test_any_body_gives_an_outcome_per_event(status, body):
    found = outcomes(EVENTS, status, {}, body)
    assert len(found) == 3
    assert not any(isinstance(outcome, Accepted) for outcome in found)


@pytest.mark.parametrize("status", [301, 404, 408, 425, 429, 500, 502, 503, 504])
def test_transient(status):
    assert outcomes(EVENTS, status, {"retry-after": "7"}, b"") == [Retry(f"HTTP {status}", 7.0)] * 3


@pytest.mark.parametrize("status", [401, 403])
def test_unauthorised_pauses_and_drops_nothing(status):
    assert all(isinstance(o, Retry) and o.unauthorised for o in outcomes(EVENTS, status, {}, b""))


def test_a_proxys_400_does_not_condemn_an_event():
    problem = json.dumps(PROBLEM).encode()
    assert isinstance(outcomes(EVENTS[:1], 400, {}, b"<html>")[0], Retry)
    assert outcomes(EVENTS[:1], 400, {}, problem) == [Refused("No: data.a: is wrong")]
    assert isinstance(outcomes(EVENTS[:1], 413, {}, b"")[0], Refused)
    assert all(isinstance(o, Retry) for o in outcomes(EVENTS, 422, {}, problem))


def test_retry_after():
    now = datetime(2026, 11, 24, 12, 0, 0, tzinfo=UTC)
    assert retry_after("120") == 120
    assert retry_after("Tue, 24 Nov 2026 12:00:30 GMT", lambda: now) == 30
    assert retry_after("Tue, 24 Nov 2026 11:00:30 GMT", lambda: now) == 0
    assert [retry_after(text) for text in (None, "", "soon", "-5", "1e9", "9" * 400)] == [0, 0, 0, 0, 0, 3600]
    assert [retry_after(text) for text in ("\xb2", "Mon, 01 Jan 99999999999999999999 00:00:00 GMT")] == [0, 0]


def test_backoff():
    backoff = Backoff(1, 300, uniform=lambda _, bound: bound)
    assert [backoff.failed() for _ in range(10)] == [1, 2, 4, 8, 16, 32, 64, 128, 256, 300]
    assert backoff.failed(at_least=500) == 500
    backoff.succeeded()
    assert backoff.failed() == 1
