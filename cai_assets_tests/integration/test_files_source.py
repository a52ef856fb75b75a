"""A folder of files is a source like a server: the same rows in the same order, and errors that say where."""

import csv
import gzip
import json
import os
import signal
import subprocess
import sys
from collections import Counter
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from cai_assets.domain.documents import parse_row
from cai_assets.resources import scratch
from cai_assets.resources.files import FilesSource
from cai_assets.resources.nocodb import NocoDBSource
from cai_assets.resources.source import CONVERSATIONS, MESSAGES, SourceError, SourceMissingError
from cai_assets.sandbox.process import SandboxProcess
from cai_assets.settings import Settings
from cai_assets_tests.conftest import REPOSITORY, shared_data
from cai_assets_tests.fixtures.sources import DAY, ODD_IDS, nocodb_settings, tricky_rows, write_tables

NEXT = DAY + timedelta(days=1)


@pytest.fixture
def opened():
    """Make a source over a folder; it is closed after the test."""
    made = []

    def build(folder, **changes):
        made.append(FilesSource(Settings(_env_file=None, source="files", source_dir=folder, **changes)))
        return made[-1]

    yield build
    for source in made:
        source.close()


def as_text(row):
    return {k: v.isoformat() if isinstance(v, datetime) else v for k, v in row.items()}


def write_jsonl(folder, *, packed=False):
    for name, rows in zip(("conversations", "messages"), tricky_rows(), strict=True):
        lines = "".join(json.dumps(as_text(row), ensure_ascii=False) + "\n" for row in rows)
        if packed:
            (folder / f"{name}.jsonl.gz").write_bytes(gzip.compress(lines.encode()))
        else:
            (folder / f"{name}.jsonl").write_text(lines)


def write_csv(folder, delimiter=",", encoding="utf-8"):
    for name, rows in zip(("conversations", "messages"), tricky_rows(), strict=True):
        with (folder / f"{name}.csv").open("w", encoding=encoding, newline="") as file:
            writer = csv.writer(file, delimiter=delimiter, quoting=csv.QUOTE_ALL)
            writer.writerow(rows[0])
            writer.writerows(as_text(row).values() for row in rows)


def write_many(folder):
    for name, rows in zip(("conversations", "messages"), tricky_rows(), strict=True):
        (folder / name).mkdir()
        for n in range(3):
            pq.write_table(pa.Table.from_pylist(rows[n::3]), folder / name / f"part-{n}.parquet")


FORMATS = {
    "parquet": lambda folder: write_tables(folder, *tricky_rows()),
    "folders": write_many,
    "jsonl": write_jsonl,
    "jsonl.gz": lambda folder: write_jsonl(folder, packed=True),
    "csv": write_csv,
    "csv;bom": lambda folder: write_csv(folder, ";", "utf-8-sig"),
}


@pytest.mark.parametrize("form", FORMATS)
def test_each_format_gives_the_same_days_messages_and_numbers(tmp_path, opened, form):
    FORMATS[form](tmp_path)
    source = opened(tmp_path, partition_start_date="2024-05-01")
    stream = source.conversations(DAY, NEXT)
    rows = list(stream)
    assert [row.values["conversation_id"] for row in rows] == ["first", *ODD_IDS, "last"]
    assert [row.id for row in rows] == list(range(2, 4 + len(ODD_IDS)))
    assert stream.source_rows == len(rows)
    assert rows[0].started_at == rows[0].created_at == DAY
    spoken = source.messages(["first", *ODD_IDS, "", " ", "nobody"])
    messages = list(spoken)
    assert Counter(row.values["conversation_id"] for row in messages) == dict.fromkeys(["first", *ODD_IDS], 2)
    assert spoken.source_rows == len(messages)
    assert [row.values["text"] for row in messages[:2]] == ['Grüße, "alle"\nzusammen', ""]
    assert [int(row.values["seq"]) for row in messages[:2]] == [0, 1]
    report = source.check()
    assert [table.rows for table in report.tables] == [6 + len(ODD_IDS), 2 * (6 + len(ODD_IDS))]
    assert (report.undated, report.before_first_day) == (1, 1)
    assert len(report.warnings) == 2


def documents(source, start, end):
    """Id, number, fields and content hash of the documents of all rows, or why a row is none."""
    conversations = list(source.conversations(start, end))
    messages = list(source.messages([row.values["conversation_id"] for row in conversations]))
    return [
        sorted((row.id, *parse_row(name, json.dumps(row.values))) for row in rows)
        for name, rows in (("conversations", conversations), ("messages", messages))
    ]


