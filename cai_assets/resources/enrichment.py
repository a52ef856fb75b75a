"""The enrichment of partitions, as the assets call it: languages, translations, categories.

A range of partitions is worked in one go. What is done stays done: every function can be stopped at any
moment and called again, and takes up what is left.
"""

import logging
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from pymongo import UpdateOne
from pymongo.errors import PyMongoError

from cai_assets.domain.languages import UNDETERMINED, Detection, detect, primary_language
from cai_assets.resources.dify import DifyClient
from cai_assets.resources.enrichment_categories import Categories, decide_by_person
from cai_assets.resources.enrichment_reading import live
from cai_assets.resources.enrichment_summary import EnrichmentSummary, LanguageSummary
from cai_assets.resources.enrichment_translations import Translations
from cai_assets.resources.mongo import MongoStore
from cai_assets.settings import Settings

__all__ = ["categorise_partitions", "decide_by_person", "detect_languages", "translate_partitions"]


def detect_languages(
    mongo: MongoStore, partitions: Sequence[str], settings: Settings, log: logging.Logger
) -> LanguageSummary:
    """Write the detected language into every live message that has none yet.

    Args:
        mongo: the database.
        partitions: days as `YYYY-MM-DD`.
        settings: unused but for symmetry with its siblings; detection has no settings.
        log: gets a line at the end.

    Raises:
        TransientError: the database cannot be reached.
        PermanentError: it refuses.
    """
    summary = LanguageSummary()
    for partition in partitions:
        mongo.write("messages", _detections(mongo, partition, summary)).raise_failures()
    _count_languages(mongo, partitions, summary)
    log.info("languages: %d of %d messages detected now", summary.detected_now, summary.messages)
    return summary


def _detections(mongo: MongoStore, partition: str, summary: LanguageSummary) -> Iterator[UpdateOne]:
    for message in live(mongo, "messages", partition):
        if message.get("language_detected") is not None:
            continue
        detection = detect(message.get("text") or "")
        summary.detected_now += 1
        yield UpdateOne({"_id": message["_id"]}, _if_still(message["text_hash"], detection))


def _if_still(text_hash: str, detection: Detection) -> list[dict[str, Any]]:
    """Set the detection, unless the message was replaced by another version between reading and writing.

    The condition stands in the update and not in the filter: the embedded server finds a document by `_id`
    alone through its index (11,000 a second), by `_id` and another field by a scan (40 a second).
    """
    found = {"language_detected": detection.language, "language_confidence": detection.confidence}
    same = {"$eq": ["$text_hash", {"$literal": text_hash}]}
    return [
        {"$set": {name: {"$cond": [same, {"$literal": value}, f"${name}"]} for name, value in found.items()}}
    ]


def _count_languages(mongo: MongoStore, partitions: Sequence[str], summary: LanguageSummary) -> None:
    pipeline: list[dict[str, Any]] = [
        {"$match": {"partition": {"$in": list(partitions)}}},
        {"$match": {"deleted_at": None}},  # apart, so that the first finds its index
        {"$group": {"_id": {"detected": "$language_detected", "declared": "$language"}, "n": {"$sum": 1}}},
    ]
    counted: Counter[str] = Counter()
    try:
        groups = list(mongo.collection("messages").aggregate(pipeline))
    except PyMongoError as error:
        raise mongo.explain(error) from error
    for group in groups:
        detected = group["_id"].get("detected") or UNDETERMINED
        declared = primary_language(group["_id"].get("declared"))
        counted[detected] += group["n"]
        if declared is not None and detected != UNDETERMINED:
            if declared == detected:
                summary.agreeing += group["n"]
            else:
                summary.disagreeing += group["n"]
    summary.by_language = counted
    summary.messages = counted.total()


def translate_partitions(
    mongo: MongoStore,
    partitions: Iterable[str],
    settings: Settings,
    run_id: str,
    log: logging.Logger,
    client: DifyClient | None = None,
    *,
    retranslate: bool = False,
) -> EnrichmentSummary:
    """Bring the translations of these partitions to what their live messages need.

    A message needs one where its effective language is not DIFY_TARGET_LANGUAGE and it holds words. Answers
    are written as they come. Without DIFY_TRANSLATION_API_KEY, and once the budget is reached, what the
    memory does not know is `skipped`; a later call takes it up, as it does what `failed`.

    Args:
        mongo: the database.
        partitions: days as `YYYY-MM-DD`.
        settings: target language, prompt version, key, budget, threads.
        run_id: run of the platform; the ledger and the budget count by it.
        log: gets progress every 5 s; never a text.
        client: instead of one made from the settings.
        retranslate: ask anew for what was translated with another DIFY_PROMPT_VERSION; else that stands. The
            older translation goes when the new one is there.

    Raises:
        PermanentError: the workflow, its key or the settings are wrong (what was answered is written).
        TransientError: Dify or the database is down.
    """
    return Translations(mongo, settings, run_id, log, client, retranslate=retranslate).run(partitions)


def categorise_partitions(
    mongo: MongoStore,
    partitions: Iterable[str],
    settings: Settings,
    run_id: str,
    log: logging.Logger,
    client: DifyClient | None = None,
) -> EnrichmentSummary:
    """Bring the categories of these partitions to what their live conversations say.

    To be called after `translate_partitions`: the transcript has the translation where there is one. Without
    DIFY_CATEGORY_API_KEY, once the budget is reached, and where Dify fails, keywords decide (`source` rule,
    with the reason); a later call asks again. What a person decided stays. Arguments and errors as there.
    """
    return Categories(mongo, settings, run_id, log, client).run(partitions)
