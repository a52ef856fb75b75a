"""What `backfill.py` measures, each as a process: the graph, with bodies and without, and the script.

`python benchmarks/backfill_runs.py NAME WISH` (JSON) does one run, with the settings of its environment, and
prints a line of JSON. What is timed is the work alone: not the start of Python, not the imports, not the
loading of definitions.
"""

import cProfile
import functools
import inspect
import json
import logging
import os
import resource
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import dagster as dg
import pyarrow as pa

Wish = Mapping[str, Any]
Told = dict[str, Any]


class Recorded:
    """What the real bodies told: metadata of each asset and day, and what checks found."""

    def __init__(self, path: Path) -> None:
        told = json.loads(path.read_text(encoding="utf-8"))
        self._materialised: dict[str, dict[str | None, dg.AssetMaterialization]] = {}
        for text in told["materialised"]:
            one = dg.deserialize_value(text, dg.AssetMaterialization)
            self._materialised.setdefault(one.asset_key.to_user_string(), {})[one.partition] = one
        found = [dg.deserialize_value(text, dg.AssetCheckEvaluation) for text in told["checked"]]
        self._checked = {(one.asset_key.to_user_string(), one.check_name): one for one in found}

    def metadata(self, key: dg.AssetKey, days: Sequence[str | None]) -> tuple[Told, dict[str | None, Told]]:
        """What all of some days have in common, and what each has of its own."""
        known = self._materialised[key.to_user_string()]
        each = {day: dict(known[day].metadata) for day in days}
        first, *others = each.values()
        common = {
            name: value
            for name, value in first.items()
            if all(name in other and other[name] == value for other in others)
        }
        own = {
            day: {name: value for name, value in found.items() if name not in common}
            for day, found in each.items()
        }
        return common, own

    def check(self, key: dg.AssetCheckKey) -> dg.AssetCheckResult:
        """What a check found."""
        one = self._checked[key.asset_key.to_user_string(), key.name]
        return dg.AssetCheckResult(
            check_name=key.name,
            asset_key=key.asset_key,
            passed=one.passed,
            severity=one.severity,
            description=one.description,
            metadata=one.metadata,
        )


def record(path: Path, entries: Sequence[dg.EventLogEntry]) -> None:
    """Keep what bodies told, for `Recorded`."""
    events = [entry.dagster_event for entry in entries if entry.dagster_event is not None]
    materialised = [e.step_materialization_data.materialization for e in events if e.is_step_materialization]
    checked = [
        event.asset_check_evaluation_data
        for event in events
        if event.event_type == dg.DagsterEventType.ASSET_CHECK_EVALUATION
    ]
    told = {
        "materialised": [dg.serialize_value(one) for one in materialised],
        "checked": [dg.serialize_value(one) for one in checked],
    }
    path.write_text(json.dumps(told), encoding="utf-8")


class Replaying(dg.IOManager):
    """Keeps nothing, and tells what the real IO manager told."""

    def __init__(self, recorded: Recorded) -> None:
        self._recorded = recorded

    def handle_output(self, context: dg.OutputContext, _: object) -> None:
        """The metadata of the run's days."""
        days = list(context.asset_partition_keys) if context.has_asset_partitions else [None]
        common, own = self._recorded.metadata(context.asset_key, days)
        if len(own) == 1:
            common = {**common, **next(iter(own.values()))}
        else:
            for day, metadata in own.items():
                if metadata:
                    context.step_context.add_asset_metadata(metadata, context.asset_key, day)
        context.add_output_metadata(common)

    def load_input(self, context: dg.InputContext) -> object:
        """Something of the type that the body asks for."""
        return blank(context.dagster_type.typing_type)


def blank(kind: Any) -> Any:
    """Something of a type, with nothing in it."""
    if kind is pa.RecordBatchReader:
        return pa.RecordBatchReader.from_batches(pa.schema([]), [])
    return object.__new__(kind) if isinstance(kind, type) else None


def emptied(function: Callable[..., Any], recorded: Recorded) -> Callable[..., Any]:
    """A function that Dagster takes for the given one, and that returns at once with what that one told."""
    real = inspect.unwrap(function)
    returns = inspect.signature(real).return_annotation

    @functools.wraps(function)
    def outputs(*_: object, **__: object) -> Iterator[Any]:
        context = dg.AssetExecutionContext.get()
        for name in context.selected_output_names:
            if name in context.assets_def.keys_by_output_name:
                yield dg.Output(None, output_name=name)
        for key in context.selected_asset_check_keys:
            yield recorded.check(key)

    @functools.wraps(function)
    def nothing(*_: object, **__: object) -> Any:
        if returns is dg.AssetCheckResult:
            (key,) = dg.AssetCheckExecutionContext.get().selected_asset_check_keys
            return recorded.check(key)
        context = dg.AssetExecutionContext.get()
        if "MaterializeResult" not in str(returns):
            return blank(returns)
        days = [None] if context.assets_def.partitions_def is None else list(context.partition_keys)
        common, own = recorded.metadata(context.asset_key, days)
        for day, metadata in own.items():
            if metadata and day is not None:
                context.add_asset_metadata(metadata, partition_key=day)
        return dg.MaterializeResult(metadata={**common, **own.get(None, {})})

    return outputs if inspect.isgeneratorfunction(real) else nothing


