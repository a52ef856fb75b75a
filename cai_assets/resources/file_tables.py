"""Finding the files of a table and bringing them into DuckDB. Reading them back from there is in files.py."""

import csv
import gzip
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path

import duckdb
import pyarrow as pa

from cai_assets.domain.rows import marked
from cai_assets.domain.timestamps import timestamp_or_none
from cai_assets.resources.source import SourceError, SourceMissingError, SourceTable, map_columns

_FORMATS = {
    ".parquet": "parquet",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".jsonl.gz": "jsonl",
    ".ndjson.gz": "jsonl",
    ".csv": "csv",
    ".csv.gz": "csv",
}
SYSTEM_COLUMNS = ("Id", "CreatedAt", "UpdatedAt")
# A row may hold a long text; DuckDB's own bounds are 2 MB (CSV) and 16 MB (JSON).
LONGEST_ROW_BYTES = 64 * 1024 * 1024
_EPOCH = datetime.fromisoformat("1970-01-01T00:00:00+00:00")


@dataclass(frozen=True)
class FileSet:
    """All files of one table.

    Attributes:
        paths: in the order of their names.
        format: "parquet", "jsonl" or "csv".
        signature: changes when a file does.
        mapped: our column name to the files', of the columns that exist; filled by `stage`.
        system: those of Id, CreatedAt and UpdatedAt that exist; filled by `stage`.
    """

    paths: tuple[Path, ...]
    format: str
    signature: tuple[tuple[str, int, int], ...]
    mapped: Mapping[str, str] = field(default_factory=dict)
    system: tuple[str, ...] = ()

    @property
    def origin(self) -> str:
        """The files in words."""
        first = str(self.paths[0])
        return first if len(self.paths) == 1 else f"{first} and {len(self.paths) - 1} more"

    @property
    def verbatim(self) -> bool:
        """Whether rows are staged under the files' own names, all of them, and not under ours."""
        return self.format == "jsonl"


def find_files(folder: Path, table: SourceTable) -> FileSet:
    """Files `messages*.parquet` (or .jsonl, .ndjson, .csv) of the folder, or all such below `messages/`.

    Raises:
        SourceMissingError: there are none.
        SourceError: there are several formats, or files and a sub-folder, so that rows could be read twice.
    """
    inside = folder / table.name
    beside = [path for path in folder.glob(f"{table.name}*") if path.is_file() and _format(path)]
    below = (
        [path for path in inside.rglob("*") if path.is_file() and _format(path)] if inside.is_dir() else []
    )
    paths = sorted(beside or below)
    if not paths:
        there = ", ".join(sorted(path.name for path in folder.iterdir())[:20]) or "nothing"
        raise SourceMissingError(
            f"SOURCE_DIR={folder} has no {table.name}*.parquet, .jsonl or .csv, nor a folder {table.name}/ "
            f"of them; it has {there}"
        )
    formats = {_format(path) for path in paths}
    if (beside and below) or len(formats) > 1:
        names = ", ".join(str(path.relative_to(folder)) for path in sorted(beside + below)[:10])
        raise SourceError(
            f"SOURCE_DIR={folder} offers {table.name} more than once: {names}. Leave one format, in files or "
            "in a folder"
        )
    stats = [(path, path.stat()) for path in paths]
    signature = tuple((str(path), stat.st_size, stat.st_mtime_ns) for path, stat in stats)
    return FileSet(tuple(paths), _FORMATS[_suffix(paths[0])], signature)


def _suffix(path: Path) -> str:
    return next((end for end in _FORMATS if path.name.lower().endswith(end)), "")


def _format(path: Path) -> str:
    return _FORMATS.get(_suffix(path), "")


