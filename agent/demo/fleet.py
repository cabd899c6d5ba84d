"""The emulated patches of the demo: three publish over MQTT, one is a replayed BLE capture."""

import asyncio
import random
from collections.abc import Callable
from datetime import UTC, datetime
from typing import NamedTuple

from paho.mqtt.client import MQTTMessageInfo

from agent.demo.budget import Budget
from device_drivers.emulated.mqtt_patch import MqttPatch
from device_drivers.emulated.mqtt_publisher import MqttPublisher
from schemas.patch_events import ApplicationSite, DeviceType

_BROKER_SECONDS = 60.0


class FleetPatch(NamedTuple):
    """One patch of the demo, as its label and its nurse describe it."""

    device_id: str
    device_type: DeviceType
    transport: str
    patient: str
    site: ApplicationSite


FLEET = (
    FleetPatch("NFLX_DEMO0001", "insulin_patch", "mqtt", "pt_demopatientaaaaaaa", "abdomen"),
    FleetPatch("NFLX_DEMO0002", "pain_relief_patch", "mqtt", "pt_demopatientbbbbbbb", "back"),
    FleetPatch("NFLX_DEMO0003", "hormone_patch_microsizefibers", "mqtt", "pt_demopatientccccccc", "thigh"),
    FleetPatch("NFLX_DEMO0004", "diagnostic_sensor", "ble", "pt_demopatientddddddd", "upper_arm"),
)


class PublishingPatch:
    """One patch over MQTT: makes events as long as the budget lasts."""

    def __init__(
        self, patch: FleetPatch, password: str, port: int, budget: Budget, pause: Callable[[], float], seed: int
    ) -> None:
        self._publisher = MqttPublisher(patch.device_id, password, "127.0.0.1", port)
        rng = random.Random(seed)  # noqa: S311 - emulated values
        self._patch = MqttPatch(patch.device_id, patch.device_type, rng, lambda: datetime.now(UTC))
        self._budget, self._pause = budget, pause
        self._open: list[MQTTMessageInfo] = []
        self.made = 0

    async def run(self) -> None:
        """Until the budget is spent and the broker has acknowledged everything."""
        while not self._budget.spent:
            message = self._patch.next()
            if not self._budget.take(message.events):
                break
            self.made += message.events
            self._open.append(self._publisher.publish(message.kind, message.payload))
            await asyncio.sleep(self._pause())
            self._open = [info for info in self._open if not info.is_published()]
        await self._acknowledged()

    async def _acknowledged(self) -> None:
        async with asyncio.timeout(_BROKER_SECONDS):
            while any(not info.is_published() for info in self._open):
                await asyncio.sleep(0.02)

    def close(self) -> None:
        self._publisher.close()
