"""Erasing a person, everywhere: what is done in which order, and how a killed erasure is taken up again.

The order: a tombstone, so that nobody brings the person back; what is theirs is found and written down; raw
rows, documents, tables, old files go; then everything is searched, and a receipt is left. Every step may be
done twice. What a step does is in `erasure_scope`, `erasure_mongo`, `erasure_lake` and `erasure_search`.
"""

import logging
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from pymongo.errors import PyMongoError

from cai_assets.domain.erasure import Person, conversation_mark, person_mark
from cai_assets.domain.pseudonyms import PREFIX, key_of, pseudonym
from cai_assets.domain.redaction import redactor_of
from cai_assets.failures import PermanentError
from cai_assets.resources.dirty_days import utc_now
from cai_assets.resources.enrichment_claims import Claims
from cai_assets.resources.erasure_lake import filter_raw, remove_old_files
from cai_assets.resources.erasure_mongo import remove
from cai_assets.resources.erasure_scope import (
    Scope,
    conversations_by_pseudonym,
    in_mongo,
    in_tables,
    needles_of,
    summary,
    user_of,
)
from cai_assets.resources.erasure_search import Proof, Search
from cai_assets.resources.erasures import Erasures
from cai_assets.resources.mongo import MongoStore
from cai_assets.resources.source import TABLES as SOURCE_TABLES
from cai_assets.resources.source import Source
from cai_assets.resources.storage import LakeTable
from cai_assets.schemas.documents import COLLECTIONS
from cai_assets.settings import Settings

_LOOKS: Final = 5
"""How often documents are looked through until nothing is found: a run that was under way may add some."""


@dataclass(frozen=True)
class Who:
    """Who is to be erased.

    Attributes:
        pseudonym: `u_` and 32 hex digits.
        user_id: as the source has it; None where nothing but the pseudonym is known.
        mark: the tombstone.
    """

    pseudonym: str
    user_id: str | None
    mark: str


@dataclass
class Receipt:
    """What an erasure did. It names nobody.

    Attributes:
        mark: tombstone of the person.
        began_at: when it was begun, UTC.
        finished_at: when it was finished, UTC.
        removed: documents and rows of the person that were found, by collection and table; rows of the ledger
            stay without the person.
        days: days whose tables were made again.
        files_rewritten: files of raw tables that were written anew.
        files_deleted: files of older versions that held the person.
        leftovers: folders of killed writers that were removed.
        proof: the search that finds nothing.
        source: rows that the source still holds, by table; None where it was not asked.
    """

    mark: str
    began_at: datetime
    finished_at: datetime | None = None
    removed: dict[str, int] = field(default_factory=dict)
    days: list[str] = field(default_factory=list)
    files_rewritten: int = 0
    files_deleted: int = 0
    leftovers: int = 0
    proof: Proof = field(default_factory=Proof)
    source: dict[str, list[int]] | None = None

    def document(self) -> dict[str, Any]:
        """As MongoDB keeps it; names of places hold dots, so counts by place are lists."""
        values = asdict(self)
        proof = values["proof"]
        for name in ("left", "mentions"):
            proof[name] = [{"where": where, "count": count} for where, count in sorted(proof[name].items())]
        values["removed"] = [{"where": where, "count": n} for where, n in sorted(self.removed.items())]
        return values


@dataclass(frozen=True)
class Places:
    """Where a person may be.

    Attributes:
        mongo: the documents.
        tables: every declared table of the lake.
        refresh: makes the tables of some days again, and whatever is made of them.
        source: asked what it still holds; None leaves it out.
        folders: further local folders to search, by the name they are shown under.
    """

    mongo: MongoStore
    tables: Sequence[LakeTable]
    refresh: Callable[[Sequence[str]], None]
    source: Source | None = None
    folders: Sequence[tuple[str, Path]] = ()


