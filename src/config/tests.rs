//! One text in, a configuration or every mistake out.

use touchline_core::rules::{Counts, RoleWeights};

use super::*;

/// `expect`: the configuration, or the mistakes line by line as `line:column: key: what`.
fn check(toml: &str, expect: Result<Config, &[&str]>) {
    let got = parse(toml, "t").map_err(|mistakes| mistakes.to_string());
    let expect = expect.map_err(|lines| lines.iter().map(|line| format!("t:{line}")).collect::<Vec<_>>().join("\n"));
    let printed = got.as_ref().err().map_or("", String::as_str);
    assert_eq!(got, expect, "\n{printed}\n--- of\n{toml}");
    assert!(!printed.contains("hunter2"), "a secret is printed:\n{printed}");
}

fn source(name: &str) -> Source {
    Source {
        name: name.to_owned(),
        topics: BTreeSet::new(),
        timezone: TimeZone::UTC,
        priority: 0,
        max_delay: Duration::ZERO,
        required: true,
    }
}

/// The documented example, with the one kind of sink that there is.
const EXAMPLE: &str = r#"
[kafka]                                  # bootstrap_servers, and any librdkafka property under [kafka.properties]
bootstrap_servers = "127.0.0.1:9092"
[topics]                                 # prefix names them all; each can be named alone: events = "bench.events"
prefix = "touchline"
partitions = 64
[[source]]                               # repeat
name = "crm"
topics = ["crm.activities"]
format = "canonical"
max_delay = "0s"
required = true
timezone = "UTC"
priority = 0
[lapse]
months = 3
warn = "14d"
escalate = "30d"
[alerts]
since = "2026-01-01T00:00:00Z"            # default: when the rules were first written
[internal]
domains = ["example.com"]
[score]
half_life = "60d"
[state]
dir = "state"
memory = "1GiB"
[snapshots]                              # on Kafka required, or url = "none"; file:///…, s3://…
url = "file:///var/lib/touchline/snapshots"
every = "5m"
[processor]
threads = 2
commit_interval = "100ms"
publish = ["alerts", "scores", "facts"]
[[sink]]
name = "sales"
kind = "file"
topics = ["alerts"]
dir = "sales"
[http]
listen = "127.0.0.1:9464"
"#;

#[test]
fn an_empty_file_is_the_default() {
    check("", Ok(Config::default()));
    check("[score.roles]\n[lapse.segments]\n[processor]\n", Ok(Config::default()));
    assert_eq!(Config::default().rules(), Rules::default());
}

#[test]
fn the_example_is_the_default_but_for_its_names() {
    let expect = Config {
        kafka: Kafka { is_named: true, ..Config::default().kafka },
        sources: vec![Source { topics: BTreeSet::from(["crm.activities".to_owned()]), ..source("crm") }],
        snapshots: Some(Snapshots {
            url: Some("file:///var/lib/touchline/snapshots".to_owned()),
            every: Duration::from_secs(300),
        }),
        since: "2026-01-01T00:00:00Z".parse().ok(),
        internal: BTreeSet::from(["example.com".to_owned()]),
        sinks: vec![Sink {
            name: "sales".to_owned(),
            topics: BTreeSet::from([Topic::Alerts]),
            kind: SinkKind::File(PathBuf::from("sales")),
        }],
        ..Config::default()
    };
    check(EXAMPLE, Ok(expect));
}

