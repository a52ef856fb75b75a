"""Every PARQUET_* setting shows in the files; their bytes depend on the rows and the settings alone."""

import io
import random
import threading
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as examples
from hypothesis import strategies as st

from cai_assets.failures import PermanentError
from cai_assets.resources.arrow import batches_of
from cai_assets.resources.parquet_spec import DICTIONARY_ROWS, ParquetSpec
from cai_assets.resources.parquet_writer import Part, write_empty_part, write_parts
from cai_assets.settings import Settings
from cai_assets_tests.fixtures.lake import EVENTS, SINGLE, events

DAY = "2024-05-01"


def spec(**variables: object) -> ParquetSpec:
    return ParquetSpec.from_settings(Settings.model_validate(variables))


def write(folder: Path, data: pa.Table, spec: ParquetSpec) -> list[Part]:
    folder.mkdir(exist_ok=True)
    return list(write_parts(batches_of(data, spec.batch_rows), EVENTS, spec, folder))


def one_file(folder: Path, data: pa.Table, **variables: object) -> pq.FileMetaData:
    (part,) = write(folder, data, spec(**variables))
    (file,) = part.files
    return pq.read_metadata(file.path)


def noisy(rows: int, seed: int = 0) -> pa.Table:
    """Rows of one day whose texts hardly compress."""
    source = random.Random(seed)
    data = events({DAY: rows})
    texts = pa.array(["".join(source.choices("0123456789abcdefghijklmnopqrstuv", k=80)) for _ in range(rows)])
    return data.set_column(data.column_names.index("text"), data.schema.field("text"), texts)


def page_bytes(path: Path, column: int) -> list[int]:
    """Sizes before compression of a column's data pages in the first row group, from the page headers."""
    chunk = pq.read_metadata(path).row_group(0).column(column)
    start = chunk.data_page_offset
    end = (chunk.dictionary_page_offset or start) + chunk.total_compressed_size
    file = io.BytesIO(path.read_bytes())
    file.seek(start)
    sizes = []
    while file.tell() < end:
        header = _thrift_struct(file)
        sizes.append(header[2])
        file.seek(header[3], io.SEEK_CUR)
    return sizes


def _thrift_struct(file: io.BytesIO) -> dict[int, int]:
    """The integers of a struct in Thrift's compact protocol by field number; others are passed over."""
    fields: dict[int, int] = {}
    number = 0
    while (byte := file.read(1)[0]) != 0:
        kind = byte & 0x0F
        number = number + (byte >> 4) if byte >> 4 else _zigzag(file)
        if kind in (4, 5, 6):
            fields[number] = _zigzag(file)
        elif kind == 8:
            file.seek(_varint(file), io.SEEK_CUR)
        elif kind == 12:
            _thrift_struct(file)
        else:
            assert kind in (1, 2), f"unexpected kind {kind} in a page header"
    return fields


def _varint(file: io.BytesIO) -> int:
    value = shift = 0
    while True:
        byte = file.read(1)[0]
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value
        shift += 7


def _zigzag(file: io.BytesIO) -> int:
    value = _varint(file)
    return (value >> 1) ^ -(value & 1)


@pytest.mark.parametrize(
    ("setting", "name"),
    [
        ("none", "UNCOMPRESSED"),
        ("snappy", "SNAPPY"),
        ("zstd", "ZSTD"),
        ("zstd:9", "ZSTD"),
        ("gzip:6", "GZIP"),
        ("brotli:4", "BROTLI"),
        ("lz4", "LZ4"),
    ],
)
def test_compression_is_the_codec_in_the_footer(tmp_path: Path, setting: str, name: str) -> None:
    metadata = one_file(tmp_path, events({DAY: 500}), parquet_compression=setting)
    assert {metadata.row_group(0).column(i).compression for i in range(metadata.num_columns)} == {name}


def test_compression_level_makes_smaller_files(tmp_path: Path) -> None:
    data = noisy(20_000)
    sizes = [
        write(tmp_path / str(level), data, spec(parquet_compression=f"zstd:{level}"))[0].files[0].size
        for level in (1, 19)
    ]
    assert sizes[1] < sizes[0]


@pytest.mark.parametrize("setting", ["zstd:99", "gzip:10", "brotli:12"])
def test_a_level_that_the_codec_lacks_is_refused(setting: str) -> None:
    with pytest.raises(PermanentError, match=r"PARQUET_COMPRESSION: .* has levels 1 to \d+"):
        spec(parquet_compression=setting)


