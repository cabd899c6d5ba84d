"""Finds the profiles: every module of device_drivers/profiles and of the entry-point group `patch_gateway.profiles`."""

import importlib
import pkgutil
from collections.abc import Iterable
from functools import cache
from importlib.metadata import entry_points
from typing import cast

from device_drivers import profiles
from device_drivers.base import Channel, GattPlan, Profile

GROUP = "patch_gateway.profiles"


@cache
def all_profiles() -> dict[str, Profile]:
    """Profile by name; ValueError when two claim one channel."""
    found = {
        module.name: cast("Profile", importlib.import_module(f"{profiles.__name__}.{module.name}"))
        for module in pkgutil.iter_modules(profiles.__path__)
    }
    for entry in entry_points(group=GROUP):
        found[entry.name] = cast("Profile", entry.load())
    owners: dict[Channel, str] = {}
    for name, profile in found.items():
        for channel in profile.CHANNELS:
            if channel in owners:
                raise ValueError(f"profiles {owners[channel]} and {name} both claim channel {'/'.join(channel)}")
            owners[channel] = name
    return found


def gatt_plans(names: Iterable[str]) -> list[GattPlan]:
    """The plans of these profiles that are GATT services, in the order in which a connection works through them: device
    information first, because the model selects quirks; services with stored records last.
    """
    plans = [plan for name in names if (plan := all_profiles()[name].GATT) is not None]
    return sorted(plans, key=lambda plan: (plan.records is not None, plan.service != "180a", plan.service))


def profile_of(channel: Channel) -> Profile | None:
    """The profile that decodes a channel, if there is one."""
    return next((profile for profile in all_profiles().values() if channel in profile.CHANNELS), None)
