-- What conversations were like, per local day of the first counted message, channel and language: how long
-- they kept people busy (gaps between messages, each at most 300 s), how deep they went, how many agents took
-- part, and how many mixed languages. Empty conversations are left out. Durations in seconds.
with conversation as (
    select
        first_message_date as report_date,
        channel,
        language,
        messages,
        user_turns,
        agents,
        languages,
        active_s,
        -- summed as whole microseconds, so no order of rows changes the sum
        cast(floor(active_s * 1e6 + 5e-1) as bigint) as active_us
    from facts.fct_conversation
    where is_counted and not is_empty
)

select
    strftime(report_date, '%Y-%m') as month,
    report_date,
    channel,
    language,
    count(*) as conversations,
    cast(sum(active_us) as bigint) / 1e6 as active_sum_s,
    quantile_cont(active_s, 0.5) as active_p50_s,
    quantile_cont(active_s, 0.9) as active_p90_s,
    cast(sum(messages) as bigint) as messages,
    quantile_cont(messages, 0.5) as messages_p50,
    quantile_cont(messages, 0.9) as messages_p90,
    cast(sum(user_turns) as bigint) as user_turns,
    cast(sum(case when agents > 1 then 1 else 0 end) as bigint) as several_agents,
    cast(sum(case when languages > 0 then 1 else 0 end) as bigint) as language_known,
    cast(sum(case when languages > 1 then 1 else 0 end) as bigint) as language_mixed
from conversation
group by report_date, channel, language