def stage(
    database: duckdb.DuckDBPyConnection,
    files: FileSet,
    table: SourceTable,
    field_map: Mapping[str, str],
    folder: Path,
) -> FileSet:
    """Make the table `table.name` of the database from the files, anew.

    Rows stand in the order of their number: the files' own Id (`own_id`), or their place (`rowid + 1`) in the
    order of time and business ids. Further columns: `at_us` (own time, microseconds since 1970 UTC),
    `conversation_id`, `business_id`, `file`, `created_at` and `updated_at` (texts of the system columns),
    `own_created_at` and `own_updated_at` (texts of the row's own), `row` (JSON text).

    Args:
        database: a temporary one, made ready by `prepare`.
        files: what to read.
        table: what it is to become.
        field_map: our column names to the files'.
        folder: for temporary files.

    Returns:
        The files with `mapped` and `system` filled.

    Raises:
        SourceError: a file cannot be read, or its Ids are not distinct whole numbers.
        SourceMissingError: a required column does not exist.
    """
    try:
        relation, types = _relation(database, files, folder)
        mapped = map_columns(table, field_map, list(types), files.origin)
        system = tuple(name for name in SYSTEM_COLUMNS if name in types)
        files = replace(files, mapped=mapped, system=system)
        _create(database, relation, types, files, table)
    except duckdb.Error as error:
        raise _explained(error, files) from None
    _check_ids(database, files, table)
    return files


