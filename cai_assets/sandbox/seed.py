"""From a folder of Parquet files, or the generated sample, to the sandbox's tables.

Reading, column types and the order of rows only. The gold answers stay behind: `category_gold` never becomes
a column, and the parallel texts go to Dify's translator alone.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import repeat
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from cai_assets.failures import PermanentError
from cai_assets.sandbox.config import TABLE_IDS, Dialect, SandboxConfig
from cai_assets.sandbox.store import LONGEST_LINE, Table, instant_text, json_cell, parse_instant

REQUIRED = {
    "conversations": ("conversation_id", "user_id", "status", "started_at"),
    "messages": ("message_id", "conversation_id", "sender_type", "text", "created_at"),
}
PARALLEL = ("source_language", "target_language", "source_text", "target_text")
_OWN_TIME = {"conversations": "started_at", "messages": "created_at"}
_ORDER = {
    "conversations": ("started_at", "conversation_id"),
    "messages": ("created_at", "conversation_id", "seq", "message_id"),
}
_ANSWERS = ("category_gold",)
_JSON_TITLES = ("status_events", "attrs", "tags")
_LONG_TITLES = ("text", "csat_comment")


@dataclass(frozen=True)
class SeedData:
    """What a sandbox starts with.

    Attributes:
        tables: `conversations` and `messages`.
        parallel: texts with their translations (columns `PARALLEL`), possibly none.
    """

    tables: dict[str, Table]
    parallel: pa.Table


def load(config: SandboxConfig) -> SeedData:
    """Read the data a configuration names.

    Raises:
        PermanentError: the folder, a file or a column is missing, or the sample's options are wrong.
    """
    if config.data == "sample":
        from cai_assets.sandbox.sample import generate

        try:
            sample = generate(**config.sample_options)
        except TypeError as error:
            raise PermanentError(
                f"The sample cannot be made with {dict(config.sample_options)}: {error}"
            ) from error
        sources = {"conversations": sample.conversations, "messages": sample.messages}
        parallel = sample.parallel
    else:
        folder = Path(config.data)
        sources = {name: _read(folder, name) for name in TABLE_IDS}
        found = folder / "translations_gold.parquet"
        parallel = (
            pq.read_table(found)
            if found.exists()
            else pa.table({name: pa.array([], pa.string()) for name in PARALLEL})
        )
    missing = [name for name in PARALLEL if name not in parallel.column_names]
    if missing:
        raise PermanentError(f"The parallel texts lack the column(s) {', '.join(missing)}.")
    tables = {name: build_table(name, source, config.dialect) for name, source in sources.items()}
    return SeedData(tables, parallel.select(PARALLEL))


def _read(folder: Path, name: str) -> pa.Table:
    path = folder / f"{name}.parquet"
    if not path.is_file():
        raise PermanentError(
            f"{path} does not exist. A sandbox needs a folder with conversations.parquet (columns "
            f"{', '.join(REQUIRED['conversations'])}, more are welcome) and messages.parquet (columns "
            f"{', '.join(REQUIRED['messages'])}); translations_gold.parquet (columns {', '.join(PARALLEL)}) "
            "is optional. `--data sample` generates conversations instead."
        )
    return pq.read_table(path)


def build_table(name: str, source: pa.Table, dialect: Dialect) -> Table:
    """One NocoDB table from one Arrow table.

    Id follows the order of the rows' own time; CreatedAt is that time (whole seconds), UpdatedAt is null.

    Raises:
        PermanentError: a required column is missing.
    """
    missing = [column for column in REQUIRED[name] if column not in source.column_names]
    if missing:
        raise PermanentError(
            f"{name} lack the column(s) {', '.join(missing)}; found: {', '.join(source.column_names)}."
        )
    source = source.drop_columns([column for column in _ANSWERS if column in source.column_names])
    order = [(column, "ascending") for column in _ORDER[name] if column in source.column_names]
    source = source.take(pc.sort_indices(source, sort_keys=order))
    made = [_column(name, title, source[title], dialect) for title in source.column_names]
    table = Table(
        TABLE_IDS[name],
        name,
        [(title, uidt) for title, (uidt, _) in zip(source.column_names, made, strict=True)],
        dialect,
    )
    created = _created_at(source[_OWN_TIME[name]])
    columns = [cells for _, cells in made]
    table.load(map(list, zip(range(1, source.num_rows + 1), created, repeat(None), *columns, strict=False)))
    return table


def _created_at(times: pa.ChunkedArray) -> list[str]:
    """Each row's own time as NocoDB prints it; a row without a readable one gets that of the row before."""
    if pa.types.is_timestamp(times.type):
        printed: Sequence[str | None] = _printed(times)
    else:
        printed = [_printed_text(text) for text in times.to_pylist()]
    latest = next(
        (text for text in printed if text is not None), instant_text(datetime(2020, 1, 1, tzinfo=UTC))
    )
    created: list[str] = []
    for text in printed:
        latest = latest if text is None else text
        created.append(latest)
    return created


