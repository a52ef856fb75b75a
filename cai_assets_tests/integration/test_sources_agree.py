"""Documents, lake and facts are the same, whether the rows come from a server or from files of any format."""

import json
from pathlib import Path

import pyarrow.csv as pacsv
import pyarrow.parquet as pq

from cai_assets.sandbox.process import SandboxProcess
from cai_assets_tests.fixtures.platform import PlatformFactory

SELECTION = "group:raw or group:documents or group:lake or group:facts"
DAY = "2024-05-01"
OF_THE_RUN = {("raw", "conversations"), ("raw", "messages")}
"""Their rows hold the values as each source writes them, as `1` and `true`."""


def test_files_of_each_format_and_a_server_give_the_same_documents_lake_and_facts(
    many_folder: Path, tmp_path: Path, make_platform: PlatformFactory
) -> None:
    for form in ("jsonl", "csv"):
        (tmp_path / form).mkdir()
        for name in ("conversations", "messages"):
            table = pq.read_table(many_folder / f"{name}.parquet")
            if form == "csv":
                pacsv.write_csv(table, tmp_path / form / f"{name}.csv")
            else:
                frame = [
                    {
                        key: value.isoformat() if hasattr(value, "isoformat") else value
                        for key, value in row.items()
                    }
                    for row in table.to_pylist()
                ]
                (tmp_path / form / f"{name}.jsonl").write_text(
                    "".join(f"{json.dumps(row)}\n" for row in frame)
                )
    found = {}
    with SandboxProcess.start(many_folder) as sandbox:
        sources = {
            "server": sandbox,
            **{
                form: {"SOURCE": "files", "SOURCE_DIR": str(folder)}
                for form, folder in (
                    ("parquet", many_folder), ("jsonl", tmp_path / "jsonl"), ("csv", tmp_path / "csv")
                )
            },
        }  # fmt: skip
        for name, source in sources.items():
            platform = make_platform(source, nocodb_max_requests_per_second=1000)
            platform.run(DAY, select=SELECTION)
            found[name] = platform.values(but=OF_THE_RUN)
            assert len(found[name]["lake", "messages"]) == 720
            assert len(found[name]["facts", "fct_conversation"]) == 60
    for name in ("parquet", "jsonl", "csv"):
        for path, rows in found["server"].items():
            assert found[name][path] == rows, f"{'/'.join(path)} from {name} differs from the server's"
