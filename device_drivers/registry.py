"""Finds the profiles: every module of device_drivers/profiles and of the entry-point group `patch_gateway.profiles`."""

import importlib
import logging
import pkgutil
from collections.abc import Iterable
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from typing import cast

from device_drivers import profiles
from device_drivers.base import Channel, GattPlan, Profile
from device_drivers.device_types import DEVICE_TYPES

log = logging.getLogger(__name__)

GROUP = "patch_gateway.profiles"


@cache
def all_profiles() -> dict[str, Profile]:
    """Profile by name; ValueError when two claim one channel. A plug-in that cannot be imported is left out."""
    found = {
        module.name: cast("Profile", importlib.import_module(f"{profiles.__name__}.{module.name}"))
        for module in pkgutil.iter_modules(profiles.__path__)
    }
    for entry in entry_points(group=GROUP):
        profile = _loaded(entry)
        if profile is not None:
            found[entry.name] = profile
    owners: dict[Channel, str] = {}
    for name, profile in found.items():
        for channel in profile.CHANNELS:
            if channel in owners:
                raise ValueError(f"profiles {owners[channel]} and {name} both claim channel {'/'.join(channel)}")
            owners[channel] = name
    return found


def _loaded(entry: EntryPoint) -> Profile | None:
    try:
        profile = cast("Profile", entry.load())
        for name in ("CHANNELS", "GATT", "decoder"):
            getattr(profile, name)
    except Exception as error:  # noqa: BLE001 - whatever code of others raises
        log.warning("profile %s of another package is left out: %s: %s", entry.name, type(error).__name__, error)
        return None
    return profile


def gatt_plans(names: Iterable[str]) -> list[GattPlan]:
    """The plans of these profiles that are GATT services, in the order in which a connection works through them: device
    information first, because the model selects quirks; services with stored records last.
    """
    plans = [plan for name in names if (plan := all_profiles()[name].GATT) is not None]
    return sorted(plans, key=lambda plan: (plan.records is not None, plan.service != "180a", plan.service))


def row_problem() -> str | None:
    """What is wrong with the table of device types, or with the profiles themselves; None when nothing is."""
    try:
        known = all_profiles()
    except ValueError as error:
        return f"The profiles cannot be used: {error}."
    for device_type, row in DEVICE_TYPES.items():
        for name in sorted(row.profiles - known.keys()):
            return (
                f"The row of {device_type} (device_drivers/device_types.py) names the profile {name}, which does not"
                f" exist or cannot be imported: there are {', '.join(sorted(known))}."
            )
    return None


def profile_name(channel: Channel) -> str | None:
    """The name of the profile that decodes a channel, if there is one."""
    return next((name for name, profile in all_profiles().items() if channel in profile.CHANNELS), None)
