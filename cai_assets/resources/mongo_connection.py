"""How MongoDB is reached as MONGODB_URI says, and what pymongo's errors mean to who runs the platform.

No message shows a password. What is done over the connection is `mongo`'s.
"""

import re
import uuid
from collections.abc import Callable
from typing import Any
from urllib.parse import quote_plus

from pymongo import MongoClient
from pymongo.database import Database
from pymongo.errors import (
    AutoReconnect,
    ConfigurationError,
    ConnectionFailure,
    OperationFailure,
    PyMongoError,
    ServerSelectionTimeoutError,
)

from cai_assets.failures import PermanentError, TransientError
from cai_assets.resources.mongo_writes import Document
from cai_assets.schemas.documents import COLLECTIONS
from cai_assets.settings import Settings

SERVER_SELECTION_MS = 5_000
UNAUTHORIZED = 13
NAMESPACE_EXISTS = 48
PROBE = "cai_probe"
_AUTHENTICATION_CODES = {UNAUTHORIZED, 18, 8000}  # AuthenticationFailed, Atlas's own
# MongoDB prints the command, SecantusDB the action.
_REFUSED_COMMAND = re.compile(r"to execute command (?:\{ ?|\(action: )\"?(\w+)")


def connect(settings: Settings) -> MongoClient[Document]:
    """A client of the server that MONGODB_URI names; it is not asked anything yet.

    Raises:
        PermanentError: no MONGODB_URI, or it is malformed.
    """
    if settings.mongodb_uri is None:
        raise PermanentError(
            "MONGODB_URI is not set: write mongodb://HOST:27017, or start the embedded server (`cai up`)"
        )
    _check_names(settings)
    secret = settings.mongodb_uri.get_secret_value()
    try:
        return MongoClient(secret, serverSelectionTimeoutMS=SERVER_SELECTION_MS, appname="cai_assets")
    except (PyMongoError, ValueError) as error:
        raise PermanentError(f"MONGODB_URI cannot be used: {_without(secret, str(error))}") from None


def _check_names(settings: Settings) -> None:
    """Refuse names that MongoDB cannot have, and two kinds of documents in one collection.

    Raises:
        PermanentError: naming the variable.
    """
    database = settings.mongodb_database
    if strange := sorted(set(database) & set('/\\. "$*<>:|?\0')):
        raise PermanentError(
            f"MONGODB_DATABASE={database}: a database's name cannot hold {' or '.join(map(repr, strange))}"
        )
    own = {name: name for name in COLLECTIONS}
    for name in COLLECTIONS:
        own[name] = getattr(settings, f"mongodb_{name}_collection", name)
    for name, chosen in own.items():
        variable = f"MONGODB_{name.upper()}_COLLECTION"
        if "$" in chosen or chosen.startswith(("system.", ".")) or chosen.endswith(".") or "\0" in chosen:
            raise PermanentError(
                f"{variable}={chosen}: a collection's name has no $, and neither begins with 'system.' nor "
                "begins or ends with a dot"
            )
        others = [other for other, taken in own.items() if taken == chosen and other != name]
        if chosen != name and others:
            raise PermanentError(f"{variable}={chosen}: that is the collection of {others[0]}; name another")


def explain(
    error: PyMongoError, client: MongoClient[Document], database: str
) -> PermanentError | TransientError:
    """The platform's error for one of pymongo's: names the server, never the password.

    Args:
        error: what pymongo raised.
        client: the client that met it.
        database: name of the database that was meant.
    """
    where = "MongoDB at " + (", ".join(sorted(f"{h}:{p}" for h, p in client.nodes)) or "MONGODB_URI")
    if isinstance(error, ServerSelectionTimeoutError):
        return TransientError(
            f"no MongoDB answers within {SERVER_SELECTION_MS / 1000:.0f} s at MONGODB_URI "
            f"({str(error).split(',')[0]}): is it started, and is the address right?"
        )
    if (
        error.timeout
        or isinstance(error, ConnectionFailure | AutoReconnect)
        or error.has_error_label("TransientTransactionError")
    ):
        return TransientError(f"{where}: {error}")
    if (
        isinstance(error, OperationFailure)
        and error.code == UNAUTHORIZED
        and (refused := _REFUSED_COMMAND.search(str(error)))
    ):
        return PermanentError(
            f"{where}: the user of MONGODB_URI may not run {refused[1]} in database {database!r}; give the "
            f"user the role readWrite on it, or correct MONGODB_DATABASE"
        )
    if isinstance(error, OperationFailure) and error.code in _AUTHENTICATION_CODES:
        return PermanentError(
            f"{where} refuses the user of MONGODB_URI for database {database!r} "
            f"({error.details.get('codeName', error.code) if error.details else error.code}): "
            "check user, password, authSource and roles (readWrite is needed)"
        )
    if isinstance(error, ConfigurationError):
        return PermanentError(f"MONGODB_URI: {error}")
    return PermanentError(f"{where}: {error}")


def lacking_rights(database: Database[Document]) -> list[str]:
    """The actions, by MongoDB's names, that the user may not do; each is tried on a collection of its own.

    Args:
        database: where. The collection is dropped again, where the user may; it is the same each time.

    Raises:
        PyMongoError: anything but a right that lacks.
    """
    probe, own = database[PROBE], {"_id": uuid.uuid4().hex}
    tries: tuple[tuple[str, Callable[[], Any]], ...] = (
        ("listCollections", lambda: database.list_collection_names(filter={"name": PROBE})),
        ("createCollection", lambda: database.create_collection(PROBE, check_exists=False)),
        ("createIndex", lambda: probe.create_index("probed")),
        ("insert", lambda: probe.insert_one(dict(own))),
        ("find", lambda: probe.find_one(own)),
        ("update", lambda: probe.update_one(own, {"$set": {"probed": True}})),
        ("remove", lambda: probe.delete_one(own)),
        ("dropCollection", lambda: database.drop_collection(PROBE)),
    )
    lacking = []
    for action, do in tries:
        try:
            do()
        except OperationFailure as error:
            if error.code == UNAUTHORIZED:
                lacking.append(action)
            elif (action, error.code) != ("createCollection", NAMESPACE_EXISTS):
                raise
    return [action for action in lacking if action != "dropCollection"]  # nothing but this drops any


def _without(uri: str, message: str) -> str:
    """`message` with the secret parts of `uri` masked."""
    credentials = uri.split("://", 1)[-1].rsplit("@", 1)[0] if "@" in uri else ""
    password = credentials.partition(":")[2]
    for secret in filter(None, {uri, credentials, password, quote_plus(password)}):
        message = message.replace(secret, "***")
    return message
