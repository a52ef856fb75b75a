"""What `cai doctor` looks at of the servers that hold the data: source, MongoDB, Dify, the lake's store."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from functools import partial
from typing import TYPE_CHECKING

from pydantic import SecretStr

from cai_assets.commands.findings import Finding, guarded
from cai_assets.settings import Settings

if TYPE_CHECKING:
    from cai_assets.resources.mongo import MongoStore

Choices = Sequence[Sequence[str]]
"""Sets of inputs of a workflow, any of which will do."""


def source(settings: Settings, *, sandbox: bool) -> Iterator[Finding]:
    """Connection, token, tables, columns and counts of the source."""
    from cai_assets.resources.source import open_source

    with closing(open_source(settings)) as opened:
        report = opened.check()
    kind = "sandbox in place of NocoDB" if sandbox else {"nocodb": "NocoDB", "files": "files"}[report.kind]
    details = "".join(f", {name} {value}" for name, value in report.details.items())
    yield Finding(
        "Source",
        "ok",
        f"{kind} at {report.address}{details}",
        "For your own conversations set NOCODB_BASE_URL, or SOURCE=files." if sandbox else "",
    )
    for table in report.tables:
        empty = table.rows == 0
        absent = f"; optional columns it lacks: {', '.join(table.absent)}" if table.absent else ""
        yield Finding(
            f"  {table.name}",
            "warn" if empty else "ok",
            f"{table.origin}: {table.rows:,} rows, {len(table.mapped)} columns read{absent}",
            "There is nothing to materialise." if empty else "",
        )
    for warning in report.warnings:
        yield Finding("  rows", "warn", warning)


def mongo(settings: Settings, *, embedded: bool) -> Iterator[Finding]:
    """Connection, version, transactions, rights to write."""
    from pymongo.errors import PyMongoError

    from cai_assets.resources.mongo import MongoStore

    with MongoStore.from_settings(settings) as store:
        try:
            version = store.client.server_info()["version"]
            where = ", ".join(sorted(f"{host}:{number}" for host, number in store.client.nodes))
            counted = {
                name: store.collection(name).estimated_document_count()
                for name in ("conversations", "messages")
            }
            transactions = store.transactions
            told = list(_erasures(store, settings))
            lacking = store.lacking_rights()
        except PyMongoError as error:
            raise store.explain(error) from error
    kind = f"embedded SecantusDB (speaks MongoDB {version})" if embedded else f"MongoDB {version}"
    yield Finding(
        "MongoDB",
        "ok",
        f"{kind} at {where}, database {settings.mongodb_database}: "
        + ", ".join(f"{count:,} {name}" for name, count in counted.items()),
        "Beta, one node: set MONGODB_URI for production." if embedded else "",
    )
    yield Finding(
        "  transactions",
        "ok" if transactions else "warn",
        "yes: a batch is written whole or not at all"
        if transactions
        else "none: the server is no replica set",
        "" if transactions else "A crash can leave half a batch until the next run; make it a replica set.",
    )
    yield Finding(
        "  rights",
        "fail" if lacking else "ok",
        f"the user of MONGODB_URI may not do these in database {settings.mongodb_database}: "
        f"{', '.join(lacking)}"
        if lacking
        else "a collection was made, indexed, written and read",
        f"Give the user the role readWrite on {settings.mongodb_database}, or these actions."
        if lacking
        else "",
    )
    yield from told


def _erasures(store: "MongoStore", settings: Settings) -> Iterator[Finding]:
    """Tombstones that fit the key, and erasures that were stopped."""
    from cai_assets.resources.erasures import Erasures

    records = Erasures(store)
    erased = records.erased(settings.pseudonym_key)
    stopped = [one for one in records.journals() if one["state"] == "running"]
    count = len(erased.persons) if erased is not None else 0
    yield Finding(
        "  erasures",
        "warn" if stopped else "ok",
        f"{count:,} persons erased" + (f", {len(stopped)} erasures were not finished" if stopped else ""),
        "Run `cai erase` for the same person again, unless it is running now." if stopped else "",
    )


def dify(settings: Settings, *, sandbox: bool) -> Iterator[Finding]:
    """Both keys, by what the server says of the app behind each, and the inputs it declares."""
    from cai_assets.domain.workflows import CATEGORY_INPUTS, TRANSLATION_INPUTS

    wanted: Mapping[str, tuple[SecretStr | None, str, Choices]] = {
        "translation": (settings.dify_translation_api_key, "DIFY_TRANSLATION_API_KEY", TRANSLATION_INPUTS),
        "categories": (settings.dify_category_api_key, "DIFY_CATEGORY_API_KEY", CATEGORY_INPUTS),
    }
    for purpose, (key, variable, inputs) in wanted.items():
        if settings.dify_base_url is None or key is None:
            missing = "DIFY_BASE_URL" if settings.dify_base_url is None else variable
            yield Finding(
                f"Dify, {purpose}",
                "warn",
                f"{missing} is not set: skipped",
                f"Set {missing} to have it done.",
            )
            continue
        where = "sandbox in place of Dify" if sandbox else f"Dify at {settings.dify_base_url}"
        look = partial(_app, settings, key, variable, purpose, inputs, where)
        yield from guarded(f"Dify, {purpose}", look, f"See DIFY_BASE_URL and {variable}.")


def _app(
    settings: Settings, key: SecretStr, variable: str, purpose: str, inputs: Choices, where: str
) -> Iterator[Finding]:
    from cai_assets.resources.dify import DifyClient
    from cai_assets.resources.dify_errors import ConfigurationError
    from cai_assets.resources.enrichment_asking import check_contract

    subject = f"Dify, {purpose}"
    assert settings.dify_base_url is not None  # noqa: S101  asked by the caller
    with DifyClient(settings.dify_base_url, key, max_retries=0) as client:
        info = client.info()
        mode = info.get("mode")
        if mode != "workflow":
            yield Finding(
                subject,
                "fail",
                f"{where}: {variable} is the key of a {mode!r} app",
                "Use the key of a workflow app.",
            )
            return
        app = f"{where}, app {info.get('name')!r}"
        client.form()  # what cannot be reached is told as such
        try:
            found = check_contract(client, purpose, inputs)
        except ConfigurationError as error:
            exactly = ", or ".join(", ".join(names) for names in inputs)
            yield Finding(
                subject,
                "fail",
                f"{app}: {error}",
                f"Let its Start node declare {exactly}, or set {variable} to the key of one that does.",
            )
            return
    yield Finding(subject, "ok", f"{app}, inputs {', '.join(sorted(found))}")


def store(settings: Settings) -> Iterator[Finding]:
    """The lake's place: a probe is written, read and deleted."""
    from cai_assets.resources.object_store import ObjectStore

    yield Finding("Lake", "ok", ObjectStore.from_settings(settings).check())
