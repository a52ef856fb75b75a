"""Settings are checked together, name what is wrong, and never show a secret."""

import pytest

from cai_assets.settings import Settings, SettingsError, load_settings


def test_all_wrong_variables_are_named_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REPORT_TIMEZONE", "Mars/Olympus")
    monkeypatch.setenv("BATCH_SIZE", "many")
    monkeypatch.setenv("RESPONSE_TARGETS", "60,30,900")
    monkeypatch.setenv("NOCODB_BASE_URL", "nocodb.example")
    with pytest.raises(SettingsError) as error:
        load_settings()
    for name in ("REPORT_TIMEZONE", "BATCH_SIZE", "RESPONSE_TARGETS", "NOCODB_BASE_URL"):
        assert name in str(error.value)
    assert "Mars/Olympus" in str(error.value)


def test_a_wrong_value_beside_a_secret_does_not_show_the_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NOCODB_API_TOKEN", "top-secret-token")
    monkeypatch.setenv("MONGODB_URI", "mongodb://me:top-secret-word@db.example/")
    monkeypatch.setenv("IO_THREADS", "none")
    with pytest.raises(SettingsError) as error:
        load_settings()
    assert "top-secret" not in str(error.value)
    monkeypatch.setenv("IO_THREADS", "2")
    assert "top-secret" not in repr(load_settings())


@pytest.mark.parametrize(
    ("variables", "mend"),
    [
        ({"SOURCE": "files"}, "SOURCE_DIR"),
        ({"S3_ENABLED": "true"}, "S3_BUCKET"),
        ({"PARQUET_STORAGE_ENABLED": "false"}, "S3_ENABLED"),
    ],
)
def test_settings_that_need_another_say_which(
    monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], mend: str
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(SettingsError, match=mend):
        load_settings()


def test_empty_variables_are_as_if_unset(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOURCE_DIR", "")
    monkeypatch.setenv("DIFY_BUDGET_TOKENS", "")
    assert load_settings() == Settings(_env_file=None)


def test_one_thread_where_multithreading_is_off() -> None:
    assert Settings(_env_file=None, enable_multithreading=False, io_threads=32).io_workers == 1
