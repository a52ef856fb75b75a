"""cuDF: a model's plan as a Polars LazyFrame, run by cudf-polars on a GPU, or by Polars where there is none.

Which operations the frame is made of is `polars_frames`' matter; here are devices, memory, files and results.
"""

import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from typing import TYPE_CHECKING, Any, Final, Self

import pyarrow as pa
import pyarrow.parquet as pq

from cai_assets.engines.base import (
    EngineError,
    EngineName,
    Files,
    Place,
    cast_batch,
    complete,
    sort_columns,
    without_nulls,
)
from cai_assets.engines.gpu import Device, find_device, in_bytes
from cai_assets.engines.models import Model, TablePath
from cai_assets.engines.portable.reading import read_model
from cai_assets.failures import PermanentError, TransientError
from cai_assets.schemas.base import Table
from cai_assets.schemas.tables import TABLES
from cai_assets.settings import Settings

if TYPE_CHECKING:
    import polars as pl

EXTRA: Final = "pip install 'cai_assets[polars]', or 'cai_assets[gpu]' for a GPU"


class CudfEngine:
    """Runs models on a GPU or, with the same plan, on the CPU; the result of a call is held in memory.

    It can be sent to another process, which then looks for a device of its own.
    """

    def __init__(self, settings: Settings, place: Place) -> None:
        """An engine; no device is looked for before the first call.

        Args:
            settings: ENABLE_GPU, GPU_MEMORY_LIMIT, CUDA_VISIBLE_DEVICES, PROCESSING_THREADS, CHUNK_SIZE.
            place: where the files are.
        """
        self._settings = settings
        self._place = place
        self._device: Device | None = None

    def __getstate__(self) -> dict[str, Any]:
        """All but the device of this process."""
        return {**self.__dict__, "_device": None}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """Nothing to close: memory on the GPU belongs to the process."""

    @property
    def name(self) -> EngineName:
        """Which engine it is."""
        return "cudf"

    @property
    def device(self) -> Device:
        """Where this process runs plans.

        Raises:
            NoGpu: ENABLE_GPU=true, and there is none that can be used.
        """
        if self._device is None:
            self._device = find_device(self._settings.enable_gpu, self._settings.cuda_visible_devices)
        return self._device

    def about(self) -> dict[str, str]:
        """What ran, for metadata."""
        on_cpu = " (Polars' own engine ran the plan)" if self.device.kind == "cpu" else ""
        return {"engine": "cudf", "device": self.device.name, "device_why": f"{self.device.why}{on_cpu}"}

    def run(
        self, model: Model, inputs: Files, parameters: Mapping[str, Any], *, table: Table
    ) -> pa.RecordBatchReader:
        """Run a model over files, in the declared order and schema of its table; all of it before returning.

        Args:
            model: the model.
            inputs: files of each of `model.inputs`.
            parameters: a value for each of `model.parameters`; further ones are ignored.
            table: declaration of the result.

        Raises:
            NotPortable: the model is outside the portable part of SQL.
            EngineError: an input or parameter is missing, or Polars or cuDF failed, in their own words.
            NoGpu: ENABLE_GPU=true, and there is none that can be used.
        """
        complete(model.file, model.inputs, inputs, model.parameters, parameters)
        frame = self.plan(model, inputs, parameters, table=table)
        found = self._collect(frame, model.file)
        batches = self._batches(found, model.file, table)
        return pa.RecordBatchReader.from_batches(
            table.arrow_schema, without_nulls(batches, model.file, table)
        )

    def plan(
        self, model: Model, inputs: Files, parameters: Mapping[str, Any], *, table: Table
    ) -> "pl.LazyFrame":
        """The frame that `run` collects; nothing is read for it but the files' footers."""
        import_polars(self._settings.processing_threads)
        from cai_assets.engines.polars_frames import PolarsPlan

        made = PolarsPlan(lambda path: self._scan(path, inputs[path]), parameters)
        return made.make(read_model(model, table)).sort(sort_columns(table), nulls_last=True)

    def _scan(self, path: TablePath, files: Sequence[str]) -> "pl.LazyFrame":
        import polars as pl

        empty = pl.DataFrame(pl.from_arrow(TABLES[path].arrow_schema.empty_table()))
        if not files:
            return empty.lazy()
        options = self._place.scan_options()
        scanned = pl.scan_parquet(
            list(files),
            schema=empty.schema,
            missing_columns="insert",
            hive_partitioning=False,
            glob=False,
            storage_options=options,
        )
        # cudf-polars opens no object store with a key of ours, and knows nothing of files that are older than
        # a column: their rows pass through the host's memory.
        if self.device.kind == "gpu" and (options or _is_older(files, set(empty.columns))):
            return scanned.collect(engine="streaming").lazy()
        return scanned

    def _collect(self, frame: "pl.LazyFrame", what: str) -> "pl.DataFrame":
        import polars as pl

        engine: Any = "streaming"
        if self.device.kind == "gpu":
            engine = _gpu_engine(self._settings.gpu_memory_limit)
        try:
            return frame.collect(engine=engine)
        except MemoryError as error:
            raise EngineError(self._no_memory(what, str(error))) from error
        except pl.exceptions.PolarsError as error:
            text = str(error)
            if "out_of_memory" in text or "bad_alloc" in text or "MemoryError" in text:
                raise EngineError(self._no_memory(what, text)) from error
            raise EngineError(f"{what}: Polars says: {text}") from error
        except OSError as error:
            kind = EngineError if isinstance(error, FileNotFoundError | PermissionError) else TransientError
            raise kind(f"{what}: Polars says: {error}") from error

    def _no_memory(self, what: str, text: str) -> str:
        limit = self._settings.gpu_memory_limit
        more = f"raise GPU_MEMORY_LIMIT={limit}, or take" if limit else "take"
        return f"{what}: out of memory on {self.device.name}; {more} fewer days at once: {text}"

    def _batches(self, found: "pl.DataFrame", what: str, table: Table) -> Iterator[pa.RecordBatch]:
        import polars as pl

        oldest = pl.CompatLevel.oldest()
        try:
            for part in found.iter_slices(self._settings.chunk_size):
                for batch in part.to_arrow(compat_level=oldest).to_batches():
                    yield cast_batch(batch, table)
        except pa.ArrowException as error:
            raise EngineError(f"{what}: a value does not fit the declaration: {error}") from error


def import_polars(threads: int | None = None) -> None:
    """Import Polars with so many threads, which it reads once.

    Raises:
        PermanentError: it is not installed.
    """
    if threads and "polars" not in sys.modules:
        os.environ.setdefault("POLARS_MAX_THREADS", str(threads))
    try:
        import polars as pl  # noqa: F401
    except ImportError as error:
        raise PermanentError(f"ENGINE=cudf needs Polars, which is not installed: {EXTRA}") from error


def _is_older(files: Sequence[str], columns: set[str]) -> bool:
    """Whether a local file lacks one of the columns."""
    return any(columns - set(pq.read_schema(file).names) for file in files)


@cache
def _gpu_engine(memory_limit: str | None) -> Any:
    """cudf-polars in this process; it fails rather than run a part of a plan on the CPU.

    The in-memory executor is the one that the static check asks about the same plan.
    """
    import polars as pl

    if memory_limit is None:
        return pl.GPUEngine(executor="in-memory", raise_on_fail=True)
    import rmm

    pool = rmm.mr.LimitingResourceAdaptor(
        rmm.mr.CudaAsyncMemoryResource(), allocation_limit=in_bytes(memory_limit)
    )
    return pl.GPUEngine(executor="in-memory", raise_on_fail=True, memory_resource=pool)
