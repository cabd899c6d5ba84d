"""A publisher that knows which of its messages the broker acknowledged."""

import json
from pathlib import Path
from typing import Any

from paho.mqtt.client import Client, MQTTMessageInfo
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion

REPOSITORY = Path(__file__).parents[2]


def reading(device_id: str, sequence: int, boot: int = 1, **changes: Any) -> dict[str, Any]:
    """A sensor payload as docs/mqtt.md shows it."""
    return {
        "device_id": device_id,
        "boot": boot,
        "sequence": sequence,
        "sensor_type": "glucose",
        "reading_value": 100 + sequence % 50,
        "unit_of_measurement": "mg/dL",
        "timestamp": "2026-11-24T10:15:30Z",
        "reading_quality": "high",
        "calibration_status": "calibrated",
        **changes,
    }


class Publisher:
    """QoS 1. `acknowledged` holds the sequences whose PUBACK came."""

    def __init__(self, port: int, user: str, password: str, inflight: int = 200) -> None:
        self._user = user
        self._sent: list[tuple[int, MQTTMessageInfo]] = []
        self._client = Client(CallbackAPIVersion.VERSION2, f"{user}-test", protocol=MQTTProtocolVersion.MQTTv5)
        self._client.username_pw_set(user, password)
        self._client.max_inflight_messages_set(inflight)
        self._client.connect("127.0.0.1", port)
        self._client.loop_start()

    def publish(self, kind: str, payload: Any, sequence: int = -1, device_id: str | None = None) -> None:
        raw = payload if isinstance(payload, (bytes, str)) else json.dumps(payload)
        info = self._client.publish(f"patches/v1/{device_id or self._user}/{kind}", raw, qos=1)
        self._sent.append((sequence, info))

    @property
    def acknowledged(self) -> set[int]:
        return {sequence for sequence, info in self._sent if info.is_published()}

    @property
    def waiting(self) -> int:
        return sum(not info.is_published() for _, info in self._sent)

    def close(self) -> None:
        self._client.disconnect()
        self._client.loop_stop()


def documented_messages() -> list[tuple[str, dict[str, Any]]]:
    """(topic, payload) of every example in docs/mqtt.md."""
    lines = (REPOSITORY / "docs" / "mqtt.md").read_text().splitlines()
    found = []
    for number, line in enumerate(lines):
        if line.startswith("`patches/v1/"):
            start = next(n for n in range(number, len(lines)) if lines[n] == "```json")
            end = lines.index("```", start)
            found.append((line.strip("`"), json.loads("\n".join(lines[start + 1 : end]))))
    return found