def test_row_groups_have_exactly_the_rows_asked_for(tmp_path: Path) -> None:
    metadata = one_file(tmp_path, events({DAY: 2_500}), parquet_row_group_size=1_000)
    assert [metadata.row_group(i).num_rows for i in range(metadata.num_row_groups)] == [1_000, 1_000, 500]


def test_pages_hold_about_the_bytes_asked_for(tmp_path: Path) -> None:
    data = noisy(20_000)
    text = EVENTS.arrow_schema.names.index("text")
    for wanted in (2_048, 16_384, 262_144):
        (part,) = write(tmp_path / str(wanted), data, spec(parquet_page_size=wanted))
        sizes = page_bytes(part.files[0].path, text)
        assert sum(sizes) > 20_000 * 80
        assert all(wanted <= size < 1.5 * wanted + 2_000 for size in sizes[:-1]), (wanted, sizes[:5])


def test_a_file_ends_after_the_records_asked_for(tmp_path: Path) -> None:
    (part,) = write(
        tmp_path,
        events({DAY: 2_500}),
        spec(parquet_max_records_per_file=1_000, parquet_row_group_size=300),
    )
    assert [file.rows for file in part.files] == [1_000, 1_000, 500]
    assert [pq.read_metadata(file.path).num_rows for file in part.files] == [1_000, 1_000, 500]


@pytest.mark.parametrize("group", [2_000, 1_000_000])
def test_a_file_ends_near_the_size_asked_for(tmp_path: Path, group: int) -> None:
    data = noisy(80_000)
    (part,) = write(tmp_path, data, spec(parquet_target_file_size_mb=1, parquet_row_group_size=group))
    sizes = [file.path.stat().st_size / 2**20 for file in part.files]
    assert len(sizes) > 3
    assert all(0.8 <= size <= 1.1 for size in sizes[:-1]), sizes
    assert pa.concat_tables(pq.read_table(file.path) for file in part.files).equals(data)


def test_the_chunk_size_is_the_size_of_batches() -> None:
    assert spec(chunk_size=123).batch_rows == 123


def test_the_layout_names_the_folders() -> None:
    assert spec().folder(EVENTS, DAY) == "partition=2024-05-01/"
    assert spec(parquet_partition_by="month").folder(EVENTS, DAY) == "month=2024-05/"
    assert spec().folder(SINGLE, "") == ""
    for wrong in ("../up", "", "a/b", "x y"):
        with pytest.raises(PermanentError, match=r"lake\.events: .* is no partition"):
            spec().folder(EVENTS, wrong)


def encodings(metadata: pq.FileMetaData) -> dict[str, tuple[str, ...]]:
    group = metadata.row_group(0)
    return {group.column(i).path_in_schema: group.column(i).encodings for i in range(metadata.num_columns)}


def test_ids_are_delta_encoded_and_only_what_repeats_has_a_dictionary(tmp_path: Path) -> None:
    found = encodings(one_file(tmp_path, events({DAY: DICTIONARY_ROWS})))
    assert "DELTA_BYTE_ARRAY" in found["event_id"]
    assert "RLE_DICTIONARY" in found["partition"]
    assert "RLE_DICTIONARY" in found["labels.list.element"]
    assert "RLE_DICTIONARY" not in found["text"]
    assert "RLE_DICTIONARY" not in found["happened_at"]


def test_small_row_groups_have_no_dictionary(tmp_path: Path) -> None:
    for rows, group in ((DICTIONARY_ROWS - 1, 131_072), (2 * DICTIONARY_ROWS, DICTIONARY_ROWS - 1)):
        found = encodings(one_file(tmp_path, events({DAY: rows}), parquet_row_group_size=group))
        assert "DELTA_BYTE_ARRAY" in found["event_id"]
        assert not any("RLE_DICTIONARY" in kinds for kinds in found.values())


def test_files_carry_the_declared_schema_and_its_nullability(tmp_path: Path) -> None:
    (part,) = write(tmp_path, events({DAY: 3}), spec())
    assert pq.read_schema(part.files[0].path).equals(EVENTS.arrow_schema)
    empty = write_empty_part(EVENTS, spec(), tmp_path, "2024-05-02")
    assert pq.read_table(empty.files[0].path).equals(EVENTS.arrow_schema.empty_table())


def test_partitions_that_do_not_stand_side_by_side_are_refused(tmp_path: Path) -> None:
    first, second = events({DAY: 2}), events({"2024-05-02": 2})
    with pytest.raises(PermanentError, match="rows of 2024-05-01 do not stand side by side; sort the data"):
        list(write_parts(batches_of([first, second, first], 10), EVENTS, spec(), tmp_path))


