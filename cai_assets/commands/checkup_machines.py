"""What `cai doctor` looks at where work is done and told of: engines, workers, logs, alerts. No data here."""

from collections.abc import Iterator
from functools import partial

from cai_assets.commands.findings import Finding, guarded
from cai_assets.failures import PermanentError, TransientError
from cai_assets.reaching import reach
from cai_assets.settings import Settings

_CONNECT_TIMEOUT_S = 3

# Groups a million rows: what DuckDB cannot do within DUCKDB_MEMORY_LIMIT, it will not do for the models.
_GROUPED = "select count(*) from (select range // 3 as k, count(*) from range(1000000) group by 1)"


def engine(settings: Settings) -> Iterator[Finding]:
    """What runs the SQL models: whether it can run them, and on what."""
    from cai_assets.engines.choice import check_models, chosen
    from cai_assets.engines.models import load_models

    models = load_models()
    check_models(models, settings)
    names = sorted({chosen(path, settings).name for path in models})
    yield Finding("Engine", "ok", f"{', '.join(names)} for {len(models)} models")
    yield from guarded("  DuckDB", partial(_duckdb, settings))
    if "cudf" in names or settings.enable_gpu or settings.cuda_visible_devices:
        yield from guarded("  device", partial(_device, settings))
    if "spark" in names or settings.spark_remote:
        yield from guarded("  Spark", partial(_spark, settings, used="spark" in names))


def _duckdb(settings: Settings) -> Iterator[Finding]:
    from cai_assets.engines.duckdb import DuckDBEngine

    with DuckDBEngine.from_settings(settings) as duckdb:
        duckdb.query(_GROUPED)
    limit = settings.duckdb_memory_limit
    yield Finding(
        "  DuckDB", "ok", f"memory: {limit or '80 % of the machine'}, beyond which it spills to disk"
    )


def _device(settings: Settings) -> Iterator[Finding]:
    from cai_assets.engines.gpu import find_device

    device = find_device(settings.enable_gpu, settings.cuda_visible_devices)
    wanted = settings.cuda_visible_devices is not None and settings.enable_gpu is not False
    hidden = wanted and device.kind == "cpu"
    yield Finding(
        "  device",
        "warn" if hidden else "ok",
        f"{device.name}: {device.why}"
        + (f"; CUDA_VISIBLE_DEVICES={settings.cuda_visible_devices} is of no use" if hidden else ""),
        "Mend the driver, or unset CUDA_VISIBLE_DEVICES." if hidden else "",
    )


def _spark(settings: Settings, *, used: bool) -> Iterator[Finding]:
    if settings.spark_remote is None:
        yield Finding("  Spark", "ok", "inside the process that runs the step")
        return
    reach(settings.spark_remote, "SPARK_REMOTE", _CONNECT_TIMEOUT_S)
    yield Finding(
        "  Spark",
        "ok" if used else "warn",
        f"{settings.spark_remote} answers" + ("" if used else ", but no table is made by Spark"),
        "" if used else "Set ENGINE=spark or ENGINE_PER_TABLE, or unset SPARK_REMOTE.",
    )


def workers(settings: Settings) -> Iterator[Finding]:
    """Who does the days of a range; a Dask cluster is asked for its workers."""
    from cai_assets.engines.spread import Spread

    if settings.dask_scheduler_address is None or not settings.enable_multithreading:
        yield Finding("Workers", "ok", f"days are done by {Spread.from_settings(settings)}")
        return
    with Spread.from_settings(settings) as spread:
        count = spread.worker_count()
    yield Finding(
        "Workers",
        "ok" if count else "warn",
        f"{spread}: {count} workers",
        "" if count else "Start workers there (dask worker ADDRESS), or unset DASK_SCHEDULER_ADDRESS.",
    )


def log_file(settings: Settings) -> Iterator[Finding]:
    """Whether LOG_FILE can be written."""
    from cai_assets.logs import open_log

    if settings.log_file is None:
        return
    open_log(settings.log_file).close()
    yield Finding("Log", "ok", f"{settings.log_level} and above also go to {settings.log_file}")


def alerts(settings: Settings) -> Iterator[Finding]:
    """Whether somebody listens where failures are told; nothing is posted."""
    if settings.alert_webhook_url is None:
        yield Finding(
            "Alerts", "ok", "nobody is told of failures", "Set ALERT_WEBHOOK_URL to have a chat told."
        )
    else:
        webhook = settings.alert_webhook_url.get_secret_value()
        host, _ = reach(webhook, "ALERT_WEBHOOK_URL", _CONNECT_TIMEOUT_S)
        yield Finding("Alerts", "ok", f"told to {host} (ALERT_WEBHOOK_URL), which takes connections")
    if settings.dagster_ui_url is not None:
        try:
            reach(settings.dagster_ui_url, "DAGSTER_UI_URL", _CONNECT_TIMEOUT_S)
        except (TransientError, PermanentError) as error:
            yield Finding("  links", "warn", str(error), "Start the UI there, or correct DAGSTER_UI_URL.")
        else:
            yield Finding("  links", "ok", f"to the UI at {settings.dagster_ui_url}")
