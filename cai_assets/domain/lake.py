"""Documents as the lake holds them: exact schema, pseudonyms for users, masked texts.

Which items of a text are masked is `domain.redaction`'s. Nothing is computed here.
"""

from typing import Any, Final

import pyarrow as pa
import pyarrow.compute as pc
from pydantic import SecretStr

from cai_assets.domain.pseudonyms import key_of, keyed_hashes, pseudonym, pseudonymise
from cai_assets.domain.redaction import Redactor
from cai_assets.failures import PermanentError
from cai_assets.schemas.base import Table

TEXTS: Final = ("text", "error")
"""Columns of what people or models wrote."""
HASHES: Final = ("content_hash", "text_hash")
"""Columns whose plain hashes would let anybody test guesses: of a user id beside fields that are there in
clear, of a text that is a phone number. In the lake they are hashed again, under the key."""


def to_lake(
    table: Table,
    documents: pa.RecordBatch,
    pseudonym_key: SecretStr | None,
    redactor: Redactor | None = None,
) -> pa.RecordBatch:
    """Documents read from MongoDB as rows of a lake table, in their order.

    `user_id` becomes a pseudonym, `sender_id` where a user or the system wrote, and the user's id where it
    stands among the tags or as the actor of a change of status. Hashes are keyed.

    Args:
        table: the lake table.
        documents: a batch of `MongoStore.read_batches`.
        pseudonym_key: PSEUDONYM_KEY; needed only where the table names users or holds hashes.
        redactor: masks texts and counts; None leaves them as they are.

    Returns:
        Exactly `table.arrow_schema`.

    Raises:
        PermanentError: no key; or a null where the declaration allows none, naming the column and one row.
    """
    columns = {column.name: documents.column(column.name) for column in table.columns}
    if "user_id" in columns:
        key = key_of(pseudonym_key)
        users = columns["user_id"]
        for name in {"tags", "status_events"} & columns.keys():
            columns[name] = _without_user(columns[name], users, key)
        columns["user_id"] = pseudonymise(users, key)
    if "sender_id" in columns:
        hashed = pseudonymise(columns["sender_id"], key_of(pseudonym_key))
        by_user = pc.is_in(columns["sender_type"], pa.array(["user", "system"]))
        columns["sender_id"] = pc.if_else(by_user, hashed, columns["sender_id"])
    for name in HASHES:
        if name in columns:
            columns[name] = keyed_hashes(columns[name], key_of(pseudonym_key))
    if redactor is not None:
        for name in TEXTS:
            if name in columns:
                columns[name] = redactor.column(columns[name])
        if "tags" in columns:
            columns["tags"] = redactor.column_of_lists(columns["tags"])
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


def _without_user(lists: pa.Array, users: pa.Array, key: bytes) -> pa.Array:
    """Lists of tags or of events, the user's own id in them as a pseudonym."""
    flat = lists.flatten()
    texts = pc.struct_field(flat, "actor") if pa.types.is_struct(flat.type) else flat
    own = pc.equal(texts, users.take(pc.list_parent_indices(lists)))
    if not pc.any(own).as_py():
        return lists
    rows = zip(lists.to_pylist(), users.to_pylist(), strict=True)
    return pa.array(
        [None if one is None else [_named(item, user, key) for item in one] for one, user in rows], lists.type
    )


def _named(item: Any, user: str, key: bytes) -> Any:
    if isinstance(item, dict):
        return {**item, "actor": _named(item["actor"], user, key)}
    return pseudonym(user, key) if item == user else item