def test_nulls_where_none_may_be_are_all_counted_before_they_are_refused(tmp_path: Path) -> None:
    data = events({DAY: 30})
    ids = pa.array([None if n % 3 == 0 else f"{n:06}" for n in range(30)])
    broken = data.set_column(1, pa.field("event_id", pa.string()), ids)
    with pytest.raises(PermanentError, match=r"lake\.events: nulls .* event_id \(10\)"):
        list(write_parts(batches_of(broken, 4), EVENTS, spec(), tmp_path))


MANY_DAYS = events({f"2024-05-{day:02}": 40 * (day % 4) for day in range(1, 29)})


def test_several_writers_write_the_same_files_in_the_same_order(tmp_path: Path) -> None:
    wanted = spec(parquet_row_group_size=50)
    found = []
    for writers in (1, 3):
        folder = tmp_path / str(writers)
        folder.mkdir()
        parts = write_parts(batches_of(MANY_DAYS, 7), EVENTS, wanted, folder, writers=writers)
        found.append([(part.partition, [file.digest for file in part.files]) for part in parts])
    assert found[0] == found[1]
    assert [partition for partition, _ in found[0]] == sorted({*MANY_DAYS["partition"].to_pylist()})


def test_an_error_with_several_writers_is_told_and_leaves_no_thread(tmp_path: Path) -> None:
    def breaking() -> Iterator[pa.RecordBatch]:
        yield from MANY_DAYS.to_batches(max_chunksize=40)
        raise OSError("the source is gone")

    with pytest.raises(OSError, match="the source is gone"):
        list(write_parts(breaking(), EVENTS, spec(), tmp_path, writers=3))
    with pytest.raises(FileNotFoundError):
        list(write_parts(batches_of(MANY_DAYS, 40), EVENTS, spec(), tmp_path / "nowhere", writers=3))
    assert [thread.name for thread in threading.enumerate() if thread.name.startswith("parts")] == []


@st.composite
def cut(draw: st.DrawFn, data: pa.Table) -> list[pa.RecordBatch]:
    """The table as batches of any sizes, with empty ones among them."""
    places = sorted(draw(st.lists(st.integers(0, data.num_rows), max_size=8)))
    ends = [0, *places, data.num_rows]
    return [
        batch
        for start, end in pairwise(ends)
        for batch in (data.slice(start, end - start).combine_chunks().to_batches() or [])
    ]


NOISY = noisy(6_000)


@given(
    batches=cut(NOISY),
    rows=st.sampled_from([7, 512, 100_000]),
    file_rows=st.sampled_from([5, 1_000, 10_000_000]),
    target=st.sampled_from([20_000, 1 << 30]),
)
@examples(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_the_bytes_do_not_depend_on_how_the_rows_came(
    tmp_path_factory: pytest.TempPathFactory,
    batches: list[pa.RecordBatch],
    rows: int,
    file_rows: int,
    target: int,
) -> None:
    if file_rows < 1_000:
        batches, whole = [NOISY.slice(0, 50).to_batches()[0]], NOISY.slice(0, 50)
    else:
        whole = NOISY
    wanted = ParquetSpec(row_group_rows=max(rows, 7), file_rows=file_rows, file_bytes=target)
    folders = [tmp_path_factory.mktemp("cut"), tmp_path_factory.mktemp("whole")]
    (mine,) = write_parts(batches, EVENTS, wanted, folders[0])
    (theirs,) = write_parts(whole.combine_chunks().to_batches(), EVENTS, wanted, folders[1])
    assert [file.digest for file in mine.files] == [file.digest for file in theirs.files]
    read = pa.concat_tables(pq.read_table(file.path) for file in mine.files)
    assert read.equals(whole)


def test_memory_is_bounded_by_the_row_group(tmp_path: Path) -> None:
    batch = noisy(10_000).combine_chunks().to_batches()[0]
    before = pa.total_allocated_bytes()
    highest = 0

    def stream() -> Iterator[pa.RecordBatch]:
        nonlocal highest
        for _ in range(100):  # 1,000,000 rows, some 130 MB
            highest = max(highest, pa.total_allocated_bytes() - before)
            yield batch

    list(
        write_parts(
            stream(), EVENTS, spec(parquet_row_group_size=50_000, parquet_compression="none"), tmp_path
        )
    )
    assert highest < 40 * 2**20, f"{highest / 2**20:.0f} MiB"
