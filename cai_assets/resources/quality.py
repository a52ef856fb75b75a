"""Counts for the checks that warn: quarantine and orphans. Thresholds and wording are the checks'."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from pymongo.errors import PyMongoError

from cai_assets.resources.mongo import MongoStore

ORPHAN = "orphan"


@dataclass
class Rejected:
    """Rows of some days that are in quarantine.

    Attributes:
        by_day: rows that do not validate, by day.
        reasons: the same rows by what is wrong, the commonest first: the part before the first colon, which
            names a column and holds no value.
        orphans: messages without their conversation, by day.
    """

    by_day: Counter[str] = field(default_factory=Counter)
    reasons: Counter[str] = field(default_factory=Counter)
    orphans: Counter[str] = field(default_factory=Counter)


def rejected(mongo: MongoStore, table: str, days: Sequence[str]) -> Rejected:
    """Count the quarantine of a table.

    Args:
        mongo: the database.
        table: "conversations" or "messages".
        days: local days.

    Raises:
        TransientError, PermanentError: MongoDB does not answer, or refuses.
    """
    found = Rejected()
    query = {"table": table, "partition": {"$in": list(days)}}
    try:
        for one in mongo.collection("quarantine").find(query, {"partition": 1, "reason": 1}):
            what = str(one["reason"]).partition(":")[0]
            if what == ORPHAN:
                found.orphans[one["partition"]] += 1
            else:
                found.by_day[one["partition"]] += 1
                found.reasons[what] += 1
    except PyMongoError as error:
        raise mongo.explain(error) from error
    return found


def without_day(mongo: MongoStore, table: str) -> int:
    """Rows of the source that belong to no day, as the last sweep and the polls since found them."""
    try:
        return mongo.collection("without_day").count_documents({"table": table})
    except PyMongoError as error:
        raise mongo.explain(error) from error
