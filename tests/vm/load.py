"""A patch that publishes, and the keys of all that it published."""

import os
import threading

from publisher import Publisher, reading


class Load:
    """200 readings a second from `start` to `stop`."""

    def __init__(self, port, device_id, password):
        self.publisher = Publisher(port, device_id, password)
        self.device_id, self.keys = device_id, set()
        self._last = 0
        self._stop = threading.Event()
        self._thread = None

    def publish(self, kind="sensor"):
        """One reading; its key."""
        self._last += 1
        changes = {"alert_triggered": True} if kind == "alert" else {}
        self.publisher.publish(kind, reading(self.device_id, self._last, **changes), self._last)
        key = f"{self.device_id}.{kind}.1.{self._last}"
        self.keys.add(key)
        return key

    def publish_some(self, count):
        for _ in range(count):
            self.publish()

    def publish_junk(self, count):
        """Of 16 KB each, for the quarantine."""
        for _ in range(count):
            self.publisher.publish("sensor", os.urandom(8_000).hex())

    def start(self):
        self._stop.clear()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self):
        while not self._stop.wait(0.05):
            self.publish_some(10)

    def stop(self):
        self._stop.set()
        if self._thread:
            self._thread.join()

    def close(self):
        self.stop()
        self.publisher.close()
