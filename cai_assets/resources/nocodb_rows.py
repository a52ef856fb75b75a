"""One row of NocoDB's answer as a row of the source. Reading pages of them is `nocodb_pages`'."""

from datetime import datetime
from typing import Any

from cai_assets.domain.timestamps import TimestampError, parse_timestamp
from cai_assets.resources.nocodb_catalog import NocoDBTable
from cai_assets.resources.source import SourceError, SourceRow


def source_row(row: dict[str, Any], table: NocoDBTable) -> SourceRow:
    """The row under the platform's names, its values verbatim, attachments without signed addresses.

    Raises:
        SourceError: its CreatedAt or UpdatedAt is no instant.
    """
    values = {ours: row.get(theirs) for ours, theirs in table.mapped.items()}
    for name in table.attachments:
        values[name] = _without_signatures(values[name])
    instants: dict[str, datetime | None] = {}
    for name in ("CreatedAt", "UpdatedAt"):
        try:
            instants[name] = parse_timestamp(row.get(name))
        except TimestampError as error:
            raise SourceError(f"{table.origin}, row {row['Id']}: {name}: {error}") from None
    return SourceRow(row["Id"], instants["CreatedAt"], instants["UpdatedAt"], values)


def _without_signatures(attachments: Any) -> Any:
    """Attachments without their signed addresses, which expire and so differ from read to read."""
    if not isinstance(attachments, list):
        return attachments
    return [
        {key: value for key, value in one.items() if key not in {"signedPath", "signedUrl"}}
        if isinstance(one, dict)
        else one
        for one in attachments
    ]
