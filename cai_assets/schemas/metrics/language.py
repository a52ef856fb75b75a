"""Metrics of languages and translation: coverage, failures, lag, whether detection agrees."""

from cai_assets.schemas.metrics.declaring import Metric, messages, ratio, statistic

_SPOKEN = "from facts.stg_messages where is_counted and traffic_class = 'live'"


def _lag(percent: int) -> Metric:
    name = "Median" if percent == 50 else f"{percent}th percentile"
    return statistic(
        f"translation_lag_p{percent}_s",
        f"Translation lag, {name.lower()}",
        f"{name} of the time from a message to the first usable answer about it, by the ledger; one that was "
        "translated before it was written has none.",
        sql=(
            f"select quantile_cont((a.answered_us - m.created_us) / 1e6, {percent / 100}) "
            "from facts.stg_messages as m inner join (select message_id, "
            "min(created_us + coalesce(latency_ms, 0) * 1000) as answered_us from facts.fct_llm_call "
            "where purpose = 'translation' and status <> 'failed' group by message_id) as a "
            "on m.message_id = a.message_id where m.is_counted and m.traffic_class = 'live' "
            "and m.translation_status = 'ok' and a.answered_us >= m.created_us"
        ),
    )


METRICS = (
    messages(
        "needing_translation",
        "Messages that need translation",
        "Counted messages in another language than DIFY_TARGET_LANGUAGE: those with a translation row, made "
        "or not.",
        mart="language",
        facts=f"select count(*) {_SPOKEN} and needs_translation",
        heading="Need translation",
    ),
    messages(
        "translated",
        "Messages translated",
        "Messages that need translation and have one.",
        mart="language",
        facts=f"select count(*) {_SPOKEN} and translation_status = 'ok'",
        heading="Translated",
    ),
    ratio(
        "translation_coverage",
        "Translated",
        "Share of the messages that need translation and have one.",
        numerator="translated",
        denominator="needing_translation",
        mart="language",
        facts=(
            "select sum(case when translation_status = 'ok' then 1 else 0 end) "
            f"/ nullif(sum(case when needs_translation then 1 else 0 end), 0) {_SPOKEN}"
        ),
        heading="Coverage",
    ),
    messages(
        "translated_cached",
        "Translated from memory",
        "Translated messages whose translation had been paid for by another message of the same text.",
        mart="language",
        column="cached",
    ),
    messages(
        "translation_failed",
        "Translations failed",
        "Messages that were asked for in vain.",
        mart="language",
        column="failed",
        facts=f"select count(*) {_SPOKEN} and translation_status = 'failed'",
        heading="Failed",
    ),
    messages(
        "translation_skipped",
        "Translations skipped",
        "Messages that were not asked for: no key, or the budget was spent.",
        mart="language",
        column="skipped",
        facts=f"select count(*) {_SPOKEN} and translation_status = 'skipped'",
        heading="Skipped",
    ),
    _lag(50),
    _lag(95),
    messages(
        "detection_compared",
        "Languages compared",
        "Messages whose language is both declared and detected, neither as `und`.",
        mart="language",
        facts=f"select count(detection_agrees) {_SPOKEN}",
    ),
    messages(
        "detection_agreeing",
        "Languages agreeing",
        "Compared messages where declared and detected language are the same, regions apart.",
        mart="language",
        facts=f"select count(*) {_SPOKEN} and detection_agrees",
    ),
    ratio(
        "detection_agreement",
        "Detection agrees",
        "Share of the compared messages whose declared and detected language are the same, regions apart.",
        numerator="detection_agreeing",
        denominator="detection_compared",
        mart="language",
    ),
)