#[test]
fn every_setting_arrives() {
    let properties = [
        ("sasl.password", Secret::File(PathBuf::from("/run/secrets/kafka"))),
        ("ssl.key.password", Secret::Env("KEY_PASSWORD".to_owned())),
        ("linger.ms", Secret::Plain("5".to_owned())),
        ("socket.keepalive.enable", Secret::Plain("true".to_owned())),
    ];
    let expect = Config {
        kafka: Kafka {
            is_named: true,
            bootstrap_servers: "kafka.example:9093".to_owned(),
            properties: properties.map(|(name, value)| (name.to_owned(), value)).into(),
        },
        topics: Topics { partitions: 8, unused: 2, events: "crm.events".to_owned(), ..Topics::of("acme") },
        snapshots: Some(Snapshots { url: None, every: Duration::from_secs(60) }),
        http: Http {
            listen: "0.0.0.0:80".parse().unwrap(),
            certificate: Some((PathBuf::from("chain.pem"), PathBuf::from("key.pem"))),
            tokens: Tokens {
                read: vec![Secret::Env("NEW".to_owned()), Secret::Env("OLD".to_owned())],
                operate: vec![Secret::File(PathBuf::from("operate"))],
            },
            insecure: true,
        },
        sources: vec![
            Source {
                topics: BTreeSet::from(["a".to_owned(), "b".to_owned()]),
                timezone: TimeZone::get("Europe/Berlin").unwrap(),
                priority: -5,
                max_delay: Duration::from_secs(86_400),
                required: false,
                ..source("crm")
            },
            source("web"),
        ],
        lapse: LapseRules {
            months: 6,
            segments: [("smb".to_owned(), 2), ("key accounts".to_owned(), 12)].into(),
            warn_s: 7 * 86_400,
            escalate_s: 0,
            counts: vec![Counts::TwoWay, Counts::Advocacy],
        },
        score: ScoreRules {
            half_life_s: 3_600,
            k: 2.5,
            two_way: 4.0,
            one_way: 0.0,
            advocacy: 1.0,
            vehicles: [("webcast".to_owned(), 0.5), ("call".to_owned(), 2.0)].into(),
            roles: RoleWeights { user: 1.0, ..RoleWeights::default() },
        },
        since: "2025-12-31T23:00:00Z".parse().ok(),
        internal: ["example.com".to_owned(), "münchen.example".to_owned()].into(),
        state: State { dir: PathBuf::from("/var/lib/touchline"), memory: 64 << 20 },
        processor: Processor {
            commit_interval: Duration::from_secs(60),
            publish: BTreeSet::from([Topic::Facts]),
            threads: 7,
        },
        erasure_key: Some(Secret::File(PathBuf::from("erasure.key"))),
        sinks: vec![
            Sink {
                name: "lake".to_owned(),
                topics: BTreeSet::from([Topic::Facts, Topic::DeadLetters]),
                kind: SinkKind::File(PathBuf::from("out")),
            },
            Sink {
                name: "crm".to_owned(),
                topics: BTreeSet::from([Topic::DeadLetters]),
                kind: SinkKind::Webhook(Webhook {
                    url: Secret::Env("HOOK_URL".to_owned()),
                    secrets: vec![Secret::Env("NEW".to_owned()), Secret::Env("OLD".to_owned())],
                    schedule: Some(vec![Duration::from_secs(1), Duration::from_secs(60)]),
                    timeout: Some(Duration::from_secs(5)),
                    concurrency: Some(2),
                    allow_private: true,
                    allow_http: true,
                    proxy: Some(Secret::Plain("http://proxy.example".to_owned())),
                    ca: Some(PathBuf::from("ca.pem")),
                }),
            },
            Sink {
                name: "db".to_owned(),
                topics: BTreeSet::from([Topic::Facts]),
                kind: SinkKind::Postgres(Postgres {
                    url: Secret::Plain("postgresql://db.example/x".to_owned()),
                    password: Some(Secret::File(PathBuf::from("password"))),
                    schema: "lapses".to_owned(),
                }),
            },
        ],
    };
    check(
        r#"
        sink = [
            { name = "lake", kind = "file", topics = ["dead_letters", "facts"], dir = "out" },
            { name = "crm", kind = "webhook", topics = ["dead_letters"], url = "env:HOOK_URL", timeout = "5s",
              secret = ["env:NEW", "env:OLD"], schedule = ["1s", "1m"], concurrency = 2, allow_private = true,
              allow_http = true, proxy = "http://proxy.example", ca = "ca.pem" },
            { name = "db", kind = "postgres", topics = ["facts"], url = "postgresql://db.example/x",
              password = "file:password", schema = "lapses" },
        ]
        alerts.since = 2026-01-01T00:00:00+01:00
        internal.domains = ["Example.COM", "MÜNCHEN.example"]
        state = { dir = "/var/lib/touchline", memory = "64MiB" }
        [[source]]
        name = "crm"
        topics = ["b", "a"]
        timezone = "europe/berlin"
        priority = -5
        max_delay = "24h"
        required = false
        [[source]]
        name = "web"
        [lapse]
        months = 0x6
        warn = "7d"
        escalate = "0s"
        counts = ["advocacy", "two_way"]
        segments = { smb = 2, "key accounts" = 12 }
        [score]
        half_life = "60m"
        k = 2.5
        two_way = 4
        one_way = 0
        advocacy = 1
        vehicles.webcast = 0.5
        vehicles.call = 2
        roles.user = 1
        [processor]
        commit_interval = "60s"
        publish = ["facts"]
        threads = 7
        [erasure]
        key = "file:erasure.key"
        [http]
        listen = "0.0.0.0:80"
        certificate = "chain.pem"
        key = "key.pem"
        tokens = { read = ["env:NEW", "env:OLD"], operate = "file:operate" }
        insecure = true
        [snapshots]
        url = "none"
        every = "1m"
        [topics]
        prefix = "acme"
        partitions = 8
        unused = 2
        events = "crm.events"
        [kafka]
        bootstrap_servers = "kafka.example:9093"
        [kafka.properties]
        sasl.password = "file:/run/secrets/kafka"
        "ssl.key.password" = "env:KEY_PASSWORD"
        "linger.ms" = 5
        socket.keepalive.enable = true
        "#,
        Ok(expect),
    );
}

