"""What all asset functions share: how a table becomes an asset, and how failures end. No asset here."""

import functools
import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import dagster as dg

from cai_assets.io_managers.failing import told_apart
from cai_assets.metadata import OWNERS, table_metadata
from cai_assets.partitions import DAILY
from cai_assets.schemas.base import Table

AssetFunction = Callable[..., Any]


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


def table_asset(table: Table, *, ins: Mapping[str, dg.AssetIn] | None = None, **options: Any) -> Any:
    """A decorator: this function makes that table.

    Args:
        table: its declaration; gives key, group, description and column schema.
        ins: inputs that are loaded.
        options: passed to `dg.asset`; `metadata` is added to the table's own.
    """
    metadata = table_metadata(table, options.pop("metadata", None))
    io_manager_key = options.pop("io_manager_key", "parquet")

    def decorate(function: AssetFunction) -> dg.AssetsDefinition:
        return dg.asset(
            key=list(table.path),
            group_name=table.layer,
            description=table.description,
            owners=OWNERS,
            io_manager_key=io_manager_key,
            ins=ins,
            metadata=metadata,
            **options,
        )(failing_clearly(function))

    return decorate


def daily_asset(
    table: Table,
    *,
    backfill_policy: dg.BackfillPolicy | None = None,
    deps: Sequence[Any] = (),
    **options: Any,
) -> Any:
    """A decorator: this function makes that table, one partition a day, a range of days in one run.

    Args:
        table: its declaration.
        backfill_policy: default one run for a whole range.
        deps: inputs that are only waited for.
        options: as for `table_asset`.
    """
    return table_asset(
        table,
        partitions_def=DAILY,
        backfill_policy=backfill_policy or dg.BackfillPolicy.single_run(),
        deps=deps,
        **options,
    )
