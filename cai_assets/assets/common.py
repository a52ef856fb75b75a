"""What all asset functions share: how a table becomes an asset, and how failures end. No asset here."""

import functools
import inspect
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import dagster as dg

from cai_assets.conditions import FOLLOWS, FRESH
from cai_assets.engines.spread import Spread
from cai_assets.io_managers.failing import told_apart
from cai_assets.metadata import OWNERS, code_metadata, lineage_metadata, table_metadata, table_tags, tags
from cai_assets.partitions import DAILY, DAYS_PER_RUN
from cai_assets.ranges import Progress, Tell
from cai_assets.schemas.base import Table

AssetFunction = Callable[..., Any]

# All are in beta in Dagster 1.13. The first three are used knowingly, the last Dagster sets itself for every
# sensor; said a hundred times at each start of each process, this would hide warnings that matter.
for _beta in (
    "Parameter `backfill_policy` of function `asset`",
    "Class `LocalFileCodeReference`",
    "Class `CodeReferencesMetadataValue`",
    "Parameter `owners` of initializer `SensorDefinition",
):
    warnings.filterwarnings("ignore", _beta, dg.BetaWarning)

# A backfill puts into one run what has the same policy, and waits up to 30 s between runs: one policy for all
# daily assets makes a month one run from the source to the day's report, instead of three (measured: 16 days
# with the marts in two runs instead of four).
BY_MONTHS = dg.BackfillPolicy.multi_run(max_partitions_per_run=DAYS_PER_RUN)


def failing_clearly(function: AssetFunction) -> AssetFunction:
    """The same asset function, its failures told apart."""
    if inspect.isgeneratorfunction(function):

        @functools.wraps(function)
        def generating(*args: Any, **kwargs: Any) -> Iterator[Any]:
            with told_apart():
                yield from function(*args, **kwargs)

        return generating

    @functools.wraps(function)
    def calling(*args: Any, **kwargs: Any) -> Any:
        with told_apart():
            return function(*args, **kwargs)

    return calling


def telling(context: dg.AssetExecutionContext, spread: Spread) -> Tell:
    """Progress of a range in the run's log: a line for each tenth of the days that is done."""
    told = 0

    def tell(progress: Progress) -> None:
        nonlocal told
        tenths = 10 * progress.done // progress.days
        if tenths > told:
            told = tenths
            key = context.asset_key.to_user_string()
            context.log.info(
                f"{key}: {progress.done} of {progress.days} days done, {progress.rows:,} rows ({spread})"
            )

    return tell


Decorator = Callable[[AssetFunction], dg.AssetsDefinition]


def table_asset(
    table: Table, *, ins: Mapping[str, dg.AssetIn] | None = None, sql: Path | None = None, **options: Any
) -> Decorator:
    """A decorator: this function makes that table.

    Args:
        table: its declaration; gives key, group, description and column schema.
        ins: inputs that are loaded.
        sql: the file of the model that makes it, if one does.
        options: passed to `dg.asset`; `metadata` is added to the table's own.
    """
    metadata = table_metadata(table, options.pop("metadata", None))
    io_manager_key = options.pop("io_manager_key", "parquet")
    if table.layer in {"facts", "marts"}:
        options.setdefault("freshness_policy", FRESH)
    if table.layer == "marts":
        options.setdefault("automation_condition", FOLLOWS)

    def decorate(function: AssetFunction) -> dg.AssetsDefinition:
        made: dg.AssetsDefinition = dg.asset(
            key=list(table.path),
            group_name=table.layer,
            description=table.description,
            owners=OWNERS,
            io_manager_key=io_manager_key,
            ins=ins,
            tags=table_tags(table),
            metadata={**metadata, **code_metadata(function, sql)},
            **options,
        )(failing_clearly(function))
        return made

    return decorate


def daily_asset(
    table: Table,
    *,
    deps: Sequence[Any] = (),
    **options: Any,
) -> Decorator:
    """A decorator: this function makes that table, one partition a day, up to a month of days in one run.

    Args:
        table: its declaration.
        deps: inputs that are only waited for.
        options: as for `table_asset`.
    """
    return table_asset(
        table,
        partitions_def=DAILY,
        backfill_policy=BY_MONTHS,
        deps=deps,
        **options,
    )


def report_asset(name: str, *, holds: str, **options: Any) -> Decorator:
    """A decorator: this function publishes the report `reports/NAME`.

    Args:
        name: second part of the key.
        holds: the most private thing in it, a value of `metadata.HOLDS_TAG`.
        options: passed to `dg.asset`.

    A report without partitions follows the tables it is made of.
    """
    if "partitions_def" not in options:
        options.setdefault("automation_condition", FOLLOWS)
    options.setdefault("freshness_policy", FRESH)

    def decorate(function: AssetFunction) -> dg.AssetsDefinition:
        made: dg.AssetsDefinition = dg.asset(
            key=["reports", name],
            group_name="reports",
            owners=OWNERS,
            tags=tags(daily="partitions_def" in options, holds=holds),
            metadata={**lineage_metadata(("reports", name)), **code_metadata(function)},
            **options,
        )(failing_clearly(function))
        return made

    return decorate
