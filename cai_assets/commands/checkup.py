"""What `cai doctor` looks at: one function a subject, each giving findings. Nothing is printed here.

The servers of the source, MongoDB, Dify and the lake are in `checkup_servers`, what computes in
`checkup_machines`.
"""

import difflib
import os
import platform
import sys
from collections.abc import Callable, Collection, Iterable, Iterator
from datetime import datetime
from typing import Any

from pydantic import SecretStr

from cai_assets.commands.checkup_machines import alerts, engine, log_file, workers
from cai_assets.commands.checkup_servers import dify, mongo, source, store
from cai_assets.commands.findings import Finding, guarded
from cai_assets.domain.hiding import HIDDEN
from cai_assets.settings import Settings
from cai_assets.stack import MIN_FREE_BYTES, Home, HomeSettings, StackError, check_disk

PREFIXES = (
    *("NOCODB_", "MONGODB_", "DIFY_", "S3_", "PARQUET_", "LAKE_", "DUCKDB_", "DASK_", "CAI_", "REPORT_"),
    *("PARTITION_", "ENGINE_", "ALERT_", "PSEUDONYM_", "REDACT_", "RAW_", "MIN_GROUP_"),
)


def python_and_machine() -> Iterator[Finding]:
    """The interpreter and the operating system."""
    version = platform.python_version()
    fits = sys.version_info < (3, 14)
    yield Finding(
        "Python",
        "ok" if fits else "warn",
        f"{version}, {platform.system()} {platform.machine()}, {os.cpu_count()} cores",
        "" if fits else "The embedded database has no wheel for it: use 3.11 to 3.13, or set MONGODB_URI.",
    )


def settings_set(settings: Settings) -> Iterator[Finding]:
    """Which variables are set, what does not go together, and names that nothing reads."""
    given = sorted(settings.model_fields_set)
    shown = ", ".join(f"{name.upper()}={_printed(getattr(settings, name))}" for name in given)
    yield Finding("Settings", "ok", shown or "none set: everything is embedded, over sample conversations")
    for needed, because in (
        ("nocodb_base_url", ("nocodb_api_token", "nocodb_project_id")),
        ("dify_base_url", ("dify_translation_api_key", "dify_category_api_key")),
    ):
        present = [name.upper() for name in because if name in given]
        if present and needed not in given:
            yield Finding(
                "Settings",
                "warn",
                f"{' and '.join(present)} set without {needed.upper()}, so not used",
                f"Set {needed.upper()}.",
            )
    yield from _unknown_names()


def _printed(value: Any) -> str:
    return HIDDEN if isinstance(value, SecretStr) else str(value)


def _unknown_names() -> Iterator[Finding]:
    from dotenv import dotenv_values

    known = {name.upper() for kind in (Settings, HomeSettings) for name in kind.model_fields}
    written = {name.upper() for name in dotenv_values(".env")}
    in_environment = {name for name in os.environ if name.startswith(PREFIXES)}
    for name in sorted((written | in_environment) - known):
        close = difflib.get_close_matches(name, known, n=1)
        yield Finding(
            "Settings",
            "warn",
            f"{name} is set, but nothing reads a variable of that name",
            f"Did you mean {close[0]}?" if close else "See .env.example for the names.",
        )


def time_zone(settings: Settings) -> Iterator[Finding]:
    """The zone of the days, and the first day."""
    from cai_assets.partitions import DAILY

    today = datetime.now(settings.timezone).date().isoformat()
    if settings.partition_start_date > today:
        yield Finding(
            "Time zone",
            "fail",
            f"PARTITION_START_DATE={settings.partition_start_date} lies after today, {today}: no day is left",
            "Set it to the day of the oldest conversation that is wanted.",
        )
        return
    first, last = DAILY.get_first_partition_key(), DAILY.get_last_partition_key()
    yield Finding("Time zone", "ok", f"days of {settings.report_timezone}, {first} to {last}")


def disk(home: Home) -> Iterator[Finding]:
    """Room for the stack, the lake and what DuckDB spills."""
    free = check_disk(home.path, needed=0)
    enough = free >= MIN_FREE_BYTES
    yield Finding(
        "Disk",
        "ok" if enough else "fail",
        f"{free / 1024**3:.1f} GiB free at {home.path}",
        "" if enough else "Free some space, or set CAI_HOME to a folder on another disk: 1 GiB is needed.",
    )


def port(number: int, ui: str | None) -> Iterator[Finding]:
    """Whether the UI's usual port is free."""
    from cai_assets.commands.up import check_port

    if ui is not None:
        yield Finding("Port", "ok", f"the UI runs at {ui}")
        return
    try:
        check_port(number)
    except StackError as error:
        yield Finding("Port", "warn", str(error))
    else:
        yield Finding("Port", "ok", f"{number} is free for `cai up`")


def parquet(settings: Settings) -> Iterator[Finding]:
    """How files are written: whether the codec has the level that is asked for."""
    from cai_assets.resources.parquet_spec import ParquetSpec

    ParquetSpec.from_settings(settings)
    yield Finding("Parquet", "ok", f"PARQUET_COMPRESSION={settings.parquet_compression}")


def pseudonyms(settings: Settings, home: Home) -> Iterator[Finding]:
    """The key of the hashes that stand for users."""
    key = settings.pseudonym_key
    own = (
        home.key_file.is_file()
        and key is not None
        and home.key_file.read_text("ascii").strip() == (key.get_secret_value())
    )
    if key is None:
        yield Finding(
            "User ids", "fail", "PSEUDONYM_KEY is not set", "Set it to 32 or more random characters."
        )
    elif own:
        yield Finding(
            "User ids",
            "ok" if uses_sandbox_home(home) else "warn",
            f"hashed with the key kept in {home.key_file}",
            ""
            if uses_sandbox_home(home)
            else "Set PSEUDONYM_KEY, so that other machines make the same hashes.",
        )
    else:
        weak = len(key.get_secret_value()) < 32
        yield Finding(
            "User ids",
            "warn" if weak else "ok",
            "hashed with PSEUDONYM_KEY" + (", which has less than 32 characters" if weak else ""),
            "Short keys can be guessed; but another key makes other hashes, so change it with a new lake."
            if weak
            else "",
        )


