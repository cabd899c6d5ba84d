"""Shared types of the contract (section 1)."""

from typing import Literal

from schemas.base import Country, Currency, Model, NonNegative, Text


class Money(Model):
    """An amount in one currency (1.1)."""

    amount: NonNegative
    currency: Currency


class Geo(Model):
    """A place, coarse (1.2)."""

    country: Country
    region: Text
    city: Text


class Device(Model):
    """The customer's screen, not a patch (1.3)."""

    platform: Literal["web", "mobile_app", "tablet", "desktop"]
    user_agent: Text
    screen_resolution: Text
