"""Each variable broken in turn: the error at start names it, whichever it is.

Those that any text fits (tokens, names of tables and buckets) are wrong only for a server; `cai doctor` names
them (`integration/test_doctor.py`).
"""

import pytest

from cai_assets.settings import Settings, SettingsError, load_settings

BROKEN = {
    "SOURCE": "excel",
    "NOCODB_BASE_URL": "nocodb.example.com",
    "NOCODB_FIELD_MAP": '{"conversation": {}}',
    "NOCODB_MAX_REQUESTS_PER_SECOND": "0",
    "DIFY_BASE_URL": "api.dify.ai/v1",
    "DIFY_RESPONSE_MODE": "stream",
    "DIFY_TARGET_LANGUAGE": "English",
    "DIFY_BUDGET_TOKENS": "-1",
    "DIFY_BUDGET_PRICE": "cheap",
    "DIFY_BUDGET_TOKENS_PER_DAY": "0",
    "DIFY_BUDGET_PRICE_PER_DAY": "0",
    "DIFY_TEXTS_PER_CALL": "1001",
    "S3_ENABLED": "perhaps",
    "S3_ENDPOINT_URL": "localhost:8333",
    "PARQUET_STORAGE_ENABLED": "perhaps",
    "PARQUET_PARTITION_BY": "week",
    "PARQUET_COMPRESSION": "rar",
    "PARQUET_ROW_GROUP_SIZE": "0",
    "PARQUET_PAGE_SIZE": "12",
    "PARQUET_TARGET_FILE_SIZE_MB": "0",
    "PARQUET_MAX_RECORDS_PER_FILE": "0",
    "LAKE_RETENTION_HOURS": "0",
    "RAW_RETENTION_DAYS": "0",
    "ENABLE_MULTITHREADING": "perhaps",
    "MAX_WORKERS": "0",
    "CHUNK_SIZE": "0",
    "IO_THREADS": "0",
    "PROCESSING_THREADS": "0",
    "BATCH_SIZE": "0",
    "MAX_RETRIES": "-1",
    "RETRY_DELAY": "-1",
    "ENGINE": "oracle",
    "ENGINE_PER_TABLE": '{"marts.user": "oracle"}',
    "DUCKDB_MEMORY_LIMIT": "much",
    "DASK_SCHEDULER_ADDRESS": "scheduler:8786",
    "SPARK_REMOTE": "spark://host:7077",
    "ENABLE_GPU": "perhaps",
    "GPU_MEMORY_LIMIT": "80%",
    "CUDA_VISIBLE_DEVICES": "first; second",
    "LOG_LEVEL": "LOUD",
    "ALERT_WEBHOOK_URL": "hooks.example.com",
    "DAGSTER_UI_URL": "dagster.example.com",
    "REPORT_TIMEZONE": "Mars/Olympus",
    "RESPONSE_TARGETS": "60,30,900",
    "SESSION_GAP_MINUTES": "0",
    "BUSINESS_HOURS": '{"week": {"mon": ["9-17"]}}',
    "PARTITION_START_DATE": "yesterday",
    "PARTITION_END_DATE": "tomorrow",
    "MIN_GROUP_SIZE": "0",
    "REDACT_TEXT": "some",
    "REDACT_PHONE_REGIONS": "Germany",
    "REDACT_DIFY": "perhaps",
    "TOPICS": "0",
}
"""A value of each that cannot be meant."""

ANY_TEXT = {
    "SOURCE_DIR",
    "NOCODB_API_TOKEN",
    "NOCODB_PROJECT_ID",
    "NOCODB_CONVERSATION_TABLE",
    "NOCODB_MESSAGES_TABLE",
    "MONGODB_URI",
    "MONGODB_DATABASE",
    "MONGODB_CONVERSATIONS_COLLECTION",
    "MONGODB_MESSAGES_COLLECTION",
    "MONGODB_CATEGORIES_COLLECTION",
    "MONGODB_TRANSLATIONS_COLLECTION",
    "MONGODB_ANALYTICS_REPORTS_COLLECTION",
    "MONGODB_USER_ANALYTICS_COLLECTION",
    "DIFY_TRANSLATION_API_KEY",
    "DIFY_CATEGORY_API_KEY",
    "DIFY_PROMPT_VERSION",
    "S3_BUCKET",
    "S3_PREFIX",
    "AWS_ACCESS_KEY_ID",
    "AWS_SECRET_ACCESS_KEY",
    "AWS_REGION",
    "PARQUET_BASE_DIR",
    "LOG_FILE",
    "PSEUDONYM_KEY",
}


def test_every_variable_is_looked_at() -> None:
    assert {name.upper() for name in Settings.model_fields} == set(BROKEN) | ANY_TEXT


@pytest.mark.parametrize("name", sorted(BROKEN))
def test_a_broken_variable_is_named(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv(name, BROKEN[name])
    with pytest.raises(SettingsError, match=rf"(?m)^  {name}: \S"):
        load_settings()
