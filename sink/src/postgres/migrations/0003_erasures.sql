-- That contacts were erased, and when; not who they were: `id` is a hash that is made with a key.
create table erasures (
    id text collate "C" primary key,
    -- How often this one was.
    sequence bigint not null,
    -- When it was asked for.
    erased_at timestamptz not null,
    -- When it was done here.
    applied_at timestamptz not null,
    -- Alerts that were deleted.
    alerts bigint not null
);

-- Forgets the alerts of a contact: its own, those of an account that is nobody else, and its name in other alerts of its
-- account. How many that were.
create function forget_alerts(of_account text, of_contact text) returns bigint
language sql set search_path from current as $$
    delete from alert_changes where id in (
        select alerts.id from alerts
        where account = of_account and (contact = of_contact or contact is null and of_account = '~' || of_contact)
    );
    update alert_changes set record = jsonb_set(record, '{contacts}', (record -> 'contacts') - of_contact)
    where id in (select alerts.id from alerts where account = of_account and contact is null)
        and record -> 'contacts' ? of_contact;
    update alerts set record = jsonb_set(record, '{contacts}', (record -> 'contacts') - of_contact)
    where account = of_account and contact is null and record -> 'contacts' ? of_contact;
    with gone as (
        delete from alerts
        where account = of_account and (contact = of_contact or contact is null and of_account = '~' || of_contact)
        returning 1
    )
    select count(*) from gone;
$$;

-- The same, written down. Scores and facts go by their keys.
create function erase_alerts(
    of_account text, of_contact text, of_id text, of_sequence bigint, of_erased_at timestamptz
) returns void language sql set search_path from current as $$
    insert into erasures as stored (id, sequence, erased_at, applied_at, alerts)
    values (of_id, of_sequence, of_erased_at, now(), forget_alerts(of_account, of_contact))
    on conflict (id) do update set
        sequence = excluded.sequence, erased_at = excluded.erased_at, applied_at = excluded.applied_at,
        alerts = stored.alerts + excluded.alerts
    where stored.sequence < excluded.sequence;
$$;

-- By hand: for a contact that touchline does not know any more.
create or replace function erase(of_account text, of_contact text) returns void
language sql set search_path from current as $$
    select forget_alerts(of_account, of_contact);
    delete from scores
    where account = of_account and (contact = of_contact or contact is null and of_account = '~' || of_contact);
    delete from facts
    where account = of_account and (contact = of_contact or contact is null and of_account = '~' || of_contact);
$$;
