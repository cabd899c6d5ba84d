"""What a guest program says, line by line."""

import contextlib
import socket
import threading

# By how much a machine may be slower than the one that limits were set on: they are for what hangs.
PATIENCE = 4


class Lines:
    """Lines of text that a guest program writes to a virtio-serial port, collected as they come."""

    def __init__(self, connection: socket.socket) -> None:
        self.lines: list[str] = []
        self._connection = connection
        self._arrived = threading.Condition()
        threading.Thread(target=self._collect, daemon=True).start()

    def _collect(self) -> None:
        stream = self._connection.makefile("r", errors="replace")
        with self._connection, stream, contextlib.suppress(OSError):
            for line in stream:
                if line.endswith("\n"):  # a power cut may leave half a line: not an event
                    with self._arrived:
                        self.lines.append(line.rstrip())
                        self._arrived.notify_all()

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._connection.shutdown(socket.SHUT_RDWR)

    def wait(self, start: str, timeout: float = 30) -> str:
        """The first line that begins with `start`, as soon as it is there."""

        def found() -> str | None:
            return next((line for line in self.lines if line.startswith(start)), None)

        with self._arrived:
            line = self._arrived.wait_for(found, timeout * PATIENCE)
        if line is None:
            raise TimeoutError(f"no {start!r} line in {self.lines[-10:]}")
        return line