#[test]
fn rules_do_not_depend_on_the_order_of_the_file() {
    let of = |text: &str| parse(text, "t").map(|config| config.rules()).map_err(|mistakes| mistakes.to_string());
    let one = of(
        "[[source]]\nname='b'\ntopics=['b']\npriority=2\n[[source]]\nname='a'\ntopics=['a']\n[[source]]\nname='c'\n[lapse]\ncounts=['two_way','one_way']",
    );
    let two = of(
        "lapse.counts=['one_way','two_way']\n[[source]]\nname='c'\n[[source]]\nname='a'\ntopics=['a']\n[[source]]\nname='b'\ntopics=['b']\npriority=2",
    );
    assert_eq!(one, two);
    let rules = one.unwrap();
    // The third has no topics: the clock cannot wait for it.
    assert_eq!(rules.required, ["a", "b"]);
    assert_eq!(rules.priorities, [("b".to_owned(), 2)].into());
}

#[test]
fn many_mistakes_at_once_in_line_order() {
    check(
        r#"
[[sink]]
kind = "slack"
topics = ["alerts", "score"]
url = "https://crm.example.com"
secret = "hunter2"
[lapse]
  moths = 3
  warn = "100d"
counts = ["two_way", "twoway", "two_way"]
[http]
listen = "localhost:9464"
[score]
half_life = "30m"
k = 0
vehicles.call = -1
[[source]]
name = "crm"
[[source]]
name = "crm"
timezone = "Europe/Berln"
"#,
        Err(&[
            "2:1: sink[0].name: is required and missing",
            "3:8: sink[0].kind: `slack` is not built into this version; it has: file, webhook, postgres",
            "4:21: sink[0].topics[1]: unknown value `score`; did you mean `scores`?",
            "6:10: sink[0].secret: a secret is never written here: name where it is, \"env:NAME\" or \"file:PATH\"",
            "8:3: lapse.moths: unknown key; did you mean `months`?",
            "9:10: lapse.warn: must be at most 77d: it comes a week after an engagement at the soonest (months = 3)",
            "10:22: lapse.counts[1]: unknown value `twoway`; did you mean `two_way`?",
            "10:32: lapse.counts[2]: is listed twice",
            "12:10: http.listen: `localhost:9464` is no IP address and port such as \"127.0.0.1:9464\"",
            "14:13: score.half_life: `30m` is out of range: 1h to 36500d",
            "15:5: score.k: `0` must be more than 0",
            "16:17: score.vehicles.call: `-1` is out of range: 0 to 1000000",
            "20:8: source[1].name: the name `crm` is taken already",
            "21:12: source[1].timezone: unknown time zone `Europe/Berln`; did you mean `Europe/Berlin`?",
        ]),
    );
}

/// A text of one mistake and that mistake.
fn check_each(cases: &[(&str, &str)]) {
    for (toml, expect) in cases {
        check(toml, Err(&[expect]));
    }
}

