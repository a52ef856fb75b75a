"""The IO manager of every Parquet table: assets return Arrow data and get files, a dataset or a table.

It turns Dagster's partitions into the table's, and what the lake did into metadata. Files and transactions
are `resources.storage`'s.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Self, get_args, get_origin

import dagster as dg
import pyarrow as pa

from cai_assets.failures import PermanentError
from cai_assets.io_managers.failing import told_apart
from cai_assets.resources.lake_files import LakeFiles
from cai_assets.resources.object_store import ObjectStore
from cai_assets.resources.parquet_spec import ParquetSpec
from cai_assets.resources.storage import WHOLE, Commit, LakeTable, Staged
from cai_assets.schemas.base import Table
from cai_assets.schemas.tables import TABLES
from cai_assets.settings import Settings

ALLOW_MISSING = "allow_missing"
"""Input metadata: `dg.AssetIn(metadata={ALLOW_MISSING: True})` reads missing partitions as empty ones."""


class ParquetIOManager(dg.IOManager):
    """Keeps an asset's output as the Delta table declared for its key.

    Outputs: `pa.Table`, `pa.RecordBatch`, `pa.RecordBatchReader` (written batch by batch, as it is read), a
    list of them, or `Staged` (files that workers wrote, to be committed here). Exactly the partitions of the
    run are replaced; one without rows is there and empty afterwards. An unpartitioned asset replaces its
    whole table.

    Inputs, by annotation: `LakeFiles` (also where there is none), `list[str]` (addresses of
    the files), `pa.dataset.Dataset`, `pa.Table`, `polars.LazyFrame`, `pandas.DataFrame`. A partitioned
    consumer gets the partitions its own map to, and a missing one is an error; an unpartitioned consumer gets
    all that there are.
    """

    def __init__(
        self,
        store: ObjectStore,
        tables: Mapping[tuple[str, str], Table] | Iterable[Table],
        spec: ParquetSpec | None = None,
    ) -> None:
        """Make the manager of these tables.

        Args:
            store: where the tables live.
            tables: the declarations, by `(layer, name)` or as they are.
            spec: how files are written; the settings' defaults if not given.
        """
        self.store = store
        declared = tables.values() if isinstance(tables, Mapping) else tables
        self._tables = {table.path: table for table in declared}
        self._spec = spec

    @classmethod
    def from_settings(cls, settings: Settings) -> Self:
        """The manager of all declared tables, in the store and the form that the settings name.

        Raises:
            PermanentError: the settings cannot make a store.
        """
        return cls(ObjectStore.from_settings(settings), TABLES, ParquetSpec.from_settings(settings))

    def files(self, path: tuple[str, str], partitions: Sequence[str] | None = None) -> list[str]:
        """Files of a table, for those who read without an input, as checks and reports do; None for all."""
        return self.table(path).files(partitions)

    def row_counts(self, path: tuple[str, str], partitions: Sequence[str] | None = None) -> dict[str, int]:
        """Rows of a table by partition, from its log alone."""
        return self.table(path).row_counts(partitions)

    def tables(self) -> list[LakeTable]:
        """All declared tables, also those that were never materialised."""
        return [self.table(path) for path in self._tables]

    def table(self, path: tuple[str, str]) -> LakeTable:
        """The lake table of an asset.

        Args:
            path: `(layer, name)`, the parts of the asset key.

        Raises:
            PermanentError: no table is declared under it.
        """
        declared = self._tables.get(path)
        if declared is None:
            raise PermanentError(
                f"asset {'/'.join(path)}: no Parquet table is declared under this key; declare it in "
                "cai_assets/schemas or give the asset another io_manager_key"
            )
        return LakeTable(self.store, declared, self._spec)

    def handle_output(self, context: dg.OutputContext, obj: Any) -> None:
        """Replace the output's partitions and log what that did as metadata.

        What the lake or a lazy source fails with ends the step (`dg.Failure`) or has it tried again
        (`dg.RetryRequested`), as its kind asks for.
        """
        with told_apart():
            self._replace(context, obj)

    def _replace(self, context: dg.OutputContext, obj: Any) -> None:
        lake_table = self.table(_path(context.asset_key))
        if obj is None:
            raise PermanentError(f"asset {context.asset_key.to_user_string()} returned None, not Arrow data")
        partitions = list(context.asset_partition_keys) if context.has_asset_partitions else None
        metadata = {"asset": context.asset_key.to_user_string(), "run_id": context.run_id}
        if isinstance(obj, Staged):
            _same_partitions(context.asset_key, obj, partitions)
            commit = lake_table.commit(obj, metadata=metadata)
        else:
            commit = lake_table.replace(partitions, obj, metadata=metadata)
        context.add_output_metadata(_metadata(lake_table, commit))
        if partitions is not None:
            _add_partition_rows(context, commit)

    def load_input(self, context: dg.InputContext) -> Any:
        """Load what the input's annotation asks for.

        A partition that is missing, or an annotation that is not known, ends the step with `dg.Failure`.
        """
        with told_apart():
            return self._load(context)

    def _load(self, context: dg.InputContext) -> Any:
        lake_table = self.table(_path(context.asset_key))
        allow_missing = bool((context.definition_metadata or {}).get(ALLOW_MISSING, False))
        partitions = _wanted_partitions(context)
        if not allow_missing:
            _refuse_missing(lake_table, partitions)
        selected = lake_table.select(partitions)
        return _loaded(context.name, context.dagster_type.typing_type, selected)


def _loaded(name: str, wanted: Any, selected: LakeFiles) -> Any:
    if wanted in (Any, None, LakeFiles):
        return selected
    if wanted is pa.Table:
        return selected.to_table()
    if get_origin(wanted) is list and get_args(wanted) == (str,):  # Dagster makes typing's List of it
        return list(selected.files)
    if isinstance(wanted, type):
        # By name, so that nothing is imported for assets that do not want it.
        match wanted.__module__.partition(".")[0], wanted.__name__:
            case "pyarrow", "Dataset" | "FileSystemDataset":
                return selected.dataset()
            case "polars", "LazyFrame":
                return selected.lazy_frame()
            case "pandas", "DataFrame":
                return selected.to_pandas()
    raise PermanentError(
        f"input {name}: cannot load a table as {wanted}; annotate it as LakeFiles, list[str], "
        "pyarrow.dataset.Dataset, pyarrow.Table, polars.LazyFrame or pandas.DataFrame"
    )


def _path(key: dg.AssetKey) -> tuple[str, str]:
    return key.path[0], "/".join(key.path[1:])


def _same_partitions(key: dg.AssetKey, staged: Staged, partitions: Sequence[str] | None) -> None:
    if partitions is not None and set(staged.parts) != set(partitions):
        differing = sorted(set(staged.parts) ^ set(partitions))
        raise PermanentError(
            f"asset {key.to_user_string()}: staged files and the run differ in partitions {differing[:5]}"
        )


def _wanted_partitions(context: dg.InputContext) -> list[str] | None:
    """The partitions to load; None for all that are there, for a consumer without partitions of its own."""
    if not context.has_asset_partitions:
        return None
    try:
        consumer = context.step_context.entity_partitions_def
    except dg.DagsterInvariantViolationError:  # a context built by hand has no step: its keys are meant
        return list(context.asset_partition_keys)
    return None if consumer is None else list(context.asset_partition_keys)


def _refuse_missing(lake_table: LakeTable, partitions: Sequence[str] | None) -> None:
    key = "/".join(lake_table.table.path)
    if partitions is None:
        if not lake_table.exists():
            raise PermanentError(f"{key} was never materialised; materialise it first")
        return
    missing = lake_table.missing(partitions)
    if missing:
        named = ", ".join(missing[:10]) + (f" and {len(missing) - 10} more" if len(missing) > 10 else "")
        raise PermanentError(
            f"{key} lacks partitions {named}; materialise {key} for them first, or let the input have "
            f"metadata {{{ALLOW_MISSING!r}: True}} to read them as empty"
        )


def _metadata(lake_table: LakeTable, commit: Commit) -> dict[str, Any]:
    metadata: dict[str, Any] = {
        "dagster/uri": lake_table.uri,
        "delta_version": commit.version,
        "files": commit.files,
        "bytes": commit.bytes,
        "partitions_changed": len(commit.changed) + len(commit.removed),
        "partitions_unchanged": len(commit.unchanged),
    }
    if lake_table.table.partition_by != "partition":
        metadata["dagster/row_count"] = commit.row_count
    return metadata


def _add_partition_rows(context: dg.OutputContext, commit: Commit) -> None:
    """Log each partition's own rows, which the UI plots over the partitions.

    Output metadata would give every partition of a range the same number; metadata of the step can name one.
    """
    if len(commit.rows) == 1:
        context.add_output_metadata({"dagster/partition_row_count": commit.row_count})
        return
    try:
        step = context.step_context
    except dg.DagsterInvariantViolationError:  # a context built by hand: only the sum can be told
        context.add_output_metadata({"dagster/row_count": commit.row_count})
        return
    for partition, rows in commit.rows.items():
        if partition != WHOLE:
            step.add_asset_metadata({"dagster/partition_row_count": rows}, context.asset_key, partition)