def without_bodies(recorded: Recorded) -> dg.Definitions:
    """The graph, its bodies empty: assets, checks, partitions, policies and pools are the real ones."""
    for name in ("asset", "multi_asset", "asset_check"):
        real = getattr(dg, name)

        def decorator(*args: Any, _real: Any = real, **options: Any) -> Any:
            made = _real(*args, **options)
            return lambda function: made(emptied(function, recorded))

        setattr(dg, name, decorator)
    from cai_assets import definitions

    nothing = dg.ResourceDefinition.hardcoded_resource(None)
    names = ("source", "mongo", "duckdb", "engines", "spread", "business_days")
    keeps = dg.IOManagerDefinition.hardcoded_io_manager(Replaying(recorded))
    definitions.defs = definitions.build_definitions(
        **dict.fromkeys(names, nothing), parquet=keeps, documents=keeps
    )
    return definitions.defs


def graph(wish: Wish) -> Told:
    """The days through the graph, as `cai backfill` does it."""
    if wish["empty"]:
        without_bodies(Recorded(Path(wish["recorded"])))
    from rich.console import Console

    from cai_assets.commands.runs import materialize_days
    from cai_assets.definitions import defs

    defs.resolve_implicit_global_asset_job_def()
    with Path(os.devnull).open("w") as nowhere, watched(wish) as told:
        outcomes = materialize_days(
            wish["days"],
            (),
            Console(file=nowhere),
            days_per_run=wish["days_per_run"],
            command="benchmark",
        )
    failed = [f"{one.step}: {one.reason}" for outcome in outcomes for one in outcome.failures]
    failed += [text for outcome in outcomes for text in outcome.checks_failed]
    assert all(outcome.success for outcome in outcomes), failed
    assert not failed, failed
    with dg.DagsterInstance.get() as instance:
        entries = [entry for outcome in outcomes for entry in instance.all_logs(outcome.run_id)]
    if not wish["empty"]:
        record(Path(wish["recorded"]), entries)
    kinds = Counter(
        entry.dagster_event.event_type_value if entry.dagster_event else "log line" for entry in entries
    )
    home = Path(os.environ["DAGSTER_HOME"])
    return {
        **told,
        "runs": len(outcomes),
        "checks": sum(outcome.checks_passed for outcome in outcomes),
        "events": dict(kinds.most_common()),
        "event_bytes": sum(len(dg.serialize_value(entry)) for entry in entries),
        "records_mb": sum(file.stat().st_size for file in home.rglob("*") if file.is_file()) / 1e6,
    }


def script(wish: Wish) -> Told:
    """The same work by the bare script."""
    from backfill_script import script as work

    from cai_assets.settings import load_settings

    settings = load_settings()
    with watched(wish) as told:
        found = work(settings, wish["days"], wish["days_per_run"])
    return {**told, **found}


@contextmanager
def watched(wish: Wish) -> Iterator[Told]:
    """Wall and CPU seconds and peak memory of the block."""
    told: Told = {}
    profile = cProfile.Profile() if wish.get("profile") else None
    wall, cpu = time.perf_counter(), _cpu()
    if profile:
        profile.enable()
    yield told
    if profile:
        profile.disable()
        profile.dump_stats(wish["profile"])
    told |= {"wall": time.perf_counter() - wall, "cpu": _cpu() - cpu, "peak_mb": high_water_mb("self")}


def _cpu() -> float:
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(one.ru_utime + one.ru_stime for one in used)


def high_water_mb(process: int | str) -> float:
    """Most memory that a process ever had resident, MB."""
    for line in Path(f"/proc/{process}/status").read_text(encoding="ascii").splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024 / 1e6
    raise OSError(f"/proc/{process}/status tells no VmHWM: this benchmark needs Linux")


if __name__ == "__main__":
    logging.getLogger("dagster").setLevel(logging.CRITICAL)
    print(json.dumps({"graph": graph, "script": script}[sys.argv[1]](json.loads(sys.argv[2]))))
