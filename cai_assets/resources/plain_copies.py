"""Plain Parquet copies of tables, for tools that know neither Delta nor this platform: `reports/marts/...`.

A table by months is a hive folder a month (`month=2024-05/part-00000.parquet`), one without partitions a
folder with a file. The month stands in the folder's name alone, as such tools expect; what a row means does
not depend on it, as each has its date. Files are replaced one by one, each whole; there is no transaction.
"""

import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from cai_assets.domain.groups import Group
from cai_assets.resources.arrow import batches_of
from cai_assets.resources.lake_files import LakeFiles
from cai_assets.resources.parquet_spec import WHOLE, ParquetSpec
from cai_assets.resources.parquet_writer import WrittenFile, digest_of, write_empty_part, write_parts
from cai_assets.schemas.base import Table

FOLDER = ("reports", "marts")


@dataclass(frozen=True)
class Copied:
    """What copying a table did.

    Attributes:
        address: folder of the copy: an absolute path or an s3:// address.
        rows: rows in it.
        withheld: rows that are left out, as they are about too few.
        written: files that are new or differ.
        unchanged: files that were the same already.
        removed: files of months that are gone, or of tables that became smaller.
    """

    address: str
    rows: int
    written: int
    unchanged: int
    removed: int
    withheld: int = 0


def copy_plainly(source: LakeFiles, spec: ParquetSpec, group: Group | None = None) -> Copied:
    """Make the plain copy of a table equal to it.

    Args:
        source: all files of a table that is partitioned by month or not at all.
        spec: how files are written.
        group: which rows are withheld (MIN_GROUP_SIZE); None keeps all.

    Raises:
        PermanentError, TransientError: the store refuses or is away; the copy then holds some files of
            either state, each of them whole.
    """
    store, declared = source.store, source.table
    place = (FOLDER[0], f"{FOLDER[1]}/{declared.name}")
    there = {file.path: file.size for file in store.list_files(*place)}
    columns = [column for column in declared.columns if column.name != declared.partition_by]
    key = tuple(name for name in declared.key if name != declared.partition_by)
    plain = replace(declared, columns=tuple(columns), key=key, partition_by=None)
    partitions = list(source.parts) or ([] if declared.partition_by else [WHOLE])
    published = _published(source, partitions, group)
    rows = 0
    kept: set[str] = set()
    sent: list[str] = []
    for partition in partitions:
        folder = f"{declared.partition_by}={partition}/" if partition else ""
        with store.spool() as spool:
            for index, file in enumerate(
                _written(source.narrowed([partition]), plain, spec, spool, published.get(partition))
            ):
                rows += file.rows
                path = f"{folder}part-{index:05}.parquet"
                kept.add(path)
                if there.get(path) != file.size or _stored_digest(source, path) != file.digest:
                    store.publish(file.path, *place, path)
                    sent.append(path)
    if sent:
        store.settle(*place, sent)
    gone = sorted(path for path in there.keys() - kept if path.endswith(".parquet"))
    for path in gone:
        store.delete(*place, path)
    return Copied(
        address=store.location(*place),
        rows=rows,
        withheld=sum(source.rows.values()) - rows,
        written=len(sent),
        unchanged=len(kept) - len(sent),
        removed=len(gone),
    )


_Kept = npt.NDArray[np.bool_]


def _published(source: LakeFiles, partitions: Sequence[str], group: Group | None) -> dict[str, _Kept]:
    """Of the rows of each partition, which may be published; without an entry, all.

    Totals go over all partitions, so the columns that tell groups are read of all of them at first.
    """
    if group is None or group.keeps_all:
        return {}
    columns = list(group.columns) or source.table.arrow_schema.names[:1]
    with source.store.errors(f"reading {source.table.layer}.{source.table.name}"):
        known = [
            source.narrowed([one]).dataset().to_table(columns=columns, use_threads=False)
            for one in partitions
        ]
    ends = np.cumsum([table.num_rows for table in known])[:-1]
    kept = group.kept(pa.concat_tables(known)) if known else np.zeros(0, np.bool_)
    return dict(zip(partitions, np.split(kept, ends), strict=False))


def _kept(batches: Iterator[pa.RecordBatch], kept: _Kept) -> Iterator[pa.RecordBatch]:
    """The batches with those rows alone that are kept."""
    at = 0
    for batch in batches:
        yield batch.filter(pa.array(kept[at : at + batch.num_rows]))
        at += batch.num_rows


def _written(
    source: LakeFiles, plain: Table, spec: ParquetSpec, spool: Path, published: _Kept | None
) -> list[WrittenFile]:
    scanner = source.dataset().scanner(
        columns=plain.arrow_schema.names,
        batch_size=spec.batch_rows,
        batch_readahead=1,
        fragment_readahead=1,
        use_threads=False,
    )
    batches = batches_of(scanner.to_reader(), spec.batch_rows)
    parts = list(write_parts(batches if published is None else _kept(batches, published), plain, spec, spool))
    return [file for part in parts or [write_empty_part(plain, spec, spool, WHOLE)] for file in part.files]


def _stored_digest(source: LakeFiles, path: str) -> str:
    place = (FOLDER[0], f"{FOLDER[1]}/{source.table.name}")
    return digest_of(io.BytesIO(source.store.read(*place, path) or b""))
