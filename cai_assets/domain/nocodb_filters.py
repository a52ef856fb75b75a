"""NocoDB's filter language: clauses of `where`, and lists of ids cut so that a URL stays short.

Only text is made here; sending it and judging the answer belong to the client. Two grammars exist. The plain
one takes a value as it stands and splits lists at commas; the quoted one (`@` before the whole filter, as of
NocoDB's v3 API) wraps values in quotes, knows no escapes, and so cannot hold a value with both kinds of them.
"""

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Literal
from urllib.parse import quote

SECOND = timedelta(seconds=1)

# What either grammar gives a meaning to. A backslash is a letter like any other in both.
_STRUCTURAL = re.compile(r"""[()'",~\x00-\x1f]""")
_NOT_FOR_LIKE = re.compile(r"""[()'",~%\\\x00-\x1f\ud800-\udfff]""")
# Half of a character: JSON can hold it, an address cannot.
_SURROGATE = re.compile("[\ud800-\udfff]")
_SHORTEST_PART = 3


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
        form: `in` a plain list, `quoted` a list of the quoted grammar, `eq` a single id taken as it stands,
            `like` a single id asked for by a part of it, so that the answer holds other ids too.
    """

    ids: tuple[str, ...]
    form: Literal["in", "quoted", "eq", "like"]

    def clause(self, column: str, *, quote_values: bool = False) -> str:
        """The filter `column` is one of these ids; of `like`: it holds this part."""
        if self.form == "like":
            return clause(column, "like", longest_plain_part(self.ids[0]), quote_values=quote_values)
        operator = "eq" if self.form == "eq" else "in"
        return clause(column, operator, *self.ids, quote_values=quote_values or self.form == "quoted")


def stands_alone(value: str) -> bool:
    """Whether the plain grammar reads the whole text as one value: no joints, parentheses in pairs."""
    depth = 0
    for letter in value:
        depth += (letter == "(") - (letter == ")")
        if depth < 0:
            return False
    return depth == 0 and "~" not in value


def longest_plain_part(value: str) -> str:
    """The longest run of letters that no grammar and no `like` gives a meaning to; may be empty.

    `%` would end the search for a part anywhere in the text, a backslash is Postgres's escape. `_` may stay:
    it stands for any letter, so that more is found and nothing missed.
    """
    return max((part.strip() for part in _NOT_FOR_LIKE.split(value)), key=len)


def in_no_filter(ids: Iterable[str], *, plain_column: bool = True) -> list[str]:
    """Ids that none of the batches of `id_batches` asks for; only reading all rows finds theirs."""
    return [one for one in ids if one.strip() and _form(one, plain_column) is None]


def _form(one: str, plain_column: bool) -> Literal["in", "quoted", "eq", "like"] | None:
    if not _SURROGATE.search(one):
        if is_plain(one):
            return "in" if plain_column else "quoted"
        if can_be_quoted(one):
            return "quoted"
        if plain_column and stands_alone(one):
            return "eq"
    # Fewer letters would select a good part of the table.
    return "like" if len(longest_plain_part(one)) >= _SHORTEST_PART else None


def encoded_length(text: str) -> int:
    """Bytes of a text in a query string, percent-encoded as `quote` does with nothing safe."""
    return len(quote(text, safe=""))


def id_batches(
    ids: Sequence[str], *, max_bytes: int, max_ids: int, plain_column: bool = True
) -> Iterator[IdBatch]:
    """Cut ids into batches, each id in exactly one, in the order given within each form.

    Plain ids come first, then those that need quotes, then those that no list can hold, one by one. Blank and
    repeated ids are left out: no row can be asked for by a blank one. So are those of `in_no_filter`.

    Args:
        ids: business ids.
        max_bytes: most bytes the encoded list may take; a single longer id still gets a batch of its own.
        max_ids: most ids of a batch.
        plain_column: whether the column's title may stand unquoted; else all lists are quoted.
    """
    by_form: dict[str | None, list[str]] = defaultdict(list)
    for one in dict.fromkeys(ids):
        if one.strip():
            by_form[_form(one, plain_column)].append(one)
    forms: tuple[Literal["in", "quoted"], ...] = ("in", "quoted")
    for form in forms:
        batch: list[str] = []
        size = 0
        for one in by_form[form]:
            # Per id: its text, in quotes (3 bytes each once encoded) where needed, and a comma (3 bytes).
            bytes_of_id = encoded_length(one) + (9 if form == "quoted" else 3)
            if batch and (size + bytes_of_id > max_bytes or len(batch) == max_ids):
                yield IdBatch(tuple(batch), form)
                batch, size = [], 0
            batch.append(one)
            size += bytes_of_id
        if batch:
            yield IdBatch(tuple(batch), form)
    singles: tuple[Literal["eq", "like"], ...] = ("eq", "like")
    for single in singles:
        for one in by_form[single]:
            yield IdBatch((one,), single)
