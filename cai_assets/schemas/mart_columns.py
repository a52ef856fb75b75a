"""Dimensions that many marts have, declared once. No table and no measure belongs here."""

from cai_assets.schemas.base import Column
from cai_assets.schemas.columns import DATE, TEXT

MONTH = Column("month", TEXT, "Month of report_date, as `YYYY-MM`.")
CHANNEL = Column("channel", TEXT, "Channel of the conversation; `unknown` where the source names none.")
LANGUAGE = Column("language", TEXT, "Language of the conversation (fct_conversation.language).")


def report_date(meaning: str) -> Column:
    """The local day (or the first of the local days) that a row is about."""
    return Column("report_date", DATE, meaning)
