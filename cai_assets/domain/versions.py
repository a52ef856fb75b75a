"""Which of several versions of a business id lives, and what becomes of the stored document. Pure.

The rule, for any order in which days are replaced: the state of an id is a function of the rows that each day
had when it was last replaced. The live version is the greatest by (written last, row number, day) of the best
ones of all days; every other version is superseded and kept inside the document (`superseded`), so that it
lives again when the winner goes. Versions that lose inside their own day are kept without their fields: their
day brings them again.

Messages follow their conversation: a message that comes with its conversation's day outranks a copy that
another day still holds under the same conversation, because that conversation has moved.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

from cai_assets.domain.documents import Version, instant_of

Change: TypeAlias = Literal["insert", "set", "superseded", "delete", "none"]
Document: TypeAlias = dict[str, Any]

REPEATED = "a newer row of the same day has this id"
ELSEWHERE = "a newer row of another day has this id"


@dataclass(frozen=True)
class Decision:
    """What to do with one id.

    Attributes:
        change: `insert` a document; `set` fields of the stored one; only its `superseded` list;
            soft-`delete`; `none`.
        document: fields to store with `insert` and `set`, and the whole `superseded` list with every change.
        same_content: with `set`: the business fields stay the same, so what was derived from them stays.
        live: whether a version of the replaced day lives afterwards.
        superseded: versions of the replaced day that are superseded afterwards.
        was_live: whether one of that day lived before.
        elsewhere: other days whose live or superseded documents changed by this.
    """

    change: Change
    document: Document
    same_content: bool
    live: bool
    superseded: int
    was_live: bool
    elsewhere: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class _Candidate:
    """A version that may live: new, stored as the document, or kept in its list."""

    rank: tuple[int, int, str]
    partition: str
    fields: Mapping[str, Any]
    entry: Document


def decide(partition: str, new: Sequence[Version], stored: Document | None) -> Decision:
    """What becomes of one business id when its rows of one day are replaced.

    Args:
        partition: the day.
        new: the day's rows of this id; may be empty.
        stored: the whole document of this id, or None where there is none.
    """
    if stored is None and len(new) == 1:  # the rule below, for what is nearly every row of a first load
        return Decision(
            "insert", _first_of(new[0]), same_content=False, live=True, superseded=0, was_live=False
        )
    lives = stored is not None and stored.get("deleted_at") is None
    was_live = lives and stored is not None and stored["partition"] == partition
    old_entries: list[Document] = list(stored.get("superseded") or ()) if stored else []
    ordered = sorted(new, key=lambda version: version.rank)
    best = _candidate(ordered[-1]) if ordered else None
    others = [_kept(entry) for entry in old_entries if entry["partition"] != partition and "fields" in entry]
    current = None
    if lives and stored is not None and not was_live:
        current = _current(stored)
        others.append(current)
    candidates = [*others, best] if best else others
    entries = [entry for entry in old_entries if entry["partition"] != partition and "fields" not in entry]
    entries += [_entry(version, REPEATED) for version in ordered[:-1]]
    if not candidates:
        return _gone(stored, was_live)
    winner = max(candidates, key=lambda one: (not _outdated(one, best), one.rank))
    entries += [{**one.entry, "reason": ELSEWHERE} for one in candidates if one is not winner]
    entries.sort(key=lambda entry: (entry["partition"], entry["source_id"]))
    lists_differ = [_identity(one) for one in entries] != [_identity(one) for one in old_entries]
    live = winner is best
    superseded = len(ordered) - 1 * live if ordered else 0
    document = {"superseded": entries}
    if live and stored is None:
        return Decision(
            "insert", {**_stored_fields(winner), **document}, same_content=False, live=True,
            superseded=superseded, was_live=False,
        )  # fmt: skip
    assert stored is not None  # noqa: S101  every candidate but `best` comes from it
    same = lives and all(stored[name] == winner.entry[name] for name in _CONTROL)
    if not same:
        return Decision(
            "set", {**_stored_fields(winner), **document},
            same_content=stored["content_hash"] == winner.entry["content_hash"],
            live=live, superseded=superseded, was_live=was_live,
            elsewhere=_others(partition, current.partition if current else None, winner.partition),
        )  # fmt: skip
    return Decision(
        "superseded" if lists_differ else "none", document, same_content=True, live=live,
        superseded=superseded, was_live=was_live,
    )  # fmt: skip


_CONTROL = ("partition", "source_id", "source_updated_us", "content_hash")


def _gone(stored: Document | None, was_live: bool) -> Decision:
    change: Change = "delete" if was_live else "none"
    return Decision(
        change, {"superseded": []}, same_content=True, live=False, superseded=0, was_live=was_live
    )


def _outdated(one: _Candidate, best: _Candidate | None) -> bool:
    if best is None or one is best:
        return False
    owner = best.fields.get("conversation_id")  # conversations have their id outside the fields
    return owner is not None and one.fields.get("conversation_id") == owner


def _others(partition: str, *days: str | None) -> tuple[str, ...]:
    return tuple(sorted({day for day in days if day and day != partition}))


def _candidate(version: Version) -> _Candidate:
    entry = {**_entry(version, ""), "fields": version.fields}
    return _Candidate(version.rank, version.partition, version.fields, entry)


def _entry(version: Version, reason: str) -> Document:
    return {
        "partition": version.partition,
        "source_id": version.source_id,
        "source_updated_us": version.source_updated_us,
        "content_hash": version.content_hash,
        "reason": reason,
    }


def _kept(entry: Document) -> _Candidate:
    rank = (entry["source_updated_us"], entry["source_id"], entry["partition"])
    return _Candidate(rank, entry["partition"], entry["fields"], entry)


_STAMPS = frozenset(
    (
        *("_id", "ingested_at", "changed_at", "run_id", "schema_version", "deleted_at", "revision"),
        *("superseded", "source_updated_at", "language_detected", "language_confidence", *_CONTROL),
    )
)
"""Fields of a stored document that are not of the row."""


def _current(stored: Document) -> _Candidate:
    entry = {name: stored[name] for name in _CONTROL}
    fields = {name: value for name, value in stored.items() if name not in _STAMPS}
    return _kept({**entry, "reason": "", "fields": fields})


def _first_of(version: Version) -> Document:
    """`_stored_fields` of the only version there is, in one step: a first load makes nothing else."""
    return {
        **version.fields,
        "partition": version.partition,
        "source_id": version.source_id,
        "source_updated_us": version.source_updated_us,
        "content_hash": version.content_hash,
        "source_updated_at": instant_of(version.source_updated_us),
        "superseded": [],
    }


def _stored_fields(winner: _Candidate) -> Document:
    return {
        **winner.fields,
        **{name: winner.entry[name] for name in _CONTROL},
        "source_updated_at": instant_of(winner.entry["source_updated_us"]),
    }


def _identity(entry: Document) -> tuple[Any, ...]:
    return (*(entry[name] for name in _CONTROL), entry["reason"], "fields" in entry)
