"""How much of the enrichment is done, and what today's calls used of the budget, for `cai status`."""

from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal

from cai_assets.checks.quality import COVERAGE, UNITS
from cai_assets.engines.duckdb import DuckDBEngine
from cai_assets.failures import CaiError
from cai_assets.resources.enrichment_writes import spent_on
from cai_assets.resources.mongo import MongoStore
from cai_assets.resources.object_store import ObjectStore
from cai_assets.resources.storage import LakeTable
from cai_assets.schemas.tables import TABLES
from cai_assets.settings import Settings


@dataclass(frozen=True)
class Coverage:
    """How much of one kind is answered, over all days of the lake.

    Attributes:
        what: what is counted: "texts", "conversations".
        done_word: what became of those that are done: "translated", "categorised".
        needing: that need an answer.
        done: of which answered.
        unpaid: of the others, not asked for as the budget was reached.
    """

    what: str
    done_word: str
    needing: int
    done: int
    unpaid: int


@dataclass(frozen=True)
class Budget:
    """What language models have used on a local day, beside the limits of a day.

    Attributes:
        day: today, in REPORT_TIMEZONE.
        tokens: used; None where the ledger cannot be read.
        price: likewise, in the currency of the calls.
        most_tokens: DIFY_BUDGET_TOKENS_PER_DAY; None for no limit.
        most_price: DIFY_BUDGET_PRICE_PER_DAY, likewise.
        unknown: why nothing of this is known; None where it is.
    """

    day: str
    tokens: int | None
    price: Decimal | None
    most_tokens: int | None
    most_price: Decimal | None
    unknown: str | None = None


def coverage(settings: Settings) -> list[Coverage]:
    """Count in the lake; a table that was never made is left out.

    Raises:
        TransientError, PermanentError: the lake cannot be read.
    """
    store = ObjectStore.from_settings(settings)
    found = []
    with DuckDBEngine.from_settings(settings, prepare=store.duckdb_setup) as engine:
        for name, (unit, answered, what, done_word, _) in UNITS.items():
            table = LakeTable(store, TABLES["lake", name])
            if not table.exists():
                continue
            query = COVERAGE.format(unit=unit, answered=answered, table=name)
            rows = engine.query(query, {("lake", name): table.files()}).to_pylist()
            numbers = (sum(row[column] for row in rows) for column in ("needing", "done", "unpaid"))
            found.append(Coverage(what, done_word, *numbers))
    return found


def budget(settings: Settings, unanswered: str | None = None) -> Budget:
    """Ask MongoDB's ledger; a database that does not answer is told, not raised.

    Args:
        settings: the database, the limits, and the zone of the day.
        unanswered: what came of asking the database just before, where it did not answer; it is not asked
            again, as nobody should wait for that twice.
    """
    today = datetime.now(settings.timezone).date()
    limits = settings.dify_budget_tokens_per_day, settings.dify_budget_price_per_day
    if settings.mongodb_uri is None:
        return Budget(
            today.isoformat(), None, None, *limits, unknown="the database of the ledger is not running"
        )
    if unanswered is not None:
        return Budget(today.isoformat(), None, None, *limits, unknown=unanswered)
    try:
        with MongoStore.from_settings(settings) as store:
            spent = spent_on(store, today, settings.timezone)
    except CaiError as error:
        return Budget(today.isoformat(), None, None, *limits, unknown=str(error))
    return Budget(today.isoformat(), spent.tokens, spent.price, *limits)
