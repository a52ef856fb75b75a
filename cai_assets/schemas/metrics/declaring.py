"""What a metric is, and short ways to declare one. No metric stands here, and no table.

A metric's name is unique over all tables; the column in which it stands may have another name (`measure` in
the package's head says which). `sql` gives its value over whatever rows stand in the tables: added up from a
mart where it adds up, else taken from the facts, as percentiles and distinct counts must be. Anybody can run
it on `warehouse.duckdb`, with a `where` or `group by` of their own.
"""

from dataclasses import dataclass

import pyarrow as pa

from cai_assets.schemas.base import MONEY

COUNT, NUMBER = pa.int64(), pa.float64()


@dataclass(frozen=True)
class Metric:
    """One metric.

    Attributes:
        name: unique, lower case; `_s`, `_ms`, `_pct` mean what they say.
        title: what people see beside the number, as "Resolved".
        definition: what exactly is counted or measured, one or two sentences that end in a full stop. No
            table repeats it: it is the description of every column in which the metric stands.
        unit: as "conversations", "s", "tokens", "currency" (that of the row), "ratio" (0 to 1), "z".
        sql: a SELECT of one value, over marts and facts; parameters as in the models.
        facts_sql: the same from the facts, where `sql` reads a mart; a test holds both equal.
        type: Arrow type of its columns.
        nullable: whether its columns may be NULL: nothing was measured.
        additive: whether values of several rows may be added; a day's and its months' then agree.
        numerator: name of the metric above the line, of a ratio.
        denominator: name of the one below.
        heading: shorter title for the head of a table's column.
        made_of: columns of facts, as `facts.fct_conversation.csat_score`, where it stands in no mart.
        version: counts up with every change of what the number means, so that readers of reports can tell.
    """

    name: str
    title: str
    definition: str
    unit: str
    sql: str
    facts_sql: str | None = None
    type: pa.DataType = COUNT
    nullable: bool = False
    additive: bool = True
    numerator: str | None = None
    denominator: str | None = None
    heading: str = ""
    made_of: tuple[str, ...] = ()
    version: int = 1

    def __post_init__(self) -> None:
        if not self.heading:
            object.__setattr__(self, "heading", self.title)
        if not self.definition.endswith("."):
            raise ValueError(f"metric {self.name}: its definition is no sentence: {self.definition!r}")
        if (self.numerator is None) != (self.denominator is None):
            raise ValueError(f"metric {self.name}: a ratio has a numerator and a denominator")


def _rows(where: str) -> str:
    return f" where {where}" if where else ""


def conversations(
    name: str,
    title: str,
    definition: str,
    *,
    mart: str,
    column: str | None = None,
    where: str = "",
    facts: str | None = None,
    unit: str = "conversations",
    heading: str = "",
    version: int = 1,
) -> Metric:
    """A number of conversations, or of other things by `unit`, that adds up over rows.

    Args:
        name: of the metric.
        title: what people see.
        definition: as in `Metric`.
        mart: the mart it is added up from, without its layer.
        column: the mart's column, where it has not the metric's name.
        where: the rows of the mart that count, where not all do.
        facts: the same from the facts, as a SELECT.
        unit: of what is counted.
        heading: as in `Metric`.
        version: as in `Metric`.
    """
    return Metric(
        name=name,
        title=title,
        definition=definition,
        unit=unit,
        sql=f"select sum({column or name}) from marts.{mart}{_rows(where)}",
        facts_sql=facts,
        heading=heading,
        version=version,
    )


def messages(
    name: str,
    title: str,
    definition: str,
    *,
    mart: str,
    column: str | None = None,
    facts: str | None = None,
    heading: str = "",
    version: int = 1,
) -> Metric:
    """A number of messages that adds up over rows; arguments as for `conversations`."""
    return conversations(
        name,
        title,
        definition,
        mart=mart,
        column=column,
        facts=facts,
        unit="messages",
        heading=heading,
        version=version,
    )


def distinct(
    name: str,
    title: str,
    definition: str,
    *,
    sql: str,
    unit: str = "users",
    heading: str = "",
    made_of: tuple[str, ...] = (),
    version: int = 1,
) -> Metric:
    """A number of distinct things: those of several rows must not be added, `sql` counts over the facts."""
    return Metric(
        name=name,
        title=title,
        definition=definition,
        unit=unit,
        sql=sql,
        additive=False,
        heading=heading,
        made_of=made_of,
        version=version,
    )


def statistic(
    name: str,
    title: str,
    definition: str,
    *,
    sql: str,
    unit: str = "s",
    nullable: bool = True,
    heading: str = "",
    made_of: tuple[str, ...] = (),
    version: int = 1,
) -> Metric:
    """A percentile, mean, maximum or score: not to be added or averaged, `sql` takes it over the facts."""
    return Metric(
        name=name,
        title=title,
        definition=definition,
        unit=unit,
        sql=sql,
        type=NUMBER,
        nullable=nullable,
        additive=False,
        heading=heading,
        made_of=made_of,
        version=version,
    )


def quantile(value: str, q: float, source: str) -> str:
    """The SELECT of an exact quantile, interpolated linearly.

    Args:
        value: a column or expression; NULLs do not take part.
        q: 0 to 1.
        source: what follows `from`: a table of facts, and which of its rows.
    """
    return f"select quantile_cont({value}, {q}) from {source}"


def total(
    name: str,
    title: str,
    definition: str,
    *,
    unit: str,
    sql: str,
    facts: str | None = None,
    type: pa.DataType = COUNT,  # noqa: A002  the name it has in Column and Metric
    nullable: bool = False,
    heading: str = "",
    version: int = 1,
) -> Metric:
    """A sum of something other than things that are counted: seconds, tokens, money."""
    return Metric(
        name=name,
        title=title,
        definition=definition,
        unit=unit,
        sql=sql,
        facts_sql=facts,
        type=type,
        nullable=nullable,
        heading=heading,
        version=version,
    )


def money(name: str, title: str, definition: str, *, sql: str, facts: str | None = None) -> Metric:
    """A sum of money, decimal, in the currency of its row; NULL where nobody said what it cost."""
    return total(name, title, definition, unit="currency", sql=sql, facts=facts, type=MONEY, nullable=True)


def ratio(
    name: str,
    title: str,
    definition: str,
    *,
    numerator: str,
    denominator: str,
    mart: str,
    columns: tuple[str, str] | None = None,
    where: str = "",
    facts: str | None = None,
    unit: str = "ratio",
    heading: str = "",
    version: int = 1,
) -> Metric:
    """One metric over another. It has no column: both are kept, and their sums over any rows divided.

    Args:
        name: of the metric.
        title: what people see.
        definition: as in `Metric`.
        numerator: metric above the line.
        denominator: metric below it.
        mart: the mart that holds both, without its layer.
        columns: their columns there, where these have not the metrics' names.
        where: the rows of it that count, where not all do.
        facts: the same from the facts, as a SELECT.
        unit: "ratio", or that of the quotient, as "currency".
        heading: as in `Metric`.
        version: as in `Metric`.
    """
    above, below = columns or (numerator, denominator)
    return Metric(
        name=name,
        title=title,
        definition=definition,
        unit=unit,
        sql=f"select sum({above}) / nullif(sum({below}), 0) from marts.{mart}{_rows(where)}",
        facts_sql=facts,
        type=NUMBER,
        nullable=True,
        additive=False,
        numerator=numerator,
        denominator=denominator,
        heading=heading,
        version=version,
    )
