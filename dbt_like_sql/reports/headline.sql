-- One row: the figures at the top of a report, over the live conversations of the facts it is given.
-- Durations in seconds; NULL where nothing was measured.
with conversations as (
    select
        count(*) as conversations,
        cast(coalesce(sum(case when is_empty then 1 else 0 end), 0) as bigint) as empty_conversations,
        count(distinct user_id) as distinct_users,
        cast(coalesce(sum(messages), 0) as bigint) as messages,
        cast(coalesce(sum(user_messages), 0) as bigint) as user_messages,
        cast(coalesce(sum(bot_messages), 0) as bigint) as bot_messages,
        cast(coalesce(sum(agent_messages), 0) as bigint) as agent_messages,
        count(first_response_s) as answered,
        cast(coalesce(sum(case when unanswered then 1 else 0 end), 0) as bigint) as unanswered,
        quantile_cont(first_response_s, 0.5) as first_response_p50_s,
        quantile_cont(first_response_s, 0.9) as first_response_p90_s,
        quantile_cont(first_human_response_s, 0.5) as first_human_response_p50_s,
        quantile_cont(first_human_response_s, 0.9) as first_human_response_p90_s,
        quantile_cont(human_response_after_handoff_s, 0.5) as after_handoff_p50_s,
        quantile_cont(human_response_after_handoff_s, 0.9) as after_handoff_p90_s,
        cast(coalesce(sum(case when resolves > 0 then 1 else 0 end), 0) as bigint) as resolved,
        cast(coalesce(sum(case when reopens > 0 then 1 else 0 end), 0) as bigint) as reopened,
        quantile_cont(resolution_last_s, 0.5) as resolution_p50_s,
        quantile_cont(resolution_last_s, 0.9) as resolution_p90_s,
        cast(coalesce(sum(case when outcome = 'contained' then 1 else 0 end), 0) as bigint) as contained,
        cast(
            coalesce(sum(case when bot_messages > 0 and user_messages > 0 then 1 else 0 end), 0) as bigint
        ) as bot_conversations,
        cast(coalesce(sum(case when handed_off then 1 else 0 end), 0) as bigint) as handed_off,
        count(csat_score) as csat_answers,
        avg(csat_score) as csat_avg
    from facts.fct_conversation
    where is_counted
),

waits as (
    select
        count(*) as waits,
        cast(coalesce(sum(case when replied_at_us is null then 1 else 0 end), 0) as bigint) as waits_open,
        quantile_cont(reply_s, 0.5) as reply_p50_s,
        quantile_cont(reply_s, 0.9) as reply_p90_s,
        quantile_cont(reply_s, 0.95) as reply_p95_s,
        quantile_cont(reply_s, 0.99) as reply_p99_s
    from facts.fct_wait
    where traffic_class = 'live'
),

-- Counted messages, as in marts.language: a system's notice may be translated and is nobody's message.
translation as (
    select
        cast(
            coalesce(sum(case when needs_translation then 1 else 0 end), 0) as bigint
        ) as needing_translation,
        cast(coalesce(sum(case when translation_status = 'ok' then 1 else 0 end), 0) as bigint) as translated
    from facts.stg_messages
    where is_counted and traffic_class = 'live'
)

select
    conversations.*,
    waits.*,
    translation.*
from conversations
cross join waits
cross join translation
