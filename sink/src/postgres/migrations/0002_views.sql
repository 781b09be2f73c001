-- For people. Programs read the tables.

-- Who has gone silent, and whose they are.
create view open_lapses as
select
    owner, account, record ->> 'account_name' as account_name, contact, record ->> 'name' as name,
    record ->> 'job_title' as job_title, segment, last_engagement_at, due as lapsed_at, change, score,
    record #>> '{last_engagement,title}' as last_title, record #>> '{say_next,content}' as say_next,
    record #>> '{planned_next,scheduled_for}' as planned_for, backlog, id as alert
from alerts
where is_open and rule = 'lapse';

-- The same, counted for each owner.
create view open_lapses_by_owner as
select
    owner, count(*) as lapses, count(*) filter (where change = 'escalated') as escalated,
    count(distinct account) as accounts, min(lapsed_at) as longest_since, max(score) as best_score
from open_lapses
group by owner;

-- What happened with a contact, silences among it.
create view timeline as
select
    account, contact, coalesce(occurred_at, lapsed_at) as at, fact, coalesce(vehicle, channel, measure) as what, title,
    interaction, status, campaign, content, by, recovered_at, source, id
from facts;

-- Silences of contacts and, without a contact, of accounts.
create view episodes as
select account, contact, last_engagement_at, lapsed_at, recovered_at, recovered_at - last_engagement_at as silent_for, key
from facts
where lapsed_at is not null;

-- Opportunities, orders, renewals as they stand: amounts are states, the latest counts.
create view deals as
select distinct on (account, source, coalesce(ref, key))
    account, source, ref, contact, measure, stage, outcome, amount, currency, product, quantity, occurred_at, key
from facts
where fact = 'value'
order by account, source, coalesce(ref, key), occurred_at desc, key desc;

-- What a campaign cost and brought. An engagement that is nobody's own doing (passive, machine) or did not take place
-- is not counted. Costs in several currencies are not added up.
create view campaigns as
select
    campaign, min(occurred_at) as first_at, max(occurred_at) as last_at,
    count(*) filter (where fact = 'touch') as touches,
    count(distinct (account, contact)) filter (where fact = 'touch') as contacts_touched,
    count(*) filter (where is_engaged) as engagements,
    count(distinct (account, contact)) filter (where is_engaged) as contacts_engaged,
    count(distinct account) filter (where is_engaged) as accounts_engaged,
    case when count(distinct currency) filter (where cost is not null) <= 1 then sum(cost) end as cost,
    case when count(distinct currency) filter (where cost is not null) <= 1
        then min(currency) filter (where cost is not null) end as currency
from (
    select
        *, fact = 'engagement' and coalesce(interaction in ('two_way', 'one_way'), true)
            and coalesce(status = 'attended', true) as is_engaged
    from facts
    where campaign is not null
) as of_campaigns
group by campaign;

-- What a contact's score has decayed to: points halve in every half-life since `as_of`, and the score is
-- 100 (1 - e^(-points / k)), whatever k is. An account's score is a mean over roles, which its record does not tell.
create view scores_now as
select
    account, contact, score,
    100 * (1 - power(greatest(1 - score / 100, 0),
        power(0.5, greatest(extract(epoch from now() - as_of)::float8, 0) / (86400 * half_life_days)))) as score_now,
    state, as_of, last_engagement_at, due, engagements, touches_since
from scores
where contact is not null;

-- Forgets a contact, for whoever must do so by hand: its rows, and its name in the alerts of its account.
create function erase(of_account text, of_contact text) returns void language sql set search_path from current as $$
    delete from alert_changes where id in (
        select alerts.id from alerts where account = of_account and contact = of_contact
    );
    delete from alerts where account = of_account and contact = of_contact;
    delete from scores where account = of_account and contact = of_contact;
    delete from facts where account = of_account and contact = of_contact;
    update alert_changes set record = jsonb_set(record, '{contacts}', (record -> 'contacts') - of_contact)
    where id in (select alerts.id from alerts where account = of_account and contact is null)
        and record -> 'contacts' ? of_contact;
    update alerts set record = jsonb_set(record, '{contacts}', (record -> 'contacts') - of_contact)
    where account = of_account and contact is null and record -> 'contacts' ? of_contact;
$$;