class Eraser:
    """Erases persons of one installation, one at a time.

    Args:
        places: where.
        settings: key of pseudonyms, masking.
        log: told about steps; never an id.
        tell: called with a line for people at every step.
        searched: called during the search, with what was done and how many documents and files there are, as
            far as they were counted.
    """

    def __init__(
        self,
        places: Places,
        settings: Settings,
        log: logging.Logger,
        tell: Callable[[str], None] = lambda _: None,
        searched: Callable[[Proof, int], None] = lambda *_: None,
    ) -> None:
        self._places = places
        self._settings = settings
        self._log = log
        self._tell = tell
        self._searched = searched
        self._records = Erasures(places.mongo)

    # -- looking

    def who(self, user: str, *, is_pseudonym: bool = False) -> Who:
        """The person of a user id, or of a pseudonym.

        Raises:
            PermanentError: no PSEUDONYM_KEY; or what should be a pseudonym is none.
        """
        key = key_of(self._settings.pseudonym_key)
        if not is_pseudonym:
            hashed = pseudonym(user, key)
            return Who(hashed, user, person_mark(hashed, key))
        if not (user.startswith(PREFIX) and len(user) == len(PREFIX) + 32):
            raise PermanentError(f"{user!r} is no pseudonym: they are {PREFIX} and 32 hex digits")
        return Who(user, user_of(self._places.mongo, user, key), person_mark(user, key))

    def look(self, who: Who) -> Scope:
        """What is there of the person; changes nothing."""
        journal = self._records.journal(who.mark) or {}
        return self._found(who, frozenset(journal.get("conversations", ())))

    def _found(self, who: Who, known: frozenset[str]) -> Scope:
        scope = Scope(Person(who.pseudonym, who.user_id, known))
        if who.user_id is None:
            by_lake = conversations_by_pseudonym(self._places.tables, scope.person)
            scope.person = replace(scope.person, conversations=known | by_lake)
        in_mongo(self._places.mongo, scope)
        before = scope.person.conversations
        in_tables(self._places.tables, scope)
        if scope.person.conversations != before:  # raw knows conversations that no document does
            in_mongo(self._places.mongo, scope)
            in_tables(self._places.tables, scope)
        return scope

    # -- erasing

    def erase(self, who: Who) -> Receipt:
        """Erase the person, or go on where an erasure of theirs was stopped.

        Raises:
            PermanentError: another erasure is under way; something of the person is left, with where; a table
                could not be made again. What was done stays done: call it again.
            TransientError: MongoDB or the store is away.
        """
        with self._alone():
            return self._erase(who)

    @contextmanager
    def _alone(self) -> Iterator[None]:
        claims = Claims(self._places.mongo, "erasure/", self._log)
        try:
            if "one" not in claims.take(["one"]):
                raise PermanentError(
                    "another erasure is under way; wait until it has finished, and try again"
                )
            yield
            self._places.mongo.write("llm_claims", [claims.released("one")]).raise_failures()
        finally:
            claims.close()

    def _erase(self, who: Who) -> Receipt:
        key = key_of(self._settings.pseudonym_key)
        journal = self._records.journal(who.mark) or {}
        going_on = journal.get("state") == "running"
        if not going_on and "receipt" in journal:
            earlier = [*journal.get("earlier", ()), journal["receipt"]]
            self._records.note(who.mark, {"earlier": earlier})
        receipt = Receipt(who.mark, journal["began_at"] if going_on else utc_now())
        if going_on:
            self._tell("an erasure of this person was stopped; it goes on")
        # Before anything is looked for: what is materialised from now on leaves the person out.
        self._records.mark(who.mark, (), key)
        self._records.note(who.mark, {"state": "running", "began_at": receipt.began_at})
        self._tell("finding what is there")
        known = frozenset(journal.get("conversations", ())) if going_on else frozenset()
        scope = self._found(who, known)
        receipt.removed = summary(scope)
        for where, count in _counts(journal.get("removed") if going_on else None).items():
            receipt.removed[where] = max(count, receipt.removed.get(where, 0))
        receipt.days = sorted(scope.days | set(journal.get("days", ()) if going_on else ()))
        needles = needles_of(scope, redactor_of(self._settings))
        needles |= self._records.needles(who.mark) if going_on else set()
        self._records.mark(who.mark, (conversation_mark(c, key) for c in scope.person.conversations), key)
        self._records.keep_needles(who.mark, needles)
        numbers: dict[str, list[int]] = {
            table.name: sorted(
                scope.source_rows(table.name) | set(journal.get("numbers", {}).get(table.name, ()))
            )
            for table in SOURCE_TABLES
        }
        self._records.note(
            who.mark,
            {
                "conversations": sorted(scope.person.conversations),
                "days": receipt.days,
                "numbers": numbers,
                "removed": [{"where": where, "count": n} for where, n in sorted(receipt.removed.items())],
            },
        )
        self._remove(scope, who, receipt, key)
        self._prove(scope.person, needles, receipt)
        receipt.source = self._in_source(scope.person, numbers)
        self._finish(who, receipt)
        return receipt

    def _remove(self, scope: Scope, who: Who, receipt: Receipt, key: bytes) -> None:
        self._tell(f"raw rows of {len(receipt.days)} days")
        for table in self._places.tables:
            if table.table.layer == "raw":
                done = filter_raw(table, receipt.days, scope.person)
                receipt.files_rewritten += done.files if done.partitions else 0
        self._tell("documents")
        for _ in range(_LOOKS):
            remove(self._places.mongo, scope, key)
            again = Scope(scope.person)
            in_mongo(self._places.mongo, again)
            if not any(again.documents.values()):
                break
            scope.documents = again.documents
        else:
            raise PermanentError(
                "documents of the person keep coming: something imports them; stop the runs and try again"
            )
        if receipt.days:
            self._tell(f"tables and reports of {len(receipt.days)} days")
            self._places.refresh(receipt.days)
            for name in ("conversations", "messages"):
                # Raw rows that were dropped on their way to documents are not in raw any more.
                self._records.set_dropped(name, dict.fromkeys(receipt.days, 0))
        self._tell("old files")
        for table in self._places.tables:
            if table.exists():
                receipt.files_deleted += len(remove_old_files(table, scope.person))
        if self._places.tables:
            receipt.leftovers = self._places.tables[0].store.sweep(datetime.now(UTC))
        self._records.note(who.mark, {"step": "removed"})

    def _prove(self, person: Person, needles: set[Any], receipt: Receipt) -> None:
        self._tell("searching every file and every document")
        total = self._to_search()
        search = Search(person, needles, lambda proof: self._searched(proof, total))
        search.mongo(self._places.mongo)
        if self._places.tables:
            store = self._places.tables[0].store
            files = store.list_files("", "")
            total += len(files)
            search.store(store, files)
        for name, folder in self._places.folders:
            if folder.is_dir():
                search.folder(folder, name)
        receipt.proof = search.proof
        again = Scope(person)
        in_mongo(self._places.mongo, again)
        in_tables(self._places.tables, again)
        for where, count in summary(again).items():
            if count:
                search.proof.left[where] += count
        if search.proof.left:
            shown = "; ".join(f"{where} ({n})" for where, n in search.proof.left.most_common(10))
            raise PermanentError(
                f"something of the person is left: {shown}. Was it written while the erasure ran? "
                "Run `cai erase` again; what stays then was made by something else: remove it by hand"
            )

    def _to_search(self) -> int:
        """About how many documents and local files the search goes through, for the progress alone."""
        mongo = self._places.mongo
        try:
            count = sum(mongo.collection(name).estimated_document_count() for name in COLLECTIONS)
        except PyMongoError as error:
            raise mongo.explain(error) from error
        for _, folder in self._places.folders:
            count += sum(1 for path in folder.rglob("*") if path.is_file())
        return count

    def _in_source(self, person: Person, numbers: Mapping[str, list[int]]) -> dict[str, list[int]] | None:
        """Row numbers of what the source still holds: by the conversations, and of rows that were known."""
        source = self._places.source
        if source is None:
            return None
        ids = sorted(person.conversations)
        found = {"conversations": source.conversations_by_id(ids), "messages": source.messages(ids)}
        return {
            table.name: sorted(
                {
                    row.id
                    for rows in (found[table.name], source.rows_by_number(table, numbers[table.name]))
                    for row in rows
                    if person.is_row(table.name, row.values)
                }
            )
            for table in SOURCE_TABLES
        }

    def _finish(self, who: Who, receipt: Receipt) -> None:
        receipt.finished_at = utc_now()
        self._records.drop_needles(who.mark)
        self._records.note(
            who.mark,
            {
                "state": "done",
                "step": "done",
                "conversations": [],
                "numbers": {},
                "receipt": receipt.document(),
            },
        )
        self._log.info("a person was erased: %d documents and rows", sum(receipt.removed.values()))


def _counts(listed: Sequence[dict[str, Any]] | None) -> Counter[str]:
    return Counter({one["where"]: one["count"] for one in listed or ()})
