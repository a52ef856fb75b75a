"""The sensor and its runs as the daemon would have them, one tick at a time, in this process."""

from dataclasses import dataclass, field
from typing import Any

import dagster as dg

from cai_assets.resources.dirty_days import DirtyDays
from cai_assets.resources.source import open_source
from cai_assets_tests.fixtures.platform import RANGE_END, RANGE_START, Platform

UNTIL_FACTS = "key:raw/* or key:documents/* or key:enrichment/* or key:lake/* or key:facts/*"


@dataclass
class Following:
    """A platform whose sensor is on.

    Attributes:
        platform: the installation.
        select: what the runs materialise; all that the job has where it is empty.
        cursor: the sensor's.
        days: the days of every run so far, first and last.
    """

    platform: Platform
    select: str = UNTIL_FACTS
    cursor: str | None = None
    days: list[tuple[str, str]] = field(default_factory=list)
    asked: set[str] = field(default_factory=set)

    def evaluate(self) -> dg.SensorResult:
        """One tick: what it asks for, and the cursor it leaves. Nothing is started."""
        definitions = self.platform.definitions
        resources = {name: (definitions.resources or {})[name] for name in ("source", "mongo", "settings")}
        with dg.build_sensor_context(
            instance=self.platform.instance, cursor=self.cursor, definitions=definitions, resources=resources
        ) as context:
            result: Any = definitions.resolve_sensor_def("nocodb_changes")(context)
        assert isinstance(result, dg.SensorResult)
        return result

    def tick(self) -> list[dg.RunRequest]:
        """One tick, its cursor kept, and its runs carried out; Dagster starts none under a known key."""
        result = self.evaluate()
        self.cursor = result.cursor
        requests = [one for one in result.run_requests or [] if one.run_key not in self.asked]
        for request in requests:
            self.asked.add(str(request.run_key))
            self.run(request)
        return requests

    def run(self, request: dg.RunRequest) -> None:
        """What a run request starts."""
        if request.job_name == "sweep_source":
            job = self.platform.definitions.resolve_job_def("sweep_source")
            assert job.execute_in_process(instance=self.platform.instance).success
            return
        first, last = request.tags[RANGE_START], request.tags[RANGE_END]
        self.days.append((first, last))
        self.platform.run(first, last, select=self.select or "*", raise_on_error=False)

    def until_quiet(self) -> None:
        """Tick until a tick asks for nothing."""
        for _ in range(10):
            if not self.tick():
                return
        raise AssertionError(f"it goes on asking: {self.dirty()}")

    def dirty(self) -> dict[str, dict[str, int]]:
        """The days that wait, and why."""
        with self.platform.mongo() as store:
            return {one.day: dict(one.reasons) for one in DirtyDays(store).all()}

    def source(self) -> Any:
        """The platform's source, to be closed by the caller."""
        return open_source(self.platform.settings)