#[test]
fn what_is_not_toml_is_one_mistake() {
    check_each(&[
        ("[lapse\nmonths = 3", "1:7: not TOML: unclosed table, expected `]`"),
        ("[lapse]\nwarn = 14d\nescalate = 30d", "2:8: not TOML: string values must be quoted, expected literal string"),
        ("[lapse]\nmonths = 3\nmonths = 4", "3:1: not TOML: duplicate key"),
        (
            "[kafka.properties]\n\"sasl.password\" = hunter2",
            "2:19: not TOML: string values must be quoted, expected literal string",
        ),
        ("[score]\n# é\n'é' = \"", "3:8: not TOML: invalid basic string, expected `\"`"),
    ]);
}

#[test]
fn unknown_keys_get_the_likely_one() {
    check_each(&[
        ("[laps]\nmonths = 3", "1:2: laps: unknown key; did you mean `lapse`?"),
        ("[[sources]]\nname = 'crm'", "1:3: sources: unknown key; did you mean `source`?"),
        (
            "months = 3",
            "1:1: months: unknown key; known here: kafka, topics, source, lapse, alerts, internal, score, state, snapshots, processor, erasure, sink, http; [lapse] has a `months`",
        ),
        ("[alerts]\nwarn = '14d'", "2:1: alerts.warn: unknown key; known here: since; [lapse] has a `warn`"),
        (
            "[kafka]\n\"bootstrap.servers\" = 'localhost:9092'",
            "2:1: kafka.\"bootstrap.servers\": unknown key; did you mean `bootstrap_servers`?",
        ),
        (
            "[score.roles]\nDecision-Maker = 1",
            "2:1: score.roles.Decision-Maker: unknown key; did you mean `decision_maker`?",
        ),
        ("[score]\nhalf_live = '60d'", "2:1: score.half_live: unknown key; did you mean `half_life`?"),
        (
            "[[sink]]\nname = 's'\nkind = 'file'\ntopics = ['alerts']\ndir = 'x'\nurl = 'hunter2'",
            "6:1: sink[0].url: unknown key; known here: name, kind, topics, dir; [snapshots] has a `url`",
        ),
        (
            "[score]\nx = 1",
            "2:1: score.x: unknown key; known here: half_life, k, two_way, one_way, advocacy, vehicles, roles",
        ),
        (
            "[http]\n\"a b\\n\" = 1",
            "2:1: http.\"a b\\n\": unknown key; known here: listen, certificate, key, tokens, insecure",
        ),
    ]);
}

#[test]
fn types_are_told() {
    check_each(&[
        ("lapse = 3", "1:9: lapse: expected the table [lapse], not a whole number"),
        ("[[lapse]]\nmonths = 3", "1:1: lapse: expected the table [lapse], not an array"),
        ("[source]\nname = 'crm'", "1:1: source: can be repeated: write [[source]], with two brackets"),
        ("source = ['crm']", "1:11: source[0]: expected the table [[source]], not a string"),
        ("[lapse]\nmonths = '3'", "2:10: lapse.months: expected a whole number, not a string"),
        ("[lapse]\nmonths = 3.5", "2:10: lapse.months: expected a whole number, not a fraction"),
        (
            "[lapse]\nwarn = 14",
            "2:8: lapse.warn: expected a duration such as \"100ms\", \"30s\", \"5m\", \"24h\" or \"14d\", not a whole number",
        ),
        ("[lapse]\ncounts = 'two_way'", "2:10: lapse.counts: expected an array, not a string"),
        ("[lapse]\nsegments = 6", "2:12: lapse.segments: expected the table [lapse.segments], not a whole number"),
        ("[lapse.segments]\nsmb = { months = 6 }", "2:7: lapse.segments.smb: expected a whole number, not a table"),
        (
            "[[source]]\nname = 'crm'\nrequired = 'yes'",
            "3:12: source[0].required: expected true or false, not a string",
        ),
        ("[score]\ntwo_way = '3'", "2:11: score.two_way: expected a decimal number, not a string"),
        (
            "[alerts]\nsince = true",
            "2:9: alerts.since: expected a time stamp such as \"2026-01-01T00:00:00Z\", not true or false",
        ),
        ("[internal]\ndomains = [1]", "2:12: internal.domains[0]: expected a string, not a whole number"),
        (
            "[kafka.properties]\n'linger.ms' = [5]",
            "2:15: kafka.properties.\"linger.ms\": expected a string, a number, true or false, not an array",
        ),
        (
            "[state]\nmemory = 1073741824",
            "2:10: state.memory: expected a size such as \"64KiB\", \"512MiB\" or \"1GiB\", not a whole number",
        ),
    ]);
}

