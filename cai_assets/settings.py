"""The environment as one frozen object.

Every variable the platform reads is a field here, with its meaning, unit and default; nothing else looks at
`os.environ`. What a value is used for belongs to the part that uses it. Variables come from the environment
and, below it, from a `.env` file in the working directory.
"""

from datetime import date
from decimal import Decimal
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Literal, Self
from zoneinfo import ZoneInfo, available_timezones

from pydantic import AfterValidator, Field, SecretStr, ValidationError, field_validator, model_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from cai_assets.opening_hours import Calendar, read_calendars


class SettingsError(ValueError):
    """One or more variables have a wrong or missing value; the message lists all of them."""


def _known_timezone(name: str) -> str:
    if name not in available_timezones():
        raise ValueError(f"{name!r} is no IANA time zone; write one like 'UTC' or 'Europe/Berlin'")
    return name


def _no_trailing_slash(url: str) -> str:
    if not url.startswith(("http://", "https://")):
        raise ValueError(f"{url!r} does not start with http:// or https://")
    return url.rstrip("/")


Url = Annotated[str, AfterValidator(_no_trailing_slash)]


class Settings(BaseSettings):
    """All settings, checked together when the object is made; secrets print as asterisks.

    Raises:
        SettingsError: by `load_settings`, naming each variable that is wrong.
    """

    model_config = SettingsConfigDict(env_file=".env", env_ignore_empty=True, extra="ignore", frozen=True)

    # -- where conversations come from
    source: Literal["nocodb", "files"] = Field("nocodb", description="Where conversations are read from.")
    source_dir: Path | None = Field(
        None, description="Folder of Parquet, JSONL or CSV files, for SOURCE=files."
    )
    nocodb_base_url: Url | None = Field(None, description="Address of the NocoDB server, without /api.")
    nocodb_api_token: SecretStr | None = Field(None, description="NocoDB API token, sent as xc-token.")
    nocodb_project_id: str | None = Field(None, description="Base: its id (p...) or its title.")
    nocodb_conversation_table: str = Field("conversations", description="Table id (m...) or title.")
    nocodb_messages_table: str = Field("messages", description="Table id (m...) or title.")
    nocodb_field_map: dict[Literal["conversations", "messages"], dict[str, str]] = Field(
        default_factory=dict,
        description='JSON: {"conversations": {"our name": "NocoDB column title"}, "messages": {...}}.',
    )
    nocodb_max_requests_per_second: float = Field(4, gt=0, description="NocoDB blocks above 5 for 30 s.")

    # -- MongoDB
    mongodb_uri: SecretStr | None = Field(None, description="mongodb:// address; it may hold a password.")
    mongodb_database: str = Field("cai", min_length=1)
    mongodb_conversations_collection: str = Field("conversations", min_length=1)
    mongodb_messages_collection: str = Field("messages", min_length=1)
    mongodb_categories_collection: str = Field("categories", min_length=1)
    mongodb_translations_collection: str = Field("translations", min_length=1)
    mongodb_analytics_reports_collection: str = Field("analytics_reports", min_length=1)
    mongodb_user_analytics_collection: str = Field("user_analytics", min_length=1)

    # -- Dify
    dify_base_url: Url | None = Field(None, description="Address of Dify's API, with /v1.")
    dify_translation_api_key: SecretStr | None = Field(None, description="Key of the translation workflow.")
    dify_category_api_key: SecretStr | None = Field(None, description="Key of the categorisation workflow.")
    dify_response_mode: Literal["streaming", "blocking"] = "streaming"
    dify_target_language: str = Field("en", pattern=r"^[a-z]{2,3}(-[A-Za-z0-9]+)*$", description="BCP 47.")
    dify_prompt_version: str = Field("1", min_length=1, description="Used for what is asked from now on.")
    dify_budget_tokens: int | None = Field(None, gt=0, description="Most tokens one run may use.")
    dify_budget_price: Decimal | None = Field(None, gt=0, description="Most money one run may use (USD).")
    dify_budget_tokens_per_day: int | None = Field(None, gt=0, description="Most tokens of one local day.")
    dify_budget_price_per_day: Decimal | None = Field(None, gt=0, description="Most money of one local day.")
    dify_texts_per_call: int = Field(20, gt=0, le=1000, description="For a workflow that takes a list.")

    # -- where the lake lives
    s3_enabled: bool = Field(False, description="Keep the lake on S3 instead of PARQUET_BASE_DIR.")
    s3_bucket: str | None = None
    s3_prefix: str = Field("cai", description="Key prefix inside the bucket.")
    s3_endpoint_url: Url | None = Field(None, description="For S3-compatible servers.")
    aws_access_key_id: SecretStr | None = None
    aws_secret_access_key: SecretStr | None = None
    aws_region: str = "us-east-1"
    parquet_storage_enabled: bool = Field(True, description="Keep the lake on local disk when S3 is off.")
    parquet_base_dir: Path = Path("lake")
    parquet_partition_by: Literal["day", "month"] = Field("day", description="How files are laid out.")
    parquet_compression: str = Field(
        "zstd:3",
        pattern=r"^(none|snappy|(zstd|gzip|brotli)(:\d+)?|lz4)$",
        description="Codec, with a level after a colon where the codec has levels.",
    )
    parquet_row_group_size: int = Field(131_072, gt=0, description="Rows.")
    parquet_page_size: int = Field(1_048_576, ge=1024, description="Bytes of a data page before compression.")
    parquet_target_file_size_mb: int = Field(
        256, gt=0, description="MiB; a larger file is continued in another."
    )
    parquet_max_records_per_file: int = Field(10_000_000, gt=0, description="Rows.")

    lake_retention_hours: int = Field(
        168, ge=1, description="Hours for which files stay after they were replaced."
    )
    raw_retention_days: int | None = Field(
        None, ge=1, description="Days for which raw rows stay, by their partition; unset: for ever."
    )

    # -- threads and batches
    enable_multithreading: bool = Field(True, description="false: everything in one thread, for debugging.")
    max_workers: int | None = Field(
        None, gt=0, description="Worker processes for the days of a range; unset: threads of this process."
    )
    chunk_size: int = Field(10_000, gt=0, description="Rows of an Arrow batch on their way to Parquet.")
    io_threads: int = Field(8, gt=0, description="Requests under way at once (Dify, MongoDB).")
    processing_threads: int | None = Field(None, gt=0, description="DuckDB's threads; unset: all cores.")
    batch_size: int = Field(1000, gt=0, le=100_000, description="Documents of one bulk write.")
    max_retries: int = Field(5, ge=0, description="Further tries after a failure that can pass.")
    retry_delay: float = Field(1.0, ge=0, description="Seconds before the first retry; doubled each time.")

    # -- engine
    engine: Literal["duckdb", "cudf", "spark"] = Field("duckdb", description="What runs the SQL models.")
    engine_per_table: dict[str, Literal["duckdb", "cudf", "spark"]] = Field(
        default_factory=dict,
        description='JSON: tables with their own engine, {"marts.user": "duckdb"}.',
    )
    duckdb_memory_limit: str | None = Field(
        None, pattern=r"^\d+(\.\d+)?\s?([KMGT]i?B|%)$", description="As '4GB'."
    )

    spark_remote: str | None = Field(
        None,
        pattern=r"^sc://\S+$",
        description="Spark Connect, as sc://host:15002; unset: a Spark of this process.",
    )
    enable_gpu: bool | None = Field(
        None,
        description="true: there must be a GPU; false: use none; unset: one if the driver shows one.",
    )
    gpu_memory_limit: str | None = Field(
        None, pattern=r"^\d+(\.\d+)?\s?[KMGT]i?B$", description="Most memory of the GPU, as '16GB'."
    )
    cuda_visible_devices: str | None = Field(
        None, pattern=r"^[\w,\- /]+$", description="Which GPUs, as CUDA takes it: '0' or a UUID."
    )

    dask_scheduler_address: str | None = Field(
        None,
        pattern=r"^[a-z]+://\S+$",
        description="Scheduler of the Dask cluster that the days of a range are spread over.",
    )

    # -- logging
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = Field(
        "INFO", description="Lowest level of what the platform and Dagster log in LOG_FILE."
    )
    log_file: Path | None = Field(None, description="File that is appended to; unset: none.")
    alert_webhook_url: SecretStr | None = Field(
        None, description="Incoming webhook of a chat, which is told of failures; whoever knows it can post."
    )
    dagster_ui_url: Url | None = Field(None, description="Address of the Dagster UI, for links in alerts.")

    # -- reports
    report_timezone: Annotated[str, AfterValidator(_known_timezone)] = Field("UTC", description="IANA zone.")
    business_hours: Annotated[tuple[Calendar, ...] | None, NoDecode] = Field(
        None, description="Opening hours: JSON, or the path of a JSON file; unset: no business time."
    )
    response_targets: Annotated[tuple[int, ...], NoDecode] = Field(
        (60, 300, 900), description="Seconds, comma-separated: shares of waits answered within each."
    )
    session_gap_minutes: int = Field(30, gt=0, description="A user's silence that ends a session.")
    topics: int = Field(12, ge=2, le=200, description="Topics that conversations are grouped into.")
    min_group_size: int = Field(
        1, ge=1, description="Published figures of fewer people or things than this are withheld."
    )
    partition_start_date: str = Field(
        "2020-01-01", pattern=r"^\d{4}-\d\d-\d\d$", description="First day; set it before the first run."
    )
    partition_end_date: str | None = Field(
        None,
        pattern=r"^\d{4}-\d\d-\d\d$",
        description="Last day, of a source that gets no newer ones; unset: today.",
    )

    # -- privacy
    pseudonym_key: SecretStr | None = Field(None, description="Key of the hashes that stand for user ids.")
    redact_text: Literal["off", "mask", "strict"] = Field(
        "mask", description="What is taken out of texts before they leave MongoDB."
    )
    redact_phone_regions: Annotated[tuple[str, ...], NoDecode] = Field(
        ("US", "GB", "DE", "FR", "ES", "IT"),
        description="Countries (ISO 3166) whose phone numbers are told without a country's code.",
    )
    redact_dify: bool = Field(True, description="Send Dify the masked texts; false: the original ones.")

    @field_validator("business_hours", mode="before")
    @classmethod
    def _read_hours(cls, value: Any) -> Any:
        return read_calendars(value) if isinstance(value, str) else value

    @field_validator("response_targets", mode="before")
    @classmethod
    def _split_targets(cls, value: Any) -> Any:
        return tuple(part.strip() for part in value.split(",")) if isinstance(value, str) else value

    @field_validator("response_targets")
    @classmethod
    def _targets_rise(cls, value: tuple[int, ...]) -> tuple[int, ...]:
        if len(value) != 3 or list(value) != sorted(set(value)) or value[0] <= 0:
            raise ValueError("write three rising numbers of seconds, as 60,300,900")
        return value

    @field_validator("redact_phone_regions", mode="before")
    @classmethod
    def _split_regions(cls, value: Any) -> Any:
        if isinstance(value, str):
            return tuple(part.strip().upper() for part in value.split(",") if part.strip())
        return value

    @field_validator("redact_phone_regions")
    @classmethod
    def _regions_are_countries(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        wrong = [one for one in value if not (len(one) == 2 and one.isascii() and one.isalpha())]
        if wrong:
            raise ValueError(f"{', '.join(map(repr, wrong))} is no country; write two letters, as US,DE")
        return value

    @field_validator("partition_start_date")
    @classmethod
    def _starts_on_a_day(cls, value: str) -> str:
        try:
            date.fromisoformat(value)
        except ValueError:
            raise ValueError(f"{value!r} is no day; write it as 2024-05-31") from None
        return value

    @field_validator("s3_prefix")
    @classmethod
    def _prefix_is_a_path(cls, value: str) -> str:
        parts = value.strip("/").split("/")
        if value.strip("/") and {"", ".", ".."} & set(parts):
            raise ValueError(f"{value!r} has an empty part, '.' or '..'; write it as team/cai")
        return value

    @field_validator("alert_webhook_url")
    @classmethod
    def _webhook_is_an_address(cls, value: SecretStr | None) -> SecretStr | None:
        if value is not None and not value.get_secret_value().startswith(("http://", "https://")):
            raise ValueError("it does not start with http:// or https://")  # the value stays secret
        return value

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if self.partition_end_date is not None and self.partition_end_date < self.partition_start_date:
            raise ValueError("PARTITION_END_DATE lies before PARTITION_START_DATE")
        if self.source == "files" and self.source_dir is None:
            raise ValueError("SOURCE=files needs SOURCE_DIR, the folder with conversations and messages")
        if self.s3_enabled and not self.s3_bucket:
            raise ValueError("S3_ENABLED needs S3_BUCKET")
        if not self.s3_enabled and not self.parquet_storage_enabled:
            raise ValueError("the lake has nowhere to live: set S3_ENABLED or PARQUET_STORAGE_ENABLED")
        return self

    @property
    def timezone(self) -> ZoneInfo:
        """The zone whose days are the partitions."""
        return ZoneInfo(self.report_timezone)

    @property
    def io_workers(self) -> int:
        """Threads for requests: 1 where multithreading is off."""
        return self.io_threads if self.enable_multithreading else 1


@cache
def load_settings() -> Settings:
    """Read the environment once; later calls return the same object.

    Raises:
        SettingsError: naming every variable that is wrong, what was wrong, never its value if it is secret.
    """
    try:
        return Settings()
    except ValidationError as error:
        lines = []
        for problem in error.errors(include_input=False, include_url=False):
            name = "_".join(str(part) for part in problem["loc"][:1]).upper() or "settings"
            lines.append(f"  {name}: {problem['msg'].removeprefix('Value error, ')}")
        raise SettingsError("wrong settings (see .env.example):\n" + "\n".join(lines)) from None
