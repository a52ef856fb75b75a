"""The enrichment layer as the UI describes it. Its documents live in MongoDB."""

import pyarrow as pa

from cai_assets.schemas import lake
from cai_assets.schemas.base import Column, Table, partition_column

LANGUAGES = Table(
    layer="enrichment",
    name="languages",
    description="Language of every live message, written into its document.",
    columns=(
        partition_column(),
        Column("_id", pa.string(), "The message."),
        Column("language_detected", pa.string(), "Detected language, or `und` where it cannot be told."),
        Column("language_confidence", pa.float64(), "Confidence of the detection, 0 to 1."),
    ),
    key=("_id",),
)

TRANSLATIONS = Table(
    layer="enrichment",
    name="translations",
    description="A translation, or the reason why there is none, for every message that needs one.",
    columns=lake.TRANSLATIONS.columns,
    key=lake.TRANSLATIONS.key,
)

CATEGORIES = Table(
    layer="enrichment",
    name="categories",
    description="What every conversation is about, by the taxonomy.",
    columns=lake.CATEGORIES.columns,
    key=lake.CATEGORIES.key,
)

TABLES = (LANGUAGES, TRANSLATIONS, CATEGORIES)
