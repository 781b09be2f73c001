//! The schema and its migrations; what a configuration may say.

use std::process::Command;

use touchline_harness::Postgres;
use touchline_sink::postgres::{PostgresConfig, PostgresSink};
use touchline_sink::{Lane, Sink, SinkError};

use super::changes::fact;
use super::faults::chain;
use super::place::{Place, block_on, connect, deliver, waiting};
use crate::kit::lane;

#[test]
fn many_that_start_at_once_make_one_schema() {
    const SINKS: usize = 8;
    let place = Place::new();
    block_on(async {
        // Holds all of them up until each has found that there is no schema.
        let client = connect(&place.url).await;
        client.batch_execute("begin; create schema touchline").await.unwrap();
        let claim = |number| {
            let mut sink = place.sink();
            tokio::spawn(async move { sink.claim(&lane(number)).await })
        };
        let claims: Vec<_> = (0..SINKS).map(claim).collect();
        waiting(&place, SINKS, "").await;
        client.batch_execute("rollback").await.unwrap();
        for claim in claims {
            claim.await.unwrap().unwrap();
        }
    });
    let recorded = "select version, name, applied_at from migrations order by version";
    let applied = place.ask(recorded);
    assert_eq!(applied.len(), 3, "{applied:?}");
    block_on(async { place.sink().claim(&lane(0)).await.unwrap() });
    assert_eq!(place.ask(recorded), applied);
    assert_eq!(place.ask("select sum(epoch) from cursors"), ["9"]);
}

#[test]
fn a_schema_of_another_touchline_is_refused() {
    let check = |change: &str, reason: &str| {
        let place = Place::new();
        block_on(place.sink().claim(&lane(0))).unwrap();
        place.ask(change);
        let before = place.tables();
        let Err(SinkError::Fatal(error)) = block_on(place.sink().claim(&lane(0))) else { panic!("not refused") };
        let sentence = chain(&*error);
        assert!(sentence.contains(reason), "{sentence}");
        assert_eq!(place.tables(), before);
    };
    check(
        "insert into migrations values (4, '0004_more', 'x', now(), 'touchline 9.9.9')",
        "brought to version 4 by a newer touchline (touchline 9.9.9), and this one knows version 3: run that touchline",
    );
    check("update migrations set checksum = 'x' where version = 2", "migration 2 is not this one's");
}

#[test]
fn a_schema_that_is_half_made_is_finished() {
    let place = Place::new();
    block_on(async {
        let mut sink = place.sink();
        assert_eq!(sink.probe().await.unwrap().pending, 3);
        sink.claim(&lane(0)).await.unwrap();
        // As if a process had died between the two.
        let drop_views = "drop view open_lapses_by_owner, open_lapses, timeline, episodes, deals, campaigns, scores_now; \
                          drop function erase, erase_alerts, forget_alerts; drop table erasures; \
                          delete from migrations where version > 1";
        place.ask(drop_views);
        let mut sink = place.sink();
        assert_eq!(sink.probe().await.unwrap().pending, 2);
        deliver(&mut sink, &lane(0), &[fact("a", 1, "touch", "")]).await.unwrap();
        assert_eq!(sink.probe().await.unwrap().pending, 0);
    });
    assert_eq!(place.ask("select count(*) from timeline"), ["1"]);
}

#[test]
fn a_schema_is_filled_by_one_outbox_or_by_none() {
    let outbox = |name: &str| Lane::new(format!("outbox/{name}"));
    let check = |first: &Lane, second: &Lane, is_taken: bool| {
        let place = Place::new();
        block_on(place.sink().claim(first)).unwrap();
        match block_on(place.sink().claim(second)) {
            Ok(_) => assert!(is_taken, "{first} {second}"),
            Err(error) => {
                let sentence = chain(&error);
                assert!(!is_taken && sentence.contains("drop schema touchline cascade"), "{sentence}");
            }
        }
        // Another sink is another matter.
        let other = PostgresConfig { name: "other".to_owned(), ..place.config() };
        block_on(PostgresSink::new(&other).unwrap().claim(second)).unwrap();
    };
    check(&outbox("a"), &outbox("a"), true);
    check(&outbox("a"), &outbox("b"), false);
    check(&outbox("a"), &lane(0), false);
    check(&lane(0), &outbox("a"), false);
    check(&lane(0), &lane(1), true);
}

