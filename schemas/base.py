"""Scalar types and the strict base class of every contract model.

Validate from JSON text (`model_validate_json`): strict mode then takes ISO strings as times but refuses `true` as a
number, `"5e1"` as a number and a bare epoch as a time.
"""

import re
from datetime import UTC, date, datetime
from typing import Annotated, Any

from pydantic import AfterValidator, AwareDatetime, BaseModel, BeforeValidator, ConfigDict, Field

_RFC3339 = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,9})?(Z|[+-]\d\d:\d\d)", re.ASCII)
_ISO_DATE = re.compile(r"\d{4}-\d\d-\d\d", re.ASCII)
_DURATION = re.compile(r"P(?!$)(\d+Y)?(\d+M)?(\d+W)?(\d+D)?(T(?=\d)(\d+H)?(\d+M)?(\d+([.,]\d+)?S)?)?", re.ASCII)
_URI = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:[A-Za-z0-9\-._~:/?#\[\]@!$&'()*+,;=%]+", re.ASCII)
_BATCH = re.compile(r"BATCH_(\d{4})(\d\d)(\d\d)_[0-9A-Z]{3}", re.ASCII)


class Model(BaseModel):
    """Strict, immutable, no unknown fields, no NaN or infinity."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True, allow_inf_nan=False)

    def to_json(self) -> bytes:
        """Compact JSON as it goes on the wire; absent optional fields stay absent."""
        return self.__pydantic_serializer__.to_json(self, exclude_none=True)


def _rfc3339(value: Any) -> Any:
    if isinstance(value, datetime):
        return value
    try:
        if isinstance(value, str) and _RFC3339.fullmatch(value):
            moment = datetime.fromisoformat(value)
            moment.astimezone(UTC)  # the first and last hours of the calendar do not exist in every zone
            return moment
    except (ValueError, OverflowError):
        pass
    raise ValueError("must be an ISO 8601 date and time with a zone, such as 2026-11-24T10:15:30Z")


def _iso_date(value: Any) -> Any:
    if isinstance(value, date):
        return value
    try:
        if isinstance(value, str) and _ISO_DATE.fullmatch(value):
            return date.fromisoformat(value)
    except ValueError:
        pass
    raise ValueError("must be an ISO 8601 date, such as 2026-11-24")


def _duration(value: str) -> str:
    if not _DURATION.fullmatch(value):
        raise ValueError("must be an ISO 8601 duration, such as PT1M30S")
    return value


def _uri(value: str) -> str:
    if not _URI.fullmatch(value):
        raise ValueError("must be a URI with a scheme, such as https://example.org/page")
    return value


def _batch_number(value: str) -> str:
    match = _BATCH.fullmatch(value)
    if match is None:
        raise ValueError("must have the form BATCH_YYYYMMDD_XXX")
    try:
        date(*map(int, match.groups()))
    except ValueError:
        raise ValueError("must have the form BATCH_YYYYMMDD_XXX with a date that exists") from None
    return value


def _plain_json(value: Any) -> Any:
    """Refuse what PostgreSQL's jsonb refuses (NUL, non-finite numbers), and nesting that costs a parser its stack."""
    stack: list[tuple[Any, int]] = [(value, 0)]
    while stack:
        item, depth = stack.pop()
        if depth > 32:
            raise ValueError("must not be nested deeper than 32 levels")
        if isinstance(item, str) and "\0" in item:
            raise ValueError("must not contain a NUL character")
        if isinstance(item, float) and not (item - item == 0.0):
            raise ValueError("must not contain NaN or infinity")
        if isinstance(item, dict):
            stack.extend((child, depth + 1) for pair in item.items() for child in pair)
        elif isinstance(item, list):
            stack.extend((child, depth + 1) for child in item)
    return value


Text = Annotated[str, Field(pattern=r"^[^\x00]*$")]
Label = Annotated[str, Field(pattern=r"^[^\x00]*$", max_length=255)]
DateTime = Annotated[AwareDatetime, BeforeValidator(_rfc3339, json_schema_input_type=str)]
Date = Annotated[date, BeforeValidator(_iso_date, json_schema_input_type=str)]
Duration = Annotated[str, AfterValidator(_duration), Field(json_schema_extra={"format": "duration"})]
Uri = Annotated[str, AfterValidator(_uri), Field(json_schema_extra={"format": "uri"})]
Currency = Annotated[str, Field(pattern=r"^[A-Z]{3}$")]
Country = Annotated[str, Field(pattern=r"^[A-Z]{2}$")]
DeviceId = Annotated[str, Field(pattern=r"^NFLX_[0-9A-Z]{8}$")]
BatchNumber = Annotated[
    str, AfterValidator(_batch_number), Field(json_schema_extra={"pattern": r"^BATCH_[0-9]{8}_[0-9A-Z]{3}$"})
]
IdempotencyKey = Annotated[str, Field(pattern=r"^[A-Za-z0-9._:-]{1,255}$")]
JsonObject = Annotated[dict[str, Any], AfterValidator(_plain_json)]

NonNegative = Annotated[float, Field(ge=0)]
Ratio = Annotated[float, Field(ge=0, le=1)]
Percentage = Annotated[float, Field(ge=0, le=100)]
Count = Annotated[int, Field(ge=0)]
AtLeastOne = Annotated[int, Field(ge=1)]
Stars = Annotated[int, Field(ge=1, le=5)]
