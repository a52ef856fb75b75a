"""Which engine runs a model, and whether it can: by the settings, told when the definitions load.

An engine itself is another module's; how days are divided among workers is `ranges`'.
"""

import contextlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Self

from cai_assets.engines.base import Engine, EngineName, Place
from cai_assets.engines.cudf import CudfEngine, import_polars
from cai_assets.engines.duckdb import DuckDBEngine
from cai_assets.engines.models import DUCKDB_ALONE, Model, TablePath
from cai_assets.engines.portable.reading import read_model
from cai_assets.engines.portable.vocabulary import NotPortable
from cai_assets.engines.spark import SparkEngine
from cai_assets.failures import PermanentError
from cai_assets.schemas.tables import TABLES
from cai_assets.settings import Settings


@dataclass(frozen=True)
class Chosen:
    """An engine, and why it is that one.

    Attributes:
        name: of the engine.
        why: for people.
    """

    name: EngineName
    why: str


def chosen(path: TablePath, settings: Settings) -> Chosen:
    """The engine of a model: DuckDB for the exceptions, else ENGINE_PER_TABLE, else ENGINE."""
    if path in DUCKDB_ALONE:
        return Chosen("duckdb", f"always: {DUCKDB_ALONE[path]}")
    name = ".".join(path)
    if name in settings.engine_per_table:
        return Chosen(settings.engine_per_table[name], f"ENGINE_PER_TABLE names {name}")
    return Chosen(settings.engine, f"ENGINE={settings.engine}")


def check_models(models: Mapping[TablePath, Model], settings: Settings) -> None:
    """Refuse models that their engine cannot run, and engines that are not installed, before anything runs.

    Raises:
        PermanentError: naming each model with its constructs and the way to write them, the tables that
            ENGINE_PER_TABLE names and that no model makes, or the extra that is missing.
    """
    known = {".".join(path) for path in models}
    if unknown := sorted(set(settings.engine_per_table) - known):
        raise PermanentError(
            f"ENGINE_PER_TABLE names {', '.join(unknown)}, which no model makes; models make "
            f"{', '.join(sorted(known))}"
        )
    used = {path: chosen(path, settings) for path in models}
    refused = [
        f"  {choice.name} ({choice.why}) cannot run {told}"
        for path, choice in used.items()
        if choice.name != "duckdb" and (told := _refusal(models[path]))
    ]
    if refused:
        raise PermanentError("\n".join(["models outside the portable part of SQL:", *refused]))
    if any(choice.name == "cudf" for choice in used.values()):
        import_polars(settings.processing_threads)


def _refusal(model: Model) -> str | None:
    try:
        read_model(model, TABLES[model.key])
    except NotPortable as error:
        return str(error)
    return None


def not_portable(models: Iterable[Model]) -> list[NotPortable]:
    """The models that only DuckDB can run, without those that are declared to be."""
    found = []
    for model in models:
        if model.key not in DUCKDB_ALONE:
            try:
                read_model(model, TABLES[model.key])
            except NotPortable as error:
                found.append(error)
    return found


class Engines:
    """The engines of one run, opened when first asked for and closed together."""

    def __init__(self, settings: Settings, place: Place) -> None:
        """Name settings and store; nothing is opened yet."""
        self._settings = settings
        self._place = place
        self._opened: dict[EngineName, DuckDBEngine | CudfEngine | SparkEngine] = {}
        self._closing = contextlib.ExitStack()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._opened.clear()
        self._closing.close()

    def of(self, path: TablePath) -> tuple[Engine, Chosen]:
        """The engine of a model, and why."""
        choice = chosen(path, self._settings)
        if choice.name not in self._opened:
            engine = self._open(choice.name)
            self._closing.enter_context(engine)
            self._opened[choice.name] = engine
        return self._opened[choice.name], choice

    def _open(self, name: EngineName) -> DuckDBEngine | CudfEngine | SparkEngine:
        if name == "cudf":
            return CudfEngine(self._settings, self._place)
        if name == "spark":
            return SparkEngine.from_settings(self._settings, self._place)
        return DuckDBEngine.from_settings(self._settings, prepare=self._place.duckdb_setup)
