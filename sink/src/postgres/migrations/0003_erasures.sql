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
-- account. Scores and facts go by their keys.
create function erase_alerts(
    of_account text, of_contact text, of_id text, of_sequence bigint, of_erased_at timestamptz
) returns void language sql set search_path from current as $$
    delete from alert_changes where id in (
        select alerts.id from alerts
        where account = of_account and (contact = of_contact or contact is null and of_account = '~' || of_contact)
    );
    with gone as (
        delete from alerts
        where account = of_account and (contact = of_contact or contact is null and of_account = '~' || of_contact)
        returning 1
    )
    insert into erasures as stored (id, sequence, erased_at, applied_at, alerts)
    select of_id, of_sequence, of_erased_at, now(), count(*) from gone
    on conflict (id) do update set
        sequence = excluded.sequence, erased_at = excluded.erased_at, applied_at = excluded.applied_at,
        alerts = stored.alerts + excluded.alerts
    where stored.sequence < excluded.sequence;
    update alert_changes set record = jsonb_set(record, '{contacts}', (record -> 'contacts') - of_contact)
    where id in (select alerts.id from alerts where account = of_account and contact is null)
        and record -> 'contacts' ? of_contact;
    update alerts set record = jsonb_set(record, '{contacts}', (record -> 'contacts') - of_contact)
    where account = of_account and contact is null and record -> 'contacts' ? of_contact;
$$;
