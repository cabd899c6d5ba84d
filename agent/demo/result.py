"""The counts that must agree."""

from dataclasses import asdict, dataclass

from agent.demo.scene import Scene, Stats


@dataclass(frozen=True, slots=True)
class Result:
    """The last line of `--once --json`.

    Events the gateway made itself are in `own` only; `clickhouse` is None where the engine does not run.
    """

    made: int
    durable: int
    acknowledged: int
    postgresql: int
    clickhouse: int | None
    duplicates: int
    lost: int
    own: int

    @property
    def agrees(self) -> bool:
        """Every count is the number of events made, nothing is lost and nothing is there twice."""
        counts = {self.durable, self.acknowledged, self.postgresql, self.made}
        if self.clickhouse is not None:
            counts.add(self.clickhouse)
        return len(counts) == 1 and self.duplicates == 0 and self.lost == 0

    def to_dict(self) -> dict[str, int | None]:
        return asdict(self)


def result_of(scene: Scene, stats: Stats) -> Result:
    """The counts as they are now."""
    assert scene.gateway is not None
    postgresql, clickhouse = stats.postgresql, stats.clickhouse
    duplicates = postgresql["events"] - postgresql["keys"]
    if clickhouse:
        duplicates += clickhouse["events"] - clickhouse["keys"]
    return Result(
        made=scene.made,
        durable=scene.gateway.counters.total["durable"],
        acknowledged=scene.gateway.sync_state().acknowledged,
        postgresql=postgresql["events"] - postgresql["own"],
        clickhouse=clickhouse["events"] - clickhouse["own"] if clickhouse else None,
        duplicates=duplicates,
        lost=max(0, scene.made - (postgresql["keys"] - postgresql["own"])),
        own=postgresql["own"],
    )
