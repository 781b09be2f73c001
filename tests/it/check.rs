//! `check`: what is there, what is not, and what to do.

use std::time::{Duration, Instant};

use serde_json::Value;
use tempfile::TempDir;
use touchline_harness::{Kafka, Postgres};

use crate::harness::{Place, Ran};
use crate::receiver::Receiver;

const CONFIG: i32 = 78;
/// A person waits.
const SECONDS: Duration = Duration::from_secs(30);

/// Runs `check` on this configuration, beside a few files.
fn check(config: &str, more: &str) -> Ran {
    let place = Place::with(&[("touchline.toml", config), ("secret", "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw\n")]);
    place.write("password", "hunter2");
    let names = |place: &Place| std::fs::read_dir(place.path(".")).unwrap().count();
    let (before, started) = (names(&place), Instant::now());
    let ran = place.run(&format!("check {more}"));
    assert!(started.elapsed() < SECONDS, "it took {:?}: {ran}", started.elapsed());
    assert_eq!(names(&place), before, "it has left something");
    assert!(!format!("{ran}").contains("hunter2"), "a secret is told: {ran}");
    ran
}

/// The line that begins so.
#[track_caller]
fn line<'r>(ran: &'r Ran, mark: &str, what: &str) -> &'r str {
    let fits = |line: &&str| {
        line.split_at_checked(9).is_some_and(|(level, rest)| level.trim() == mark && rest.starts_with(what))
    };
    ran.out.lines().find(fits).unwrap_or_else(|| panic!("no line {mark} {what} in {ran}"))
}

#[track_caller]
fn says(ran: &Ran, mark: &str, what: &str, words: &[&str]) {
    let line = line(ran, mark, what);
    words.iter().for_each(|word| assert!(line.contains(word), "{word:?} is not in {line:?}"));
}

#[test]
fn a_deployment_that_is_as_it_should_be() {
    let (kafka, postgres, receiver) = (Kafka::shared(), Postgres::shared(), Receiver::refusing("nothing"));
    let (prefix, snapshots) = (kafka.unique("good"), TempDir::new().unwrap());
    kafka.create_topic(&format!("{prefix}.crm"), 3, &[]);
    let log = [("message.timestamp.type", "LogAppendTime"), ("retention.ms", "864000000")];
    kafka.create_topic(&format!("{prefix}.events"), 4, &log);
    let config = format!(
        "[kafka]\nbootstrap_servers = \"{}\"\n[topics]\nprefix = \"{prefix}\"\npartitions = 4\n\
         [[source]]\nname = \"crm\"\ntopics = [\"{prefix}.crm\", \"{prefix}.later\"]\n\
         [state]\ndir = \"a/b\"\n[snapshots]\nurl = \"file://{}\"\n\
         [[sink]]\nname = \"db\"\nkind = \"postgres\"\ntopics = [\"facts\"]\nurl = \"{}\"\n\
         [[sink]]\nname = \"hook\"\nkind = \"webhook\"\ntopics = [\"alerts\"]\nurl = \"{}\"\nsecret = \"file:secret\"\n\
         allow_private = true\n\
         [[sink]]\nname = \"lake\"\nkind = \"file\"\ntopics = [\"facts\"]\ndir = \"lake\"\n",
        kafka.bootstrap(),
        snapshots.path().display(),
        postgres.database(),
        receiver.url(),
    );
    let ran = check(&config, "").ok();
    assert!(ran.out.starts_with("touchline.toml is right\n"), "{ran}");
    says(&ran, "ok", "kafka", &["1 broker at", "over plaintext"]);
    says(&ran, "ok", &format!("topic {prefix}.events"), &["4 partitions, delete, kept for 10 days"]);
    says(&ran, "ok", &format!("topic {prefix}.facts"), &["will be made, with 4 partitions"]);
    assert!(ran.out.contains(&format!("topic {prefix}.crm has 3 partitions")), "{ran}");
    says(&ran, "warning", "source crm", &["later is not there"]);
    says(&ran, "ok", "state", &["a/b will be made", "GiB free"]);
    says(&ran, "ok", "snapshots", &["lets us write, list, read and delete"]);
    says(&ran, "ok", "sink db", &["PostgreSQL ", "not encrypted", "are applied at the start"]);
    says(&ran, "ok", "sink hook", &["the receiver answers (204 to HEAD)"]);
    says(&ran, "ok", "sink lake", &["lake will be made"]);
    assert!(receiver.taken().is_empty(), "a receiver got a message");
    let told = check(&config, "--json").ok().json();
    assert_eq!(told["ok"], true, "{told}");
    assert!(told["probes"].as_array().unwrap().iter().all(|probe| probe["level"] != "failed"), "{told}");
    assert_eq!(check(&config, "--offline").ok().out, "touchline.toml is right\n");
    let prefixed = |topic: &str| kafka.read_committed(&format!("{prefix}.{topic}")).len();
    assert_eq!(prefixed("crm") + prefixed("events"), 0);
}

