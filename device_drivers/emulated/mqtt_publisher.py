"""An emulated patch's own MQTT client: QoS 1, keeps what the broker has not acknowledged."""

import json
from typing import Any

from paho.mqtt.client import Client, MQTTMessageInfo
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion

from device_drivers.profiles.mqtt_topics import ROOT


class MqttPublisher:
    """Connects at once; paho's thread does the sending."""

    def __init__(self, device_id: str, password: str, host: str, port: int) -> None:
        self._device_id = device_id
        self._client = Client(
            CallbackAPIVersion.VERSION2, device_id, protocol=MQTTProtocolVersion.MQTTv5, reconnect_on_failure=True
        )
        self._client.username_pw_set(device_id, password)
        self._client.max_inflight_messages_set(100)
        self._client.connect(host, port, keepalive=15)
        self._client.loop_start()

    def publish(self, kind: str, payload: dict[str, Any]) -> MQTTMessageInfo:
        """Hand one message over; its info tells when the broker acknowledged it."""
        return self._client.publish(f"{ROOT}/{self._device_id}/{kind}", json.dumps(payload), qos=1)

    def close(self) -> None:
        self._client.disconnect()
        self._client.loop_stop()