#[test]
fn values_are_judged() {
    check_each(&[
        ("[lapse]\nmonths = 0", "2:10: lapse.months: `0` is out of range: 1 to 120"),
        ("[lapse]\nmonths = 121", "2:10: lapse.months: `121` is out of range: 1 to 120"),
        (
            "[lapse]\nmonths = 99999999999999999999",
            "2:10: lapse.months: `99999999999999999999` is out of range: 1 to 120",
        ),
        (
            "[lapse]\nwarn = '84d'",
            "2:8: lapse.warn: must be at most 77d: it comes a week after an engagement at the soonest (months = 3)",
        ),
        (
            "[lapse]\nwarn = '30d'\n[lapse.segments]\nsmb = 1",
            "2:8: lapse.warn: must be at most 21d: it comes a week after an engagement at the soonest (months = 1)",
        ),
        ("[lapse.segments]\nsmb = 0", "2:7: lapse.segments.smb: `0` is out of range: 1 to 120"),
        (
            "[lapse]\nwarn = '14 days'",
            "2:8: lapse.warn: `14 days` is not a duration such as \"100ms\", \"30s\", \"5m\", \"24h\" or \"14d\"",
        ),
        (
            "[lapse]\nwarn = 'd'",
            "2:8: lapse.warn: `d` is not a duration such as \"100ms\", \"30s\", \"5m\", \"24h\" or \"14d\"",
        ),
        ("[lapse]\nwarn = '1500ms'", "2:8: lapse.warn: must be whole seconds"),
        (
            "[lapse]\nescalate = '99999999999999999999d'",
            "2:12: lapse.escalate: `99999999999999999999d` is out of range: 0 to 36500d",
        ),
        ("[lapse]\ncounts = []", "2:10: lapse.counts: must not be empty: nothing would ever end a silence"),
        (
            "[alerts]\nsince = '2026-01-01'",
            "2:9: alerts.since: `2026-01-01` is no time stamp with an offset, such as \"2026-01-01T00:00:00Z\"",
        ),
        (
            "[alerts]\nsince = 2026-01-01T00:00:00",
            "2:9: alerts.since: `2026-01-01T00:00:00` is no time stamp with an offset, such as \"2026-01-01T00:00:00Z\"",
        ),
        (
            "[internal]\ndomains = ['@example.com']",
            "2:12: internal.domains[0]: `@example.com` is no mail domain; did you mean `example.com`?",
        ),
        (
            "[internal]\ndomains = ['exa mple.com']",
            "2:12: internal.domains[0]: `exa mple.com` is no mail domain such as \"example.com\"",
        ),
        ("[internal]\ndomains = ['a.example', 'A.example']", "2:25: internal.domains[1]: is listed twice"),
        ("[score]\nk = inf", "2:5: score.k: `inf` is not finite"),
        ("[score]\none_way = nan", "2:11: score.one_way: `nan` is not finite"),
        ("[score]\nadvocacy = 1e400", "2:12: score.advocacy: `1e400` is not finite"),
        ("[score.roles]\nuser = -0.5", "2:8: score.roles.user: `-0.5` is out of range: 0 to 1000000"),
        ("[state]\nmemory = '63MiB'", "2:10: state.memory: `63MiB` is out of range: 64MiB to 16TiB"),
        (
            "[state]\nmemory = '1GB'",
            "2:10: state.memory: `1GB` is not a size such as \"64KiB\", \"512MiB\" or \"1GiB\"",
        ),
        ("[state]\ndir = ''", "2:7: state.dir: must not be empty"),
        (
            "[snapshots]\nurl = 'ftp://u:hunter2@example.com'",
            "2:7: snapshots.url: expected \"none\" or a URL that begins with file:///, s3://, gs://, az://",
        ),
        ("[snapshots]\nevery = '2d'", "2:9: snapshots.every: `2d` is out of range: 10s to 1d"),
        ("[topics]\npartitions = 0", "2:14: topics.partitions: `0` is out of range: 1 to 4096"),
        (
            "[topics]\nevents = 'a/b'",
            "2:10: topics.events: `a/b` is no topic name: at most 249 letters, digits, `.`, `_` and `-`",
        ),
        ("[processor]\nthreads = 0", "2:11: processor.threads: `0` is out of range: 1 to 4096"),
        ("[processor]\ncommit_interval = '0s'", "2:19: processor.commit_interval: `0s` is out of range: 1ms to 1m"),
        (
            "[processor]\npublish = ['dead_letters']",
            "2:12: processor.publish[0]: unknown value `dead_letters`; it is one of alerts, scores, facts",
        ),
    ]);
}

