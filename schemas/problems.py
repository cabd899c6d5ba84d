"""What is wrong with an event, in words that name the field and never repeat a value."""

import re

from pydantic import ValidationError

from schemas.event_types import EventType
from schemas.responses import FieldError

_TYPES = frozenset(EventType)
_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,40}", re.ASCII)


def field_errors(error: ValidationError) -> list[FieldError]:
    """One entry per problem.

    An unknown type is described, not quoted, and an unknown key only when it looks like a field name: both come from
    the sender and could hold health data.
    """
    problems = []
    for entry in error.errors(include_url=False, include_input=False, include_context=False):
        loc = [str(part) for part in entry["loc"]]
        unknown = entry["type"] == "extra_forbidden"
        if loc and loc[0] in _TYPES and not (unknown and len(loc) == 1):  # the tag of the union
            del loc[0]
        message = entry["msg"].removeprefix("Value error, ")
        if unknown:
            loc[-1] = loc[-1] if _NAME.fullmatch(loc[-1]) else "(unknown field)"
            message = "is not a field of the contract"
        elif entry["type"] == "union_tag_invalid":
            loc, message = ["type"], "is not one of the 45 event types"
        elif entry["type"] == "union_tag_not_found":
            loc, message = ["type"], "Field required"
        elif message.startswith("items_added "):  # the one rule across fields (3.1)
            loc.append("items_added")
        elif "pattern" in message and r"\x00" in message:
            message = "must not contain a NUL character"
        elif "pattern" in message and "NFLX_" in message:
            message = "a device id is NFLX_ and 8 capital letters or digits"
        problems.append(FieldError(field=".".join(loc) or "(body)", message=message))
    return problems


def sentence(errors: list[FieldError]) -> str:
    """The problems as one line for a log, a quarantine reason or a terminal."""
    return "; ".join(f"{e.field}: {e.message}" for e in errors[:8]) + (" ..." if len(errors) > 8 else "")