@pytest.mark.parametrize("form", ["tricky", "csv", "star", "bcontrast"])
def test_files_and_server_give_equal_documents(tmp_path, tricky_folder, opened, form):
    served = tricky_folder if form in ("tricky", "csv") else shared_data(form)
    folder = served
    if form == "csv":
        write_csv(folder := tmp_path)
    start = {"star": datetime(2020, 5, 12, tzinfo=UTC), "bcontrast": datetime(2024, 1, 1, tzinfo=UTC)}.get(
        form, DAY
    )
    end = start + timedelta(days=3)
    with SandboxProcess.start(served) as sandbox:
        server = NocoDBSource(nocodb_settings(sandbox))
        expected = documents(server, start, end)
        server.close()
    found = documents(opened(folder), start, end)
    assert found == expected
    assert min(map(len, found)) > 5


def test_ids_and_system_times_of_the_files_are_kept(tmp_path, opened):
    conversations, messages = tricky_rows()
    for n, row in enumerate(conversations):
        row |= {"Id": 100 - n, "CreatedAt": "2024-05-03 01:02:03+00:00", "UpdatedAt": None}
    source = opened(write_tables(tmp_path, conversations, messages))
    rows = list(source.conversations(DAY, NEXT))
    assert [row.id for row in rows] == sorted(row.id for row in rows)
    assert {row.values["conversation_id"]: row.id for row in rows}["first"] == 99
    assert {row.created_at for row in rows} == {datetime(2024, 5, 3, 1, 2, 3, tzinfo=UTC)}
    assert {row.updated_at for row in rows} == {None}
    assert "Id" not in rows[0].values


def test_microseconds_zones_and_nested_values_survive_parquet(tmp_path, opened):
    instant = datetime(2024, 5, 1, 3, 4, 5, 123456, tzinfo=UTC)
    zone = pa.timestamp("us", "America/New_York")
    conversations = pa.table(
        {
            "conversation_id": pa.array([b"c1", b"c2"], pa.binary()),
            "user_id": ["u", "u"],
            "status": pa.array(["open", "open"]).dictionary_encode(),
            "started_at": pa.array([instant, instant], zone),
            "ended_at": pa.array([instant.replace(tzinfo=None)] * 2, pa.timestamp("ns")),
            "tags": [["a", "b"], None],
            "attrs": [{"k": 1}, {"k": None}],
            "csat_score": [float("nan"), 4.5],
        }
    )
    pq.write_table(conversations, tmp_path / "conversations.parquet")
    _, messages = tricky_rows()
    pq.write_table(pa.Table.from_pylist(messages), tmp_path / "messages.parquet")
    rows = list(opened(tmp_path).conversations(DAY, NEXT))
    assert [row.values for row in rows] == [
        {
            "conversation_id": one,
            "user_id": "u",
            "status": "open",
            "started_at": "2024-05-01T03:04:05.123456+00:00",
            "ended_at": "2024-05-01T03:04:05.123456+00:00",
            "tags": tags,
            "attrs": attrs,
            "csat_score": score,
        }
        for one, tags, attrs, score in (("c1", ["a", "b"], {"k": 1}, None), ("c2", None, {"k": None}, 4.5))
    ]


def test_rows_of_jsonl_are_kept_to_the_letter_and_mapped(tmp_path, opened):
    row = {
        "ID/1": 5,
        "user_id": 7,
        "status": None,
        "started_at": "2024-05-01T00:00:00.5Z",
        "attrs": {"a": [1.5]},
    }
    (tmp_path / "conversations.ndjson").write_text(json.dumps(row) + "\n\n" + json.dumps({"ID/1": 6}) + "\n")
    (tmp_path / "messages.jsonl").write_text(json.dumps(dict.fromkeys(MESSAGES.required)) + "\n")
    source = opened(tmp_path, nocodb_field_map={"conversations": {"conversation_id": "ID/1"}})
    (found,) = source.conversations(DAY, NEXT)
    assert found.values == {
        "conversation_id": 5,
        "user_id": 7,
        "status": None,
        "started_at": "2024-05-01T00:00:00.5Z",
        "attrs": {"a": [1.5]},
    }
    assert source.check().undated == 1


def test_files_that_change_are_read_again(tmp_path, opened):
    conversations, messages = tricky_rows()
    source = opened(write_tables(tmp_path, conversations, messages))
    assert len(list(source.conversations(DAY, NEXT))) == 2 + len(ODD_IDS)
    write_tables(tmp_path, conversations[:2], messages)
    assert len(list(source.conversations(DAY, NEXT))) == 1


def test_a_memory_limit_may_be_a_share_of_the_machine(tricky_folder, opened):
    assert list(opened(tricky_folder, duckdb_memory_limit="50%").messages(["first"]))