def prepare(database: duckdb.DuckDBPyConnection) -> None:
    """Make a new database ready for `stage`: UTC, and `cai_microseconds(text)`.

    It is the platform's one reading of instants, so that files and servers agree about the day of a row.
    """

    def microseconds(texts: pa.ChunkedArray) -> pa.Array:
        step = datetime.resolution
        parsed = (timestamp_or_none(text) for text in texts.to_pylist())
        return pa.array([None if one is None else (one - _EPOCH) // step for one in parsed], pa.int64())

    database.execute("set TimeZone = 'UTC'")
    database.create_function(
        "cai_microseconds", microseconds, ["VARCHAR"], "BIGINT", type="arrow", null_handling="special"
    )


def _literal(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


def _name(column: str) -> str:
    return '"' + column.replace('"', '""') + '"'


def _list(paths: Sequence[Path]) -> str:
    return "[" + ", ".join(_literal(str(path)) for path in paths) + "]"


def _relation(
    database: duckdb.DuckDBPyConnection, files: FileSet, folder: Path
) -> tuple[str, dict[str, str]]:
    """A query over all files with their path in `__file`, and their columns with DuckDB's types."""
    if files.format == "jsonl":
        try:
            return _json_relation(database, files.paths)
        except duckdb.InvalidInputException:
            if _first_bad_json(files):
                raise
            # JSON all the same: DuckDB refuses half characters, which the documents are to judge by row.
            return _json_relation(database, mark_half_characters(files.paths, folder))
    if files.format == "csv":
        relation = " union all by name ".join(_csv_select(path) for path in files.paths)
    else:
        relation = (
            f"select * from read_parquet({_list(files.paths)}, filename = '__file', union_by_name = true, "  # noqa: S608
            "binary_as_string = true)"
        )
    described = database.execute(f"describe {relation}").fetchall()
    return relation, {str(name): str(kind) for name, kind, *_ in described if name != "__file"}


def _csv_select(path: Path) -> str:
    """A strict reading of one file: DuckDB's own detection skips lines that do not fit, and so loses rows."""
    opener = gzip.open if path.name.lower().endswith(".gz") else open
    try:
        with opener(path, "rt", encoding="utf-8-sig", newline="") as text:
            first = text.readline()
    except (OSError, UnicodeDecodeError) as error:
        raise SourceError(f"cannot read {path}: {type(error).__name__}; it should be UTF-8 text") from None
    delimiter = max((",", ";", "\t"), key=first.count)
    header = next(csv.reader([first], delimiter=delimiter), [])
    repeated = sorted({name for name in header if header.count(name) > 1})
    if not any(header) or repeated:
        wrong = f"names {', '.join(repeated)} twice" if repeated else "is empty"
        raise SourceError(f"{path}, line 1: the header {wrong}; it should name the columns")
    columns = ", ".join(f"{_literal(name)}: 'VARCHAR'" for name in header)
    return (
        f"select * from read_csv({_literal(str(path))}, auto_detect = false, columns = {{{columns}}}, "  # noqa: S608
        f"header = true, delim = {_literal(delimiter)}, quote = '\"', escape = '\"', nullstr = '', "
        f"allow_quoted_nulls = false, max_line_size = {LONGEST_ROW_BYTES}, filename = '__file')"
    )


def _json_relation(database: duckdb.DuckDBPyConnection, paths: Sequence[Path]) -> tuple[str, dict[str, str]]:
    relation = (
        f"select json, filename as __file from read_ndjson_objects({_list(paths)}, filename = true, "  # noqa: S608
        f"maximum_object_size = {LONGEST_ROW_BYTES})"
    )
    other = database.execute(
        f"select __file, count(*) from ({relation}) where json_type(json) <> 'OBJECT' group by 1 limit 1"  # noqa: S608
    ).fetchone()
    if other is not None:
        raise SourceError(f"{other[0]}: {other[1]} line(s) hold something other than a JSON object")
    keys = database.execute(
        f"select distinct unnest(json_keys(json)) from ({relation}) order by 1"  # noqa: S608
    ).fetchall()
    return relation, {str(key): "JSON" for (key,) in keys}


def _text(column: str, types: Mapping[str, str], form: str) -> str:
    """Expression: a value as text, instants as ISO 8601 with their microseconds and offset."""
    if column not in types:
        return "cast(null as varchar)"
    if form == "jsonl":
        pointer = "/" + column.replace("~", "~0").replace("/", "~1")
        return f"json_extract_string(json, {_literal(pointer)})"
    if types[column].startswith("TIMESTAMP"):
        # The session's zone is UTC, so the cast writes the offset as +00.
        return f"replace(cast(cast({_name(column)} as timestamptz) as varchar), ' ', 'T') || ':00'"
    return f"cast({_name(column)} as varchar)"


def _value(column: str, types: Mapping[str, str]) -> str:
    """Expression: a value as it goes into JSON."""
    if types[column].startswith("TIMESTAMP"):
        return _text(column, types, "parquet")
    if types[column] in {"DOUBLE", "FLOAT"}:  # JSON has no NaN; pandas writes one for a missing number
        return f"case when isfinite({_name(column)}) then {_name(column)} end"
    return _name(column)


def _create(
    database: duckdb.DuckDBPyConnection,
    relation: str,
    types: Mapping[str, str],
    files: FileSet,
    table: SourceTable,
) -> None:
    form, mapped = files.format, files.mapped

    def text(column: str) -> str:
        return _text(column, types, form)

    if files.verbatim:
        row = "cast(json as varchar)"
    else:
        pairs = ", ".join(f"{_literal(ours)}, {_value(theirs, types)}" for ours, theirs in mapped.items())
        row = f"cast(json_object({pairs}) as varchar)"
    own_time, changed = mapped[table.time_column], mapped.get("updated_at", "")
    # Without Ids of their own rows are numbered as a server numbers them when they are written in time.
    sequence = f"try_cast({text(mapped.get('seq', ''))} as bigint)"
    keys = (
        ("own_id",) if "Id" in files.system else ("at_us", "conversation_id", sequence, "business_id", "row")
    )
    order = ", ".join(f"{key} nulls last" for key in keys)
    database.execute(
        f"create or replace table {table.name} as "  # noqa: S608
        f"select {text('Id')} as id_text, "
        "case when regexp_full_match(id_text, '-?[0-9]{1,18}') then cast(id_text as bigint) end as own_id, "
        f"cai_microseconds({text(own_time)}) as at_us, "
        f"{text(mapped[table.id_column])} as business_id, "
        f"{text(mapped['conversation_id'])} as conversation_id, "
        f"__file as file, {text('CreatedAt')} as created_at, {text('UpdatedAt')} as updated_at, "
        f"{text(own_time)} as own_created_at, {text(changed)} as own_updated_at, {row} as row "
        f"from ({relation}) order by {order}"
    )


def _check_ids(database: duckdb.DuckDBPyConnection, files: FileSet, table: SourceTable) -> None:
    """Where the files bring Ids, each row has one of its own."""
    if "Id" not in files.system:
        return
    bad = database.execute(
        f"select file, id_text from {table.name} where own_id is null limit 1"  # noqa: S608
    ).fetchone()
    if bad is not None:
        raise SourceError(
            f"{bad[0]}: Id {str(bad[1])[:40]!r} is no whole number; correct it, or leave the column out"
        )
    twice = database.execute(
        f"select own_id, min(file), max(file) from {table.name} "  # noqa: S608
        "group by 1 having count(*) > 1 order by 1 limit 1"
    ).fetchone()
    if twice is not None:
        raise SourceError(
            f"Id {twice[0]} of {table.name} stands on more than one row "
            f"({', '.join(sorted({twice[1], twice[2]}))}); Ids are the rows' own "
            "numbers. Correct them, or leave the column out"
        )


def _explained(error: duckdb.Error, files: FileSet) -> SourceError:
    """DuckDB's error with file and line, without the line's own text."""
    message = str(error)
    if isinstance(error, duckdb.OutOfMemoryException):
        return SourceError(
            f"not enough memory or temporary disk space to read {files.origin}: raise DUCKDB_MEMORY_LIMIT, "
            "or point TMPDIR at a larger disk"
        )
    if "Malformed JSON" in message:
        return SourceError(_first_bad_json(files) or f"cannot read {files.origin}: malformed JSON")
    line = re.search(r"CSV Error on Line: (\d+)", message)
    path = re.search(r"\n  file = (.+)", message) or re.search(r"[Ff]ile ['\"]([^'\"]+)['\"]", message)
    place = (path[1] if path else files.origin) + (f", line {line[1]}" if line else "")
    if "Original Line" in message:  # the line itself may hold what a person wrote
        reasons = r"^(Expected Number|Value with|Invalid unicode|Maximum line|Error when).*$"
        reason = re.search(reasons, message, flags=re.MULTILINE)
        what = reason[0] if reason else "the line does not fit the header"
    else:
        what = message.splitlines()[0]
    return SourceError(f"cannot read {place}: {what.strip()[:300]}")


_ESCAPE = re.compile(
    r"\\(?:u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}|u([dD][89a-fA-F][0-9a-fA-F]{2})|.)"
)


def mark_half_characters(paths: Sequence[Path], folder: Path) -> list[Path]:
    """Copies of JSONL files in which escapes of half characters are marks; see `domain.rows`."""
    copies = []
    for number, path in enumerate(paths):
        opener = gzip.open if path.name.lower().endswith(".gz") else open
        copies.append(folder / f"marked-{number}-{path.name.removesuffix('.gz')}")
        with (
            opener(path, "rt", encoding="utf-8-sig") as lines,
            copies[-1].open("w", encoding="utf-8") as copy,
        ):
            for line in lines:
                copy.write(_ESCAPE.sub(_mark, line))
    return copies


def _mark(escape: re.Match[str]) -> str:
    return marked(chr(int(escape[1], 16))) if escape[1] else escape[0]


def _first_bad_json(files: FileSet) -> str:
    """File and line of the first line that is no JSON; DuckDB counts lines by its own buffers."""
    for path in files.paths:
        opener = gzip.open if path.name.lower().endswith(".gz") else open
        with opener(path, "rb") as lines:
            for number, line in enumerate(lines, start=1):
                try:
                    if line.strip():
                        json.loads(line)
                except ValueError as error:
                    reason = error.msg if isinstance(error, json.JSONDecodeError) else "it is no UTF-8 text"
                    return f"cannot read {path}, line {number}: no JSON: {reason}"
    return ""
