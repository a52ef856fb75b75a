"""Exports from a lake to a folder of this machine. The command is `export.py`."""

from collections.abc import Callable, Sequence
from datetime import UTC, date, datetime
from functools import partial
from pathlib import Path

from cai_assets.assets.analytics import AS_OF, FACT, model_parameters
from cai_assets.domain.sheets import Workbook, Written, about, write_csv, write_parquet
from cai_assets.engines.duckdb import DuckDBEngine
from cai_assets.engines.exports import sheets
from cai_assets.failures import PermanentError
from cai_assets.io_managers.parquet import ParquetIOManager
from cai_assets.settings import Settings


def export_files(
    settings: Settings,
    names: Sequence[str],
    kind: str,
    target: Path,
    *,
    first_day: date | None,
    last_day: date | None,
    tell: Callable[[str, int], None],
) -> list[Written]:
    """Write tables.

    Args:
        settings: where the lake is, zone, targets.
        names: of `engines.exports.NAMES`.
        kind: csv, xlsx or parquet.
        target: the file for xlsx and for a single table whose name has the ending, else the folder.
        first_day: first local day, or None for all.
        last_day: last local day, included, or None for all.
        tell: is told a table's name and the rows just written.

    Raises:
        PermanentError: the target cannot be written, or the lake not be read.
    """
    parquet = ParquetIOManager.from_settings(settings)
    with DuckDBEngine.from_settings(settings, prepare=parquet.store.duckdb_setup) as engine:
        us = engine.query(AS_OF, {FACT: parquet.files(FACT)})["as_of_us"][0].as_py()
        as_of = datetime.fromtimestamp(us / 1e6, UTC) if us else None
        found = sheets(
            engine,
            parquet.files,
            model_parameters(settings),
            names,
            as_of=as_of,
            partitions=sorted(parquet.row_counts(FACT)),
            first_day=first_day,
            last_day=last_day,
            least=settings.min_group_size,
        )
        single = target.suffix == f".{kind}"
        if kind != "xlsx" and single and len(names) > 1:
            raise PermanentError(
                f"{target} is one file, and {len(names)} tables were asked for: name a folder"
            )
        try:
            (target.parent if single else target).mkdir(parents=True, exist_ok=True)
            if kind == "xlsx":
                path = target if single else target / "cai-export.xlsx"
                book = Workbook(path, about(settings.report_timezone, as_of, first_day, last_day))
                for sheet in found:
                    book.add(sheet.name, sheet.tables, partial(tell, sheet.name))
                return [book.close()]
            write = write_csv if kind == "csv" else write_parquet
            return [
                write(
                    target if single else target / f"{sheet.name}.{kind}",
                    sheet.tables,
                    partial(tell, sheet.name),
                )
                for sheet in found
            ]
        except OSError as error:
            raise PermanentError(f"{target} cannot be written: {error.strerror or error}") from error