#[test]
fn sources_and_sinks_are_judged() {
    let source = |more: &str, expect: &str| check(&format!("[[source]]\nname = 'crm'\n{more}"), Err(&[expect]));
    source("format = 'segment'", "3:10: source[0].format: `segment` is not built into this version; it has: canonical");
    source("format = 'cannonical'", "3:10: source[0].format: unknown value `cannonical`; did you mean `canonical`?");
    source("format = 'xml'", "3:10: source[0].format: unknown value `xml`; it is one of canonical");
    source(
        "timezone = 'Berlin'",
        "3:12: source[0].timezone: unknown time zone `Berlin`; did you mean `Europe/Berlin`?",
    );
    source(
        "timezone = 'PST'",
        "3:12: source[0].timezone: unknown time zone `PST`; write an IANA name such as \"Europe/Berlin\"",
    );
    source(
        "topics = ['crm activities']",
        "3:11: source[0].topics[0]: `crm activities` is no topic name: at most 249 letters, digits, `.`, `_` and `-`",
    );
    source("max_delay = '400d'", "3:13: source[0].max_delay: `400d` is out of range: 0 to 365d");
    source(
        "priority = 3000000000",
        "3:12: source[0].priority: `3000000000` is out of range: -2147483648 to 2147483647",
    );
    source("[[source]]\ntopics = ['x']", "3:1: source[1].name: is required and missing");
    source("[[source]]\nname = \"\"", "4:8: source[1].name: must not be empty");

    source(
        "topics = ['x']\n[[source]]\nname = 'web'\ntopics = ['x']",
        "6:10: source[1].topics: `x` is another source's already: what comes from it would be read twice",
    );

    source(
        "topics = ['x', 'touchline.facts']",
        "3:10: source[0].topics: `touchline.facts` is written by touchline itself: what it reads there would never end",
    );

    let sink = |more: &str, expect: &str| check(&format!("[[sink]]\nname = 's'\n{more}"), Err(&[expect]));
    sink("topics = ['alerts']\ndir = 'x'", "1:1: sink[0].kind: is required and missing");
    sink("kind = 'file'\ntopics = ['alerts']", "1:1: sink[0].dir: is required and missing");
    sink("kind = 'file'\ndir = 'x'", "1:1: sink[0].topics: is required and missing");
    sink("kind = 'file'\ndir = 'x'\ntopics = []", "5:10: sink[0].topics: must not be empty");
    sink(
        "kind = 'postgres'\ntopics = ['dead_letters']\nurl = 'postgresql://h/d'",
        "4:10: sink[0].topics: `dead_letters` have no table: `touchline dead-letters` shows them",
    );
    sink(
        "kind = 'flie'\ndir = 'x'\ntopics = ['alerts']",
        "3:8: sink[0].kind: unknown value `flie`; did you mean `file`?",
    );
    sink(
        "kind = 'clickhouse'\ntopics = ['alerts']\npassword = 'env:PG'",
        "3:8: sink[0].kind: `clickhouse` is not built into this version; it has: file, webhook, postgres",
    );
    sink(
        "kind = 'file'\ndir = 'x'\ntopics = ['facts']\n[processor]\npublish = ['alerts']",
        "5:11: sink[0].topics[0]: is not published: add it to [processor] publish",
    );
    sink(
        "kind = 'file'\ndir = 'x'\ntopics = ['facts']\n[[sink]]\nname = 't'\nkind = 'file'\ndir = 'x'\ntopics = ['facts']",
        "9:7: sink[1].dir: another sink writes there: give each a directory of its own",
    );
}

#[test]
fn a_mistake_is_told_once() {
    let secret =
        "4:10: sink[0].secret: a secret is never written here: name where it is, \"env:NAME\" or \"file:PATH\"";
    let hook =
        "[[sink]]\nname = \"a\"\nkind = \"webhook\"\nsecret = \"x\"\nurl = \"https://a\"\ntopics = [\"alerts\"]\n";
    check(hook, Err(&[secret]));
}

