"""What was given up for want of room, patch by patch, until a gap marker names it."""

from schemas.base import Count, DateTime, DeviceId, Model


class Lost(Model):
    """So many events of one patch (None: of the gateway), the oldest and the newest of these times."""

    device_id: DeviceId | None = None
    count: Count
    first_at: DateTime
    last_at: DateTime

    def and_also(self, other: "Lost | None") -> "Lost":
        """Both together; of one patch."""
        if other is None:
            return self
        return Lost(
            device_id=self.device_id,
            count=self.count + other.count,
            first_at=min(self.first_at, other.first_at),
            last_at=max(self.last_at, other.last_at),
        )
