-- One row per local day and channel: conversations started, live traffic.
select
    report_date,
    channel,
    cast(sum(conversations_started) as bigint) as conversations_started
from marts.volume
group by report_date, channel
order by report_date, channel