#[test]
fn secrets_are_named_and_never_printed() {
    let secret = "a secret is never written here: name where it is, \"env:NAME\" or \"file:PATH\"";
    for (toml, at) in [
        ("[kafka.properties]\n\"sasl.password\" = 'hunter2'", "2:19: kafka.properties.\"sasl.password\""),
        ("[kafka.properties]\nsasl.password = 'hunter2'", "2:17: kafka.properties.\"sasl.password\""),
        ("[kafka.properties.ssl.key]\npassword = 2", "2:12: kafka.properties.\"ssl.key.password\""),
        (
            "[kafka.properties]\nsasl.oauthbearer.client.secret = 'env:hunter2 '",
            "2:34: kafka.properties.\"sasl.oauthbearer.client.secret\"",
        ),
        ("[kafka.properties]\n'ssl.key.pem' = 'file:'", "2:17: kafka.properties.\"ssl.key.pem\""),
    ] {
        check(toml, Err(&[&format!("{at}: {secret}")]));
    }
}

#[test]
fn files_are_loaded() {
    let dir = tempfile::tempdir().unwrap();
    let load_of = |name: &str, text: &str| {
        let path = dir.path().join(name);
        std::fs::write(&path, text).unwrap();
        let prefix = format!("{}/", dir.path().display());
        load(&path).map_err(|mistakes| mistakes.to_string().replace(&prefix, ""))
    };
    let months = |months| Config { lapse: LapseRules { months, ..LapseRules::default() }, ..Config::default() };
    assert_eq!(load_of("good.toml", "lapse.months = 6"), Ok(months(6)));
    assert_eq!(
        load_of("bad.toml", "lapse.moths = 6"),
        Err("bad.toml:1:7: lapse.moths: unknown key; did you mean `months`?".to_owned())
    );
    assert_eq!(
        load_of("large.toml", &"#".repeat(1 << 20 | 1)),
        Err("large.toml: cannot be read (it is larger than 1 MiB); name another file with --config".to_owned())
    );
    let missing = load(Path::new("/nowhere/touchline.toml")).map_err(|mistakes| mistakes.to_string());
    let unreadable = "/nowhere/touchline.toml: cannot be read (No such file or directory (os error 2)); name another file with --config";
    assert_eq!(missing, Err(unreadable.to_owned()));
}

#[test]
fn a_damaged_file_is_never_a_panic() {
    for (i, c) in EXAMPLE.char_indices() {
        let _ = parse(&EXAMPLE[..i], "t");
        let without = [&EXAMPLE[..i], &EXAMPLE[i + c.len_utf8()..]].concat();
        let _ = parse(&without, "t");
        let _ = parse(&without.replacen('"', "'", i % 7), "t");
    }
}

#[test]
fn a_port_that_others_reach_is_protected() {
    let mistakes = |text: &str| parse(text, "t").map(drop).map_err(|mistakes| mistakes.to_string());
    let fine = |text: &str| assert_eq!(mistakes(text), Ok(()), "{text}");
    let wrong = |text: &str, words: &str| {
        let found = mistakes(text).unwrap_err();
        assert!(found.contains(words), "{words:?} is not in {found}");
    };
    let tls = "certificate = 'c'\nkey = 'k'\n";
    let token = "tokens.read = 'env:T'\n";
    fine("[http]\nlisten = '127.0.0.1:1'");
    fine("[http]\nlisten = '[::1]:1'");
    fine(&format!("[http]\nlisten = '0.0.0.0:1'\n{tls}{token}"));
    fine("[http]\nlisten = '[::]:1'\ninsecure = true");
    for half in ["", tls, token] {
        wrong(
            &format!("[http]\nlisten = '0.0.0.0:1'\n{half}"),
            "http.listen: 0.0.0.0:1 is reached from other machines",
        );
    }
    wrong("[http]\ncertificate = 'c'", "http.certificate: is nothing without `key`");
    wrong("[http]\nkey = 'k'", "http.key: is nothing without `certificate`");
    wrong("[http]\ntokens.read = 'hunter2'", "a secret is never written here");
}