#[test]
fn a_configuration_that_cannot_work_is_refused_before_it_is_tried() {
    let check = |url: &str, reason: Option<&str>| {
        let config = PostgresConfig {
            name: "w".to_owned(),
            url: url.to_owned(),
            password: Some("hush-hush".to_owned().into()),
            schema: "touchline".to_owned(),
        };
        let sentence = PostgresSink::new(&config).err().map(|error| chain(&error));
        assert_eq!(sentence.is_some(), reason.is_some(), "{url}: {sentence:?}");
        let sentence = sentence.unwrap_or_default();
        assert!(sentence.contains(reason.unwrap_or_default()) && !sentence.contains("hush"), "{url}: {sentence}");
    };
    check("postgresql://me@db.example.com/touchline", None);
    check("postgres://me:a%40b@[::1]:5433,other/touchline?sslmode=verify-full&target_session_attrs=read-write", None);
    check("postgresql://me@%2Fvar%2Frun%2Fpostgresql/touchline?sslmode=disable", None);
    check("host=db user=me", Some("must begin with postgresql://"));
    check("postgresql://db/touchline", Some("names no user"));
    check("postgresql:///touchline?user=me", Some("names no host"));
    check("postgresql://me@db/touchline?sslmode=on", Some("wrong `sslmode`"));
    check("postgresql://me@db/touchline?sslrootcert=/x", Some("nothing is checked with"));
    check(
        "postgresql://me@db/touchline?sslmode=verify-full&sslrootcert=%2Fnowhere",
        Some("in /nowhere (`sslrootcert`)"),
    );
    check("postgresql://me@db/touchline?sslmode=verify-full&sslrootcert=%2", Some("wrong `sslrootcert`"));
    check("postgresql://me@db/touchline?hush-hush=1", Some("cannot be read"));
    check("postgresql://me:hush?sslmode=disable@db/touchline?sslmode=on", Some("wrong `sslmode`"));
    check("postgresql://me@db:port/touchline", Some("cannot be read"));
}

/// Makes a key and a certificate for a name, signed by an authority of its own; the file of its certificate.
fn certify(dir: &std::path::Path, name: &str) {
    let sh = |command: &str| {
        let output = Command::new("sh").args(["-ec", command]).current_dir(dir).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    };
    sh("openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=authority -keyout ca.key -out ca.pem");
    sh(&format!(
        "openssl req -newkey rsa:2048 -nodes -subj /CN={name} -keyout server.key -out server.csr; \
         printf 'subjectAltName=DNS:{name}' > names; \
         openssl x509 -req -in server.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 2 -extfile names -out server.pem; \
         chmod 600 server.key"
    ));
}

#[test]
fn a_server_is_believed_as_sslmode_says() {
    let files = tempfile::tempdir().unwrap();
    certify(files.path(), "localhost");
    let server = Postgres::start();
    let database = server.url("postgres");
    // It reads only a key that is its own.
    let [key, certificate] =
        ["server.key", "server.pem"].map(|file| std::fs::read_to_string(files.path().join(file)).unwrap());
    for (file, content) in [("server.key", key), ("server.crt", certificate)] {
        server.query(
            &database,
            &format!(
                "copy (select unnest(string_to_array($${}$$, e'\\n'))) to program 'umask 077; cat > {file}'",
                content.trim()
            ),
        );
    }
    server.query(&database, "alter system set ssl = on");
    server.stop();
    server.restart();
    let root = format!("sslrootcert={}", files.path().join("ca.pem").display());
    let check = |host: &str, parameters: &str, is_encrypted: Option<bool>| {
        let url = format!("postgresql://postgres@{host}:{}/postgres?{parameters}", server.port());
        let config = PostgresConfig { name: "w".to_owned(), url, password: None, schema: "touchline".to_owned() };
        let probe = block_on(PostgresSink::new(&config).unwrap().probe());
        let found = probe.as_ref().ok().map(|probe| probe.is_encrypted);
        assert_eq!(found, is_encrypted, "{host} {parameters}: {probe:?}");
    };
    check("127.0.0.1", "", Some(true));
    check("127.0.0.1", "sslmode=disable", Some(false));
    check("127.0.0.1", "sslmode=prefer", Some(true));
    check("127.0.0.1", "sslmode=require", Some(true));
    check("127.0.0.1", "sslmode=verify-ca", None);
    check("127.0.0.1", &format!("sslmode=require&{root}"), Some(true));
    check("127.0.0.1", &format!("sslmode=verify-ca&{root}"), Some(true));
    check("127.0.0.1", &format!("sslmode=verify-full&{root}"), None);
    check("localhost", &format!("sslmode=verify-full&{root}"), Some(true));
    check("localhost", "sslmode=verify-full", None);
}