def _printed_text(value: Any) -> str | None:
    try:
        return instant_text(parse_instant(str(value))[0])
    except ValueError:
        return None  # a value that is no time is wanted in the data: the row is there to be rejected


def _utc(times: pa.ChunkedArray) -> pa.ChunkedArray:
    if times.type.tz is None:
        times = pc.assume_timezone(times, "UTC")
    return times.cast(pa.timestamp("us", "UTC"), safe=False)


def _printed(times: pa.ChunkedArray) -> list[str | None]:
    seconds = pc.floor_temporal(_utc(times), unit="second").cast(pa.timestamp("s", "UTC"))
    found: list[str | None] = pc.strftime(seconds, format="%Y-%m-%d %H:%M:%S+00:00").to_pylist()
    return found


def _column(table: str, title: str, values: pa.ChunkedArray, dialect: Dialect) -> tuple[str, list[Any]]:
    """NocoDB's type of a column and its cells as NocoDB prints them."""
    kind = values.type
    if pa.types.is_dictionary(kind):
        values = values.cast(kind.value_type)
        kind = values.type
    if pa.types.is_timestamp(kind):
        return _time_column(table, title, values)
    if pa.types.is_boolean(kind):
        cells = values.to_pylist()
        return "Checkbox", [int(bool(cell)) for cell in cells] if dialect == "sqlite" else cells
    if pa.types.is_integer(kind):
        return "Number", values.to_pylist()
    if pa.types.is_floating(kind) or pa.types.is_decimal(kind):
        return "Decimal", values.cast(pa.float64()).to_pylist()
    if pa.types.is_nested(kind):
        return "JSON", [None if cell is None else json_cell(cell, dialect) for cell in values.to_pylist()]
    if not (pa.types.is_string(kind) or pa.types.is_large_string(kind)):
        values = values.cast(pa.string())
    cells = values.to_pylist()
    if title in _JSON_TITLES and any(cells) and all(cell is None or _is_json(cell) for cell in cells):
        return "JSON", [None if cell is None else json_cell(cell, dialect) for cell in cells]
    long = title in _LONG_TITLES or (pc.max(pc.utf8_length(values)).as_py() or 0) > LONGEST_LINE
    return ("LongText" if long else "SingleLineText"), cells


def _time_column(table: str, title: str, values: pa.ChunkedArray) -> tuple[str, list[Any]]:
    """DateTime, or text where a DateTime would lose fractions of a second.

    conversations.started_at is always a DateTime: it is what NocoDB filters conversations by.
    """
    utc = _utc(values)
    fractions = (
        pc.any(pc.not_equal(pc.microsecond(utc), 0)).as_py()
        or pc.any(pc.not_equal(pc.millisecond(utc), 0)).as_py()
    )
    if fractions and (table, title) != ("conversations", "started_at"):
        return "SingleLineText", pc.strftime(utc, format="%Y-%m-%dT%H:%M:%S+00:00").to_pylist()
    return "DateTime", _printed(values)


def _is_json(text: str) -> bool:
    try:
        return isinstance(json.loads(text), dict | list)
    except ValueError:
        return False
