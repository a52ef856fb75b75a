"""NocoDB's filter language: clauses of `where`, and lists of ids cut so that a URL stays short.

Only text is made here; sending it and judging the answer belong to the client. Two grammars exist. The plain
one takes a value as it stands and splits lists at commas; the quoted one (`@` before the whole filter, as of
NocoDB's v3 API) wraps values in quotes, knows no escapes, and so cannot hold a value with both kinds of them.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Literal
from urllib.parse import quote

SECOND = timedelta(seconds=1)

# What either grammar gives a meaning to. A backslash is a letter like any other in both.
_STRUCTURAL = re.compile(r"""[()'",~\x00-\x1f]""")


def is_plain(value: str) -> bool:
    """Whether the value may stand unquoted in a list: no structural character, no blank at its ends."""
    return bool(value) and not _STRUCTURAL.search(value) and value == value.strip()


def can_be_quoted(value: str) -> bool:
    """Whether the quoted grammar can hold the value."""
    return not ('"' in value and "'" in value)


def quoted(value: str) -> str:
    """The value in the quotes it does not itself contain.

    Raises:
        ValueError: if it contains both.
    """
    if not can_be_quoted(value):
        raise ValueError("a value with both kinds of quotes cannot be written in NocoDB's quoted grammar")
    mark = "'" if '"' in value else '"'
    return f"{mark}{value}{mark}"


def clause(column: str, operator: str, *values: str | int, quote_values: bool = False) -> str:
    """`(column,operator,value,...)`; with `quote_values`, column and texts in the quoted grammar."""
    if not quote_values:
        return f"({','.join([column, operator, *map(str, values)])})"
    # Sub-operators such as exactDate are words of the grammar, not values.
    words = [v if isinstance(v, str) and v == "exactDate" else quoted(str(v)) for v in values]
    return f"({','.join([quoted(column), operator, *words])})"


def where(*clauses: str, quote_values: bool = False) -> str:
    """All clauses joined by `~and`, marked with `@` for the quoted grammar."""
    return ("@" if quote_values else "") + "~and".join(clauses)


def instant_literal(instant: datetime) -> str:
    """The one spelling of an instant that all versions and databases read alike: whole seconds, UTC."""
    return instant.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S+00:00")


@dataclass(frozen=True)
class Window:
    """Instants `[start, end)`, both UTC."""

    start: datetime
    end: datetime

    @property
    def outer(self) -> "Window":
        """The window to ask for: whole seconds, one second wider on both sides.

        NocoDB keeps whole seconds and its SQLite dialect treats equality at a bound otherwise than Postgres
        does (`gt` as `gte`, `lte` as `lt`), so the bounds themselves are judged by whoever reads the rows.
        """
        start, end = self.start.astimezone(UTC), self.end.astimezone(UTC)
        whole_end = end if end.microsecond == 0 else end + SECOND
        return Window(start.replace(microsecond=0) - SECOND, whole_end.replace(microsecond=0) + SECOND)

    def __contains__(self, instant: datetime) -> bool:
        return self.start <= instant < self.end

    def halves(self) -> tuple["Window", "Window"] | None:
        """Two windows of whole seconds that make this one, or None if it is too short to cut."""
        seconds = int((self.end - self.start).total_seconds()) // 2
        if seconds < 1:
            return None
        middle = self.start + timedelta(seconds=seconds)
        return Window(self.start, middle), Window(middle, self.end)

    def clauses(self, column: str, *, quote_values: bool = False) -> tuple[str, str]:
        """Lower and upper bound as two clauses, for whole seconds; read with those of `outer`."""
        return (
            clause(column, "gte", "exactDate", instant_literal(self.start), quote_values=quote_values),
            clause(column, "lt", "exactDate", instant_literal(self.end), quote_values=quote_values),
        )


@dataclass(frozen=True)
class IdBatch:
    """Ids that one filter asks for.

    Attributes:
        ids: distinct texts.
        form: `in` a plain list, `quoted` a list of the quoted grammar, `eq` a single id taken as it stands.
    """

    ids: tuple[str, ...]
    form: Literal["in", "quoted", "eq"]

    def clause(self, column: str) -> str:
        """The filter `column` is one of these ids."""
        return clause(
            column, "eq" if self.form == "eq" else "in", *self.ids, quote_values=self.form == "quoted"
        )


def encoded_length(text: str) -> int:
    """Bytes of a text in a query string, percent-encoded as `quote` does with nothing safe."""
    return len(quote(text, safe=""))


def id_batches(ids: Sequence[str], *, max_bytes: int, max_ids: int) -> Iterator[IdBatch]:
    """Cut ids into batches, each id in exactly one, in the order given within each form.

    Plain ids come first, then those that need quotes, then those that no list can hold, one by one. Blank and
    repeated ids are left out: no row can be asked for by a blank one.

    Args:
        ids: business ids.
        max_bytes: most bytes the encoded list may take; a single longer id still gets a batch of its own.
        max_ids: most ids of a batch.
    """
    distinct = [one for one in dict.fromkeys(ids) if one and one.strip()]
    plain = [one for one in distinct if is_plain(one)]
    in_quotes = [one for one in distinct if not is_plain(one) and can_be_quoted(one)]
    forms: tuple[tuple[Literal["in", "quoted"], list[str]], ...] = (("in", plain), ("quoted", in_quotes))
    for form, members in forms:
        batch: list[str] = []
        size = 0
        for one in members:
            # Per id: its text, in quotes (3 bytes each once encoded) where needed, and a comma (3 bytes).
            bytes_of_id = encoded_length(one) + (9 if form == "quoted" else 3)
            if batch and (size + bytes_of_id > max_bytes or len(batch) == max_ids):
                yield IdBatch(tuple(batch), form)
                batch, size = [], 0
            batch.append(one)
            size += bytes_of_id
        if batch:
            yield IdBatch(tuple(batch), form)
    for one in distinct:
        if not is_plain(one) and not can_be_quoted(one):
            yield IdBatch((one,), "eq")
