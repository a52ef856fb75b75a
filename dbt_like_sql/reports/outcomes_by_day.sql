-- One row per local day and outcome: live conversations; the outcomes of a day add up to its conversations.
select
    first_message_date as report_date,
    outcome,
    count(*) as conversations
from facts.fct_conversation
where is_counted
group by first_message_date, outcome
order by first_message_date, outcome