def test_nothing_is_left_behind(tmp_path, tricky_folder, opened, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    source = opened(tricky_folder, duckdb_memory_limit="500MB", processing_threads=1)
    assert list(source.messages(["first"]))
    (base,) = tmp_path.iterdir()
    assert list(base.iterdir())
    source.close()
    assert not list(base.iterdir())
    assert list(source.messages(["first"])), "a closed source opens again"


def test_what_a_killed_process_left_is_removed_by_the_next(tmp_path, tricky_folder, opened, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    killed = (
        "import os, sys; from cai_assets_tests.integration.test_files_source import die; die(sys.argv[1])"
    )
    environment = {**os.environ, "TMPDIR": str(tmp_path)}
    command = [sys.executable, "-c", killed, str(tricky_folder)]
    ended = subprocess.run(command, env=environment, cwd=REPOSITORY, check=False)
    assert ended.returncode == -signal.SIGKILL
    (base,) = tmp_path.iterdir()
    assert len(list(base.iterdir())) == 1
    monkeypatch.setattr(scratch, "GRACE_S", 0.0)
    source = opened(tricky_folder)
    assert list(source.messages(["first"]))
    source.close()
    assert not list(base.iterdir())


def die(folder: str) -> None:
    """End as a killed process does, with the source open; run in a process of its own."""
    source = FilesSource(Settings(_env_file=None, source="files", source_dir=Path(folder)))
    assert list(source.messages(["first"]))
    os.kill(os.getpid(), signal.SIGKILL)


def header(table):
    return ",".join(table.required)


@pytest.mark.parametrize(
    ("files", "error", "message"),
    [
        ({}, SourceMissingError, r"has no conversations\*.parquet.*it has nothing"),
        ({"conversations.xlsx": "x"}, SourceMissingError, "it has conversations.xlsx"),
        (
            {"conversations.csv": header(CONVERSATIONS), "conversations.jsonl": "{}"},
            SourceError,
            "more than once: conversations.csv, conversations.jsonl",
        ),
        (
            {"conversations.csv": "conversation_id,status\n"},
            SourceMissingError,
            r"lacks .* user_id, started_at; it has",
        ),
        ({"conversations.csv": "a,b,a\n1,2,3\n"}, SourceError, "line 1: the header names a twice"),
        ({"conversations.csv": ""}, SourceError, "line 1: the header is empty"),
        (
            {"conversations.csv": header(CONVERSATIONS) + "\nc1,u1,open,2024-05-01\nsecret\n"},
            SourceError,
            "conversations.csv, line 3: Expected Number of Columns: 4 Found: 1",
        ),
        (
            {"conversations.csv": header(CONVERSATIONS) + '\nc1,u1,open,"secret'},
            SourceError,
            "conversations.csv, line 2: Value with unterminated quote",
        ),
        (
            {"conversations.jsonl": '{"conversation_id": "secret"}\n{"conversation_id": \n'},
            SourceError,
            "conversations.jsonl, line 2: no JSON: Expecting value",
        ),
        (
            {"conversations.jsonl": '{"a": 1}\n[1]\n'},
            SourceError,
            r"conversations.jsonl: 1 line\(s\) hold something",
        ),
        (
            {"conversations.parquet": "PAR1 secret"},
            SourceError,
            "cannot read .*conversations.parquet: .*Parquet file",
        ),
        (
            {
                "conversations.csv": "Id,"
                + header(CONVERSATIONS)
                + "\n1,c,u,open,2024-05-01\n1,d,u,open,2024-05-01\n"
            },
            SourceError,
            "Id 1 of conversations stands on more than one row",
        ),
        (
            {"conversations.csv": "Id," + header(CONVERSATIONS) + "\n1.5,c,u,open,2024-05-01\n"},
            SourceError,
            "conversations.csv: Id '1.5' is no whole number",
        ),
        (
            {"conversations.csv": "CreatedAt," + header(CONVERSATIONS) + "\nsoon,c,u,open,2024-05-01\n"},
            SourceError,
            "conversations.csv, row 1 of conversations: CreatedAt: 'soon' is no ISO 8601 time",
        ),
    ],
    ids=lambda value: next(iter(value), "none") if isinstance(value, dict) else None,
)
def test_what_is_wrong_with_a_file_names_the_place_and_not_the_text(tmp_path, opened, files, error, message):
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    with pytest.raises(error, match=message) as caught:
        list(opened(tmp_path).conversations(DAY, NEXT))
    assert "secret" not in str(caught.value)


def test_a_folder_that_is_not_there_is_named(tmp_path, opened):
    with pytest.raises(SourceMissingError, match=r"SOURCE_DIR=.*nowhere is no folder"):
        opened(tmp_path / "nowhere").check()


def test_missing_messages_columns_are_found_by_the_check(tmp_path, opened):
    write_csv(tmp_path)
    (tmp_path / "messages.csv").write_text(header(MESSAGES).replace("text", "body") + "\n")
    with pytest.raises(
        SourceMissingError, match=r"messages.csv lacks the column\(s\) text; it has message_id"
    ):
        opened(tmp_path).check()
    source = opened(tmp_path, nocodb_field_map={"messages": {"text": "body"}})
    assert source.check().warnings[-1].endswith("messages.csv: no rows")
