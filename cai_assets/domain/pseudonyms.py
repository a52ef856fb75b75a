"""Keyed hashes that stand for users' ids outside MongoDB. Which columns they are for is `domain.lake`'s."""

import hmac

import pyarrow as pa
import pyarrow.compute as pc
from pydantic import SecretStr

from cai_assets.failures import PermanentError

PREFIX = "u_"
_DIGEST_BYTES = 16


def pseudonym(user_id: str, key: bytes) -> str:
    """`u_` and 32 hex digits: HMAC-SHA256 of the id under `key`, cut to 128 bits."""
    return PREFIX + keyed_hash(user_id, key)


def pseudonymise(column: pa.Array | pa.ChunkedArray, key: bytes) -> pa.Array:
    """A column of ids as pseudonyms; nulls stay null. Every different id is hashed once.

    Args:
        column: texts.
        key: secret; who has it can test guesses of an id, who has not cannot.
    """
    if isinstance(column, pa.ChunkedArray):
        column = pa.concat_arrays(column.chunks) if column.num_chunks else pa.array([], column.type)
    encoded = column.dictionary_encode()
    names = pa.array([pseudonym(one, key) for one in encoded.dictionary.to_pylist()], pa.string())
    return pc.take(names, encoded.indices)


def keyed_hashes(column: pa.Array, key: bytes) -> pa.Array:
    """A column of hashes, each hashed again under the key; nulls stay null and equals equal."""
    return pa.array(
        [None if one is None else keyed_hash(one, key) for one in column.to_pylist()], pa.string()
    )


def keyed_hash(text: str, key: bytes) -> str:
    """32 hex digits: HMAC-SHA256 of a text under `key`, cut to 128 bits."""
    return hmac.digest(key, text.encode(), "sha256")[:_DIGEST_BYTES].hex()


def key_of(secret: SecretStr | None) -> bytes:
    """The key's bytes.

    Raises:
        PermanentError: PSEUDONYM_KEY is not set.
    """
    value = secret.get_secret_value() if secret is not None else ""
    if not value:
        raise PermanentError(
            "PSEUDONYM_KEY is not set, and user ids must not reach the lake in clear. Make one and keep it: "
            "python -c 'import secrets; print(secrets.token_hex(32))'. With another key the same user gets "
            "another pseudonym, so the whole lake has to be materialised again."
        )
    return value.encode()