def privacy(settings: Settings) -> Iterator[Finding]:
    """Masking and retention."""
    from cai_assets.domain.redaction import known_regions

    strange = sorted(set(settings.redact_phone_regions) - known_regions())
    dify = "masked" if settings.redact_dify and settings.redact_text != "off" else "original"
    yield Finding(
        "Texts",
        "fail" if strange else "warn" if settings.redact_text == "off" else "ok",
        f"REDACT_TEXT={settings.redact_text}; Dify gets the {dify} texts"
        + (f"; unknown countries in REDACT_PHONE_REGIONS: {', '.join(strange)}" if strange else ""),
        "Write countries as ISO 3166 does, as US,DE."
        if strange
        else "Addresses, numbers and keys stand in the lake and in reports; set REDACT_TEXT=mask."
        if settings.redact_text == "off"
        else "",
    )
    keep = settings.raw_retention_days
    yield Finding(
        "Raw rows",
        "ok",
        "kept for ever" if keep is None else f"kept for {keep} days",
        "They hold originals: set RAW_RETENTION_DAYS to let them go." if keep is None else "",
    )


def uses_sandbox_home(home: Home) -> bool:
    """Whether a home is one of sample or seeded conversations."""
    return home.path.name != "own"


def dagster(home_variable: str | None) -> Iterator[Finding]:
    """Dagster's instance and the code location."""
    import dagster as dg

    from cai_assets.definitions import defs

    with dg.DagsterInstance.get() as instance:
        runs = instance.get_runs_count()
    graph = defs.resolve_asset_graph()
    yield Finding(
        "Dagster",
        "ok",
        f"{dg.__version__}, {len(graph.materializable_asset_keys)} assets, "
        f"{len(graph.asset_check_keys)} checks, {runs:,} runs recorded in {home_variable}",
    )


def everything(
    settings: Settings,
    home: Home,
    *,
    given: set[str],
    sandbox: bool,
    without: Collection[str] = (),
) -> Iterator[Finding]:
    """All that needs the servers, in the order of the graph.

    Args:
        settings: now in force, the stack's addresses included.
        home: the stack's home.
        given: names of the settings that were set by hand.
        sandbox: whether conversations come from the sandbox.
        without: subjects that are not looked at.
    """
    embedded = "mongodb_uri" not in given
    # Somebody waits for the answer: a server that is not there now is told at once, not after half a minute.
    settings = settings.model_copy(update={"max_retries": 0})
    looks: tuple[tuple[str, Callable[[], Iterable[Finding]]], ...] = (
        ("Source", lambda: source(settings, sandbox=sandbox)),
        ("MongoDB", lambda: mongo(settings, embedded=embedded)),
        ("Dify", lambda: dify(settings, sandbox=sandbox and "dify_base_url" not in given)),
        ("Lake", lambda: store(settings)),
        ("Engine", lambda: engine(settings)),
        ("Workers", lambda: workers(settings)),
        ("User ids", lambda: pseudonyms(settings, home)),
        ("Privacy", lambda: privacy(settings)),
        ("Alerts", lambda: alerts(settings)),
    )
    for subject, look in looks:
        if subject not in without:
            yield from guarded(subject, look)
    if "Dagster" in without:
        return
    dagster_home = os.environ.get("DAGSTER_HOME")
    yield from guarded(
        "Dagster",
        lambda: dagster(dagster_home),
        f"DAGSTER_HOME={dagster_home} must be a folder that exists; its dagster.yaml names the servers that "
        "keep Dagster's records.",
    )


def without_stack(settings: Settings, home: Home, *, given: set[str], sandbox: bool) -> Iterator[Finding]:
    """What can be looked at although the stack cannot start: all that was set by hand.

    Args:
        settings: what the environment says.
        home: the stack's home.
        given: names of the settings that were set by hand.
        sandbox: whether conversations would come from the sandbox.
    """
    own = {
        "Source": not sandbox,
        "MongoDB": "mongodb_uri" in given,
        "Dify": "dify_base_url" in given or not sandbox,
        "Lake": settings.s3_enabled or "parquet_base_dir" in given,
        "User ids": "pseudonym_key" in given,
        "Dagster": "DAGSTER_HOME" in os.environ,
    }
    without = [subject for subject, is_own in own.items() if not is_own]
    yield from everything(settings, home, given=given, sandbox=sandbox, without=without)
    if without:
        yield Finding(
            "Not looked at",
            "warn",
            f"{', '.join(without)}: they are the stack's, which did not start",
            "Mend what Stack says, and look again.",
        )


def before_start(settings: Settings, home: Home, ui: str | None) -> Iterator[Finding]:
    """All that can be said without any server."""
    looks: tuple[tuple[str, Callable[[], Iterable[Finding]]], ...] = (
        ("Python", python_and_machine),
        ("Settings", lambda: settings_set(settings)),
        ("Time zone", lambda: time_zone(settings)),
        ("Disk", lambda: disk(home)),
        ("Port", lambda: port(3000, ui)),
        ("Log", lambda: log_file(settings)),
        ("Parquet", lambda: parquet(settings)),
    )
    for subject, look in looks:
        yield from guarded(subject, look)
