"""Documents as the lake holds them: exact schema, pseudonyms for users. Nothing is computed here."""

import pyarrow as pa
import pyarrow.compute as pc
from pydantic import SecretStr

from cai_assets.domain.pseudonyms import key_of, pseudonymise
from cai_assets.failures import PermanentError
from cai_assets.schemas.base import Table


def to_lake(table: Table, documents: pa.RecordBatch, pseudonym_key: SecretStr | None) -> pa.RecordBatch:
    """Documents read from MongoDB as rows of a lake table, in their order.

    `user_id` becomes a pseudonym, and `sender_id` where a user wrote.

    Args:
        table: the lake table.
        documents: a batch of `MongoStore.read_batches`.
        pseudonym_key: PSEUDONYM_KEY; needed only where the table names users.

    Returns:
        Exactly `table.arrow_schema`.

    Raises:
        PermanentError: no key; or a null where the declaration allows none, naming the column and one row.
    """
    columns = {column.name: documents.column(column.name) for column in table.columns}
    if "user_id" in columns:
        columns["user_id"] = pseudonymise(columns["user_id"], key_of(pseudonym_key))
    if "sender_id" in columns:
        hashed = pseudonymise(columns["sender_id"], key_of(pseudonym_key))
        by_user = pc.equal(columns["sender_type"], "user")
        columns["sender_id"] = pc.if_else(by_user, hashed, columns["sender_id"])
    for column in table.columns:
        values = columns[column.name]
        if values.null_count and not column.nullable:
            rows = documents.filter(pc.is_null(values))
            example = rows.select(list(table.key)).slice(0, 1).to_pylist()[0]
            raise PermanentError(
                f"lake/{table.name}: {column.name} has {values.null_count} nulls, one of them in {example}; "
                "were documents written by another hand?"
            )
    return pa.RecordBatch.from_arrays(list(columns.values()), schema=table.arrow_schema)
