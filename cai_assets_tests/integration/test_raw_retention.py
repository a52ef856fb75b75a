"""RAW_RETENTION_DAYS: old raw days go, with their files; what was made of them stays, and the checks know."""

from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pyarrow as pa
import pytest

from cai_assets.resources.object_store import ObjectStore
from cai_assets.resources.parquet_spec import ParquetSpec
from cai_assets.resources.storage import LakeTable
from cai_assets.resources.upkeep import tidy_all
from cai_assets.sandbox.process import SandboxProcess
from cai_assets.schemas import raw
from cai_assets_tests.fixtures.platform import PlatformFactory

AT = datetime(2024, 5, 1, tzinfo=UTC)


def _rows(*days: str, mark: str = "") -> pa.Table:
    return pa.table(
        {
            "partition": days,
            "id": range(len(days)),
            "created_at": [AT] * len(days),
            "updated_at": [None] * len(days),
            "extracted_at": [AT] * len(days),
            "row": [f'{{"conversation_id": "{day}{mark}"}}' for day in days],
        },
        schema=raw.CONVERSATIONS.arrow_schema,
    )


@pytest.mark.parametrize("layout", ["day", "month"])
def test_old_days_go_with_all_their_files_and_others_stay(lake_store: ObjectStore, layout: str) -> None:
    table = LakeTable(lake_store, raw.CONVERSATIONS, ParquetSpec(layout=layout))
    days = ["2024-05-01", "2024-05-02", "2024-05-03"]
    table.replace(days, _rows(*days, mark="old"))
    table.replace(days, _rows(*days))
    before = len(lake_store.list_files("raw", "conversations"))
    (_, done), *_ = tidy_all([table], timedelta(hours=99), raw_days=1, today=date(2024, 5, 4))
    assert done.dropped == ("2024-05-01", "2024-05-02")
    assert table.partitions() == ["2024-05-03"]
    assert table.missing(days) == ["2024-05-01", "2024-05-02"]
    data = [file for file in lake_store.list_files("raw", "conversations") if file.path.endswith(".parquet")]
    files = [file.path for file in data if not file.path.startswith("_delta_log/")]
    assert len(files) == 2, "the newest day, and its version before, which LAKE_RETENTION_HOURS keeps"
    assert before > len(files)
    assert table.select().to_table()["partition"].to_pylist() == ["2024-05-03"]
    (_, again), *_ = tidy_all([table], timedelta(hours=99), raw_days=1, today=date(2024, 5, 4))
    assert again.dropped == ()
    table.replace(["2024-05-01"], _rows("2024-05-01"))  # a late change brings its day back for a night
    assert table.partitions() == ["2024-05-01", "2024-05-03"]


def test_without_the_setting_every_day_stays(local_store: ObjectStore) -> None:
    table = LakeTable(local_store, raw.CONVERSATIONS)
    table.replace(["2020-01-01"], _rows("2020-01-01"))
    (_, done), *_ = tidy_all([table], timedelta(hours=1))
    assert done.dropped == ()
    assert table.partitions() == ["2020-01-01"]


def test_documents_stay_and_the_checks_understand(
    make_platform: PlatformFactory, six_days_sandbox: SandboxProcess, tmp_path: Path
) -> None:
    platform = make_platform(six_days_sandbox)
    assert platform.run("2025-03-20", "2025-03-21", select="group:raw or group:documents").success
    tables = [platform.lake_table("raw", name) for name in ("conversations", "messages")]
    list(tidy_all(tables, timedelta(hours=1), raw_days=1, today=date(2025, 3, 22)))
    assert tables[0].partitions() == ["2025-03-21"]
    with platform.mongo() as store:
        assert all(store.live_counts("conversations", ["2025-03-20", "2025-03-21"]).values())
    checks = [
        one
        for one in platform.check("2025-03-20", "2025-03-21")
        if one.check_name == "raw_rows_are_all_accounted_for"
    ]
    assert len(checks) == 2
    assert all(one.passed for one in checks), checks
