-- What touchline publishes. Texts compare as bytes (collation "C"): as in files, and whatever the server's locale becomes.
-- Columns are for asking; `record` is the whole published JSON, with what has no column.

-- How far each sink has come in each lane, and whose turn it is: a batch of an earlier epoch changes nothing.
create table cursors (
    sink text collate "C" not null,
    lane text collate "C" not null,
    epoch bigint not null,
    cursor bytea,
    claimed_at timestamptz not null,
    stored_at timestamptz,
    primary key (sink, lane)
);

-- Every alert as it stands.
create table alerts (
    id text collate "C" primary key,
    sequence bigint not null,
    rule text collate "C" not null,
    change text collate "C" not null,
    is_open boolean not null generated always as (change not in ('recovered', 'retracted', 'closed')) stored,
    account text collate "C" not null,
    contact text collate "C",
    owner text collate "C",
    segment text collate "C",
    last_engagement_at timestamptz,
    due timestamptz,
    recovered_at timestamptz,
    tick timestamptz,
    late_s bigint,
    backlog boolean not null,
    score double precision,
    record jsonb not null
);
create index alerts_contact on alerts (account, contact);
create index alerts_open on alerts (rule, due) where is_open;
-- By hash, because an owner may be longer than a B-tree takes.
create index alerts_open_owner on alerts using hash (owner) where is_open;

-- Every change of every alert.
create table alert_changes (
    id text collate "C" not null,
    sequence bigint not null,
    rule text collate "C" not null,
    change text collate "C" not null,
    account text collate "C" not null,
    contact text collate "C",
    owner text collate "C",
    segment text collate "C",
    last_engagement_at timestamptz,
    due timestamptz,
    recovered_at timestamptz,
    tick timestamptz,
    late_s bigint,
    backlog boolean not null,
    score double precision,
    record jsonb not null,
    primary key (id, sequence)
);

-- The latest score of every contact and, without a contact, account.
create table scores (
    key text collate "C" primary key,
    version bigint not null,
    account text collate "C" not null,
    contact text collate "C",
    score double precision,
    parts jsonb,
    half_life_days double precision,
    as_of timestamptz,
    last_engagement_at timestamptz,
    last_two_way_at timestamptz,
    due timestamptz,
    touches_since bigint,
    engagements bigint,
    state text collate "C",
    record jsonb not null
);
create index scores_contact on scores (account, contact);
create index scores_due on scores (state, due);

-- Events as processed, lapse episodes, and whatever else is derived: one row a fact, of any kind.
create table facts (
    key text collate "C" primary key,
    version bigint not null,
    fact text collate "C" not null,
    id text collate "C",
    source text collate "C",
    account text collate "C",
    contact text collate "C",
    occurred_at timestamptz,
    revision bigint,
    -- touches and engagements
    title text collate "C",
    by text collate "C",
    campaign text collate "C",
    content text collate "C",
    cost numeric,
    currency text collate "C",
    channel text collate "C",
    offer text collate "C",
    vehicle text collate "C",
    interaction text collate "C",
    status text collate "C",
    scheduled_for timestamptz,
    occasion text collate "C",
    target text collate "C",
    minutes numeric,
    in_response_to text collate "C",
    -- advocacy and value
    measure text collate "C",
    score numeric,
    ref text collate "C",
    stage text collate "C",
    outcome text collate "C",
    amount numeric,
    product text collate "C",
    quantity numeric,
    -- episodes
    last_engagement_at timestamptz,
    lapsed_at timestamptz,
    recovered_at timestamptz,
    record jsonb not null
);
create index facts_timeline on facts (account, contact, (coalesce(occurred_at, lapsed_at)));
create index facts_episodes on facts (account, contact, lapsed_at) where lapsed_at is not null;
create index facts_open_episodes on facts (lapsed_at) where lapsed_at is not null and recovered_at is null;
create index facts_campaign on facts (campaign, occurred_at) where campaign is not null;
create index facts_value on facts (account, occurred_at) where fact = 'value';
