"""Rows of conversations as tables of the lake, and every SQL model run over them: for tests of the models.

Only the shape of the lake's tables belongs here: no MongoDB, no Dagster. What the numbers must be is in
`oracle`.
"""

import atexit
import functools
import hashlib
import shutil
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pyarrow as pa
import pyarrow.parquet as pq

from cai_assets.domain.business_hours import business_days, open_hours
from cai_assets.engines.duckdb import DuckDBEngine
from cai_assets.engines.models import TablePath, load_models
from cai_assets.opening_hours import read_calendars
from cai_assets.schemas import facts as fact_tables
from cai_assets.schemas.settings import BUSINESS_DAY
from cai_assets.schemas.tables import TABLES
from cai_assets_tests import oracle

Row = Mapping[str, Any]
Rows = Mapping[str, Sequence[Row]]

PARAMETERS: dict[str, Any] = {
    "report_timezone": "UTC",
    "session_gap_us": 1_800_000_000,
    "target_1_us": 60_000_000,
    "target_2_us": 300_000_000,
    "target_3_us": 900_000_000,
}


def lake_rows(
    conversations: Iterable[Row],
    messages: Iterable[Row],
    timezone: str = "UTC",
    translations: Iterable[Row] = (),
    categories: Iterable[Row] = (),
    llm_calls: Iterable[Row] = (),
) -> dict[str, list[dict[str, Any]]]:
    """The rows as the lake would hold them, by table.

    Args:
        conversations: rows as the oracle takes them.
        messages: rows as the oracle takes them; the last version of each is kept, deleted ones and those of
            unknown conversations are left out, as the documents layer does.
        timezone: IANA zone of the partitions.
        translations: rows of `lake.translations`, without partition.
        categories: rows of `lake.categories`, without partition.
        llm_calls: rows of `lake.llm_calls`, without partition.
    """
    zone = ZoneInfo(timezone)
    day_of: dict[str, str] = {}
    found: dict[str, list[dict[str, Any]]] = {table.name: [] for table in _lake_tables()}
    for c in conversations:
        day_of[c["conversation_id"]] = c["started_at"].astimezone(zone).date().isoformat()
        found["conversations"].append(
            {
                **{
                    name: c.get(name)
                    for name in ("agent_id", "channel", "language", "ended_at", "updated_at")
                },
                **{name: c.get(name) for name in ("csat_score", "csat_at")},
                **{name: c[name] for name in ("conversation_id", "user_id", "status", "started_at")},
                "partition": day_of[c["conversation_id"]],
                "traffic_class": c.get("traffic_class") or "live",
                "status_events": [
                    {"from_status": e["from"], "to_status": e["to"], "at": e["at"], "actor": e["actor"]}
                    for e in oracle.status_events(c)
                ]
                or None,
                "source_updated_at": c.get("source_updated_at") or c.get("updated_at") or c["started_at"],
                "content_hash": "",
            }
        )
    for m in _last_versions(messages):
        if m["conversation_id"] not in day_of:
            continue
        found["messages"].append(
            {
                **{name: m.get(name) for name in ("seq", "sender_id", "text", "language", "updated_at")},
                **{name: m.get(name) for name in ("language_detected", "language_confidence")},
                **{name: m[name] for name in ("message_id", "conversation_id", "sender_type", "created_at")},
                "partition": day_of[m["conversation_id"]],
                "is_private": bool(m.get("private") or m.get("is_private")),
                "text_hash": hashlib.blake2b((m.get("text") or "").encode(), digest_size=16).hexdigest(),
                "source_updated_at": m.get("source_updated_at") or m.get("updated_at") or m["created_at"],
                "content_hash": "",
            }
        )
    for name, rows in {
        "translations": translations,
        "categories": categories,
        "llm_calls": llm_calls,
    }.items():
        found[name] = [{**row, "partition": day_of[row["conversation_id"]]} for row in rows]
    return found


def _last_versions(messages: Iterable[Row]) -> list[Row]:
    latest: dict[str, Row] = {}
    oldest = datetime.min.replace(tzinfo=UTC)
    for message in messages:
        known = latest.get(message["message_id"])
        version = message.get("updated_at") or oldest
        if known is None or version >= (known.get("updated_at") or oldest):
            latest[message["message_id"]] = message
    return [m for m in latest.values() if m.get("deleted_at") is None]


