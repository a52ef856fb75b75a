-- One row per clock: waits within each of RESPONSE_TARGETS, as numerator and denominator.
select
    clock,
    cast(sum(n) as bigint) as n,
    cast(sum(n_open) as bigint) as n_open,
    cast(sum(within_target_1) as bigint) as within_target_1,
    cast(sum(decided_1) as bigint) as decided_1,
    cast(sum(within_target_2) as bigint) as within_target_2,
    cast(sum(decided_2) as bigint) as decided_2,
    cast(sum(within_target_3) as bigint) as within_target_3,
    cast(sum(decided_3) as bigint) as decided_3
from marts.response
where hours = 'calendar'
group by clock
order by clock
