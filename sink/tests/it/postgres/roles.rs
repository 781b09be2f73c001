//! The roles of `deploy/postgres-roles.sql`: enough to deliver and to look, and no more.

use touchline_harness::Postgres;
use touchline_sink::Sink;
use touchline_sink::postgres::{PostgresConfig, PostgresSink};

use super::changes::fact;
use super::faults::chain;
use super::place::{Place, block_on, connect, deliver};
use crate::kit::lane;

const ROLES: &str = include_str!("../../../../deploy/postgres-roles.sql");
/// What an error says that is a refusal, and no mistake in the statement.
const REFUSED: &str = "42501";

/// Runs statements, each by itself, as a user; all of them are allowed, or none.
fn check(url: &str, statements: &[&str], is_allowed: bool) {
    block_on(async {
        let client = connect(url).await;
        for statement in statements {
            let done = client.batch_execute(statement).await;
            let code = done.as_ref().err().and_then(|error| Some(error.code()?.code()));
            assert_eq!(code, (!is_allowed).then_some(REFUSED), "{url}: {statement}: {done:?}");
        }
    });
}

#[test]
fn the_roles_are_enough_and_no_more() {
    let place = Place::new();
    let server = Postgres::shared();
    let of = |user: &str| place.url.replace("postgres@", &format!("{user}@"));
    server
        .query(&place.url, "create table secrets (text text); create schema theirs; create table theirs.own (id int)");
    server.query(&place.url, ROLES);
    server.query(&place.url, "create role analyst login; grant touchline_reader to analyst");

    let config = PostgresConfig { url: of("touchline"), ..place.config() };
    block_on(async {
        let mut sink = PostgresSink::new(&config).unwrap();
        let before = sink.probe().await.unwrap();
        assert!(before.may_migrate && before.pending > 0, "{before:?}");
        deliver(&mut sink, &lane(0), &[fact("a", 1, "touch", "")]).await.unwrap();
        assert_eq!(sink.probe().await.unwrap().pending, 0);
    });
    assert_eq!(place.ask("select count(*) from timeline"), ["1"]);

    let elsewhere = [
        "create table public.mine (id int)",
        "create temporary table mine (id int)",
        "create schema mine",
        "create database mine",
        "create role mine",
        "select * from public.secrets",
        "select * from theirs.own",
        "insert into theirs.own values (1)",
        "select * from pg_catalog.pg_authid",
        "select pg_catalog.pg_read_file('postgresql.conf')",
        "copy (select 1) to program 'true'",
        "alter system set fsync = off",
        "set role postgres",
    ];
    check(&of("touchline"), &elsewhere, false);
    check(&of("analyst"), &elsewhere, false);

    let look =
        ["alerts", "alert_changes", "scores", "facts", "timeline", "open_lapses", "episodes", "deals", "campaigns"]
            .map(|name| format!("select * from touchline.{name}"));
    check(&of("analyst"), &look.each_ref().map(|statement| &**statement), true);
    let change = [
        "insert into touchline.facts (key, version, fact, record) values ('b', 1, 'touch', '{}')",
        "update touchline.facts set version = 2",
        "delete from touchline.facts",
        "truncate touchline.facts",
        "update touchline.cursors set epoch = 9",
        "select touchline.erase('acme.example', 'ann')",
        "create table touchline.mine (id int)",
        "drop table touchline.facts",
    ];
    check(&of("analyst"), &change, false);

    // Whoever lacks what the sink needs is told what.
    let config = PostgresConfig { url: of("analyst"), ..place.config() };
    let refused = block_on(PostgresSink::new(&config).unwrap().claim(&lane(0))).unwrap_err();
    let sentence = chain(&refused);
    assert!(sentence.contains("grant the role what it needs"), "{sentence}");
}