def _lake_tables() -> list[Any]:
    return [table for table in TABLES.values() if table.layer == "lake"]


@functools.cache
def _business_days(business_hours: str, timezone: str) -> Path:
    """The days of a calendar as a file; many tests read the same."""
    folder = Path(tempfile.mkdtemp(prefix="cai-business-days-"))
    atexit.register(shutil.rmtree, folder)
    file = folder / "business_day.parquet"
    pq.write_table(business_days(read_calendars(business_hours), timezone), file)
    return file


class Warehouse:
    """Parquet files of the lake in a folder, and of facts and marts once the models have run over them."""

    def __init__(
        self,
        folder: Path,
        engine: DuckDBEngine | None = None,
        *,
        business_hours: str | None = None,
        **parameters: Any,
    ) -> None:
        """An empty one; `parameters` replace those of `PARAMETERS`, `business_hours` is BUSINESS_HOURS."""
        self.folder = folder
        self.engine = engine or DuckDBEngine(threads=2, temp_directory=folder / "spill")
        self.parameters = {**PARAMETERS, **parameters}
        self.business_hours = business_hours
        self.files: dict[TablePath, list[str]] = {BUSINESS_DAY.path: []}
        if business_hours is not None:
            zone = self.parameters["report_timezone"]
            self.files[BUSINESS_DAY.path] = [str(_business_days(business_hours, zone))]

    def load(self, rows: Rows) -> None:
        """Write the lake's tables, in the order of the rows given."""
        for table in _lake_tables():
            arrow = pa.Table.from_pylist(list(rows.get(table.name, ())), schema=table.arrow_schema)
            self.files[table.path] = [self._write(table.path, arrow)] if arrow.num_rows else []

    def run(self, layers: Iterable[str] = ("facts", "marts")) -> None:
        """Run the models of the layers over all partitions at once, each from the files before it."""
        for path, model in load_models().items():
            if model.layer in layers:
                inputs = {key: self.files[key] for key in model.inputs}
                reader = self.engine.run(model, inputs, self.values(model.parameters), table=TABLES[path])
                self.files[path] = [self._write(path, reader.read_all())]

    def values(self, wanted: Sequence[str]) -> dict[str, Any]:
        """A value for each of the parameters, as a run would have."""
        values = dict(self.parameters)
        if {"as_of_us", "as_of_business_us"} & set(wanted) and "as_of_us" not in values:
            fact = fact_tables.FCT_CONVERSATION.path
            query = "select coalesce(max(source_updated_us), 0) as as_of from facts.fct_conversation"
            as_of = self.engine.query(query, {fact: self.files[fact]})["as_of"][0].as_py()
            values |= {"as_of_us": as_of, "as_of_business_us": self._business_us(as_of)}
        return values

    def _business_us(self, at_us: int) -> int:
        if self.business_hours is None:
            return 0
        calendars = read_calendars(self.business_hours)
        return open_hours(calendars, self.parameters["report_timezone"]).business_us(at_us)

    def read(self, layer: str, name: str) -> pa.Table:
        """The rows of a table as they stand in its files."""
        table = TABLES[layer, name]
        parts = [pq.ParquetFile(file).read() for file in self.files[table.path]]
        return pa.concat_tables(parts) if parts else table.arrow_schema.empty_table()

    def rows(self, layer: str, name: str) -> list[dict[str, Any]]:
        """The same as rows."""
        found: list[dict[str, Any]] = self.read(layer, name).to_pylist()
        return found

    def query(self, sql: str, **parameters: Any) -> list[dict[str, Any]]:
        """A query over the tables that it names."""
        named = {path: files for path, files in self.files.items() if ".".join(path) in sql}
        found: list[dict[str, Any]] = self.engine.query(sql, named, parameters).to_pylist()
        return found

    def _write(self, path: TablePath, arrow: pa.Table) -> str:
        target = self.folder / path[0] / f"{path[1]}.parquet"
        target.parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(arrow, target)
        return str(target)
