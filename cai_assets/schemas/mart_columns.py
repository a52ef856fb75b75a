"""Columns that many marts have, declared once. No table belongs here."""

from cai_assets.schemas.base import MONEY, Column
from cai_assets.schemas.facts import DATE, TEXT, count

MONTH = Column("month", TEXT, "Month of report_date, as `YYYY-MM`.")
CHANNEL = Column("channel", TEXT, "Channel of the conversation; `unknown` where the source names none.")
LANGUAGE = Column("language", TEXT, "Language of the conversation (fct_conversation.language).")


def report_date(meaning: str) -> Column:
    """The local day (or the first of the local days) that a row is about."""
    return Column("report_date", DATE, meaning)


def tokens(meaning: str) -> Column:
    """Tokens of calls of a language model."""
    return count("tokens", f"{meaning}; NULL where Dify never said.", "tokens", nullable=True)


def price(meaning: str) -> Column:
    """Price of calls of a language model."""
    return Column("price", MONEY, f"{meaning}; NULL where Dify never said.", "currency", nullable=True)


def conversations(name: str, description: str) -> Column:
    """A number of conversations."""
    return count(name, description, "conversations")