#[test]
fn a_deployment_of_which_nothing_is_there() {
    let config = "[kafka]\nbootstrap_servers = \"127.0.0.1:1\"\n[state]\ndir = \"secret/state\"\n\
         [[sink]]\nname = \"db\"\nkind = \"postgres\"\ntopics = [\"facts\"]\nurl = \"postgres://ann@127.0.0.1:1/db\"\n\
         password = \"file:password\"\n\
         [[sink]]\nname = \"hook\"\nkind = \"webhook\"\ntopics = [\"alerts\"]\nurl = \"http://127.0.0.1:1/hunter2\"\n\
         secret = \"file:secret\"\nallow_private = true\n\
         [[sink]]\nname = \"blind\"\nkind = \"webhook\"\ntopics = [\"alerts\"]\nurl = \"env:TOUCHLINE_NOT_SET\"\n\
         secret = [\"file:secret\", \"file:nowhere\"]\n";
    let ran = check(config, "").refused(CONFIG, &["6 of 7 things that were looked at are not as they should be"]);
    says(&ran, "FAILED", "kafka", &["no answer from 127.0.0.1:1: ", "refused"]);
    says(&ran, "FAILED", "state", &["secret is not a directory"]);
    says(&ran, "warning", "snapshots", &["`run` and `process` do not start"]);
    says(&ran, "FAILED", "sink db", &["no connection to PostgreSQL at 127.0.0.1:1"]);
    says(&ran, "FAILED", "sink hook", &["127.0.0.1:1 cannot be reached"]);
    says(&ran, "FAILED", "sink blind", &["url: the environment variable TOUCHLINE_NOT_SET is not set"]);
    assert!(ran.out.contains("secret: the file nowhere") || ran.out.contains("nowhere"), "{ran}");
    let told = check(config, "--json");
    assert_eq!((told.code, &told.json()["ok"]), (Some(CONFIG), &Value::from(false)), "{told}");
}

#[test]
fn topics_that_touchline_cannot_use() {
    let kafka = Kafka::shared();
    let prefix = kafka.unique("odd");
    let topic = |name: &str, partitions: i32, config: &[(&str, &str)]| {
        kafka.create_topic(&format!("{prefix}.{name}"), partitions, config);
    };
    topic("events", 3, &[]);
    topic("progress", 1, &[("cleanup.policy", "compact")]);
    topic("scores", 4, &[("cleanup.policy", "delete")]);
    let config = format!(
        "[kafka]\nbootstrap_servers = \"{}\"\n[topics]\nprefix = \"{prefix}\"\npartitions = 4\n[snapshots]\nurl = \"none\"\n",
        kafka.bootstrap()
    );
    let ran = check(&config, "").refused(CONFIG, &["3 of "]);
    says(&ran, "FAILED", &format!("topic {prefix}.events"), &["has 3 partitions", "Set [topics] partitions to 3"]);
    says(&ran, "FAILED", &format!("topic {prefix}.progress"), &["message.timestamp.type CreateTime", "LogAppendTime"]);
    says(&ran, "FAILED", &format!("topic {prefix}.scores"), &["has cleanup.policy delete, and must have compact"]);

    let short = kafka.unique("short");
    let log = [("message.timestamp.type", "LogAppendTime"), ("retention.ms", "60000")];
    kafka.create_topic(&format!("{short}.events"), 4, &log);
    let ran = check(&config.replace(&prefix, &short), "").ok();
    says(&ran, "warning", &format!("topic {short}.events"), &["keeps events for 60 seconds", "no snapshots"]);
    let config = config.replace(&prefix, &short).replace("\"none\"", "\"file:///nowhere/to/be/found\"");
    let ran = check(&config, "").refused(CONFIG, &["1 of "]);
    says(&ran, "FAILED", &format!("topic {short}.events"), &["keeps events for 60 seconds", "10 minutes old"]);
    says(&ran, "ok", "snapshots", &["/nowhere/to/be/found will be made"]);
}

#[test]
fn a_password_that_is_wrong() {
    let postgres = Postgres::start();
    let url = postgres.url("postgres");
    postgres.query(&url, "create role ann login password 'another'");
    let file = postgres.query(&url, "show hba_file")[0][0].clone().unwrap();
    let rules = "(values ('host all ann all scram-sha-256'), ('host all all all trust'))";
    postgres.query(&url, &format!("copy {rules} to '{file}'; select pg_reload_conf()"));
    let config = |file: &str| {
        let url = url.replacen("postgres@", "ann@", 1);
        format!(
            "[[sink]]\nname = \"db\"\nkind = \"postgres\"\ntopics = [\"facts\"]\nurl = \"{url}\"\npassword = \"file:{file}\"\n"
        )
    };
    let ran = check(&config("password"), "").refused(CONFIG, &["1 of 1 things"]);
    says(&ran, "FAILED", "sink db", &["password authentication failed"]);
    // Without [kafka] nothing is asked of Kafka.
    assert_eq!(ran.out.lines().count(), 2, "{ran}");
}

#[test]
fn mistakes_for_machines() {
    let told = check("[lapse]\nmoths = 3\nwarn = \"14\"\n", "--json");
    let json = told.json();
    assert_eq!((told.code, json["mistakes"].as_array().map(Vec::len)), (Some(CONFIG), Some(2)), "{told}");
}
