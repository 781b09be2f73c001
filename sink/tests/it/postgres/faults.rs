//! What goes wrong between the sink and its server.

use std::error::Error;
use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_postgres::NoTls;
use touchline_core::output::Topic;
use touchline_harness::Postgres;
use touchline_sink::postgres::PostgresSink;
use touchline_sink::{Change, Delivered, End, Outcome, Route, Sink, SinkError, Start};

use super::changes::{fact, tombstone};
use super::place::{Place, batch, block_on, config, connect, deliver};
use crate::kit::{Script, cursor_at, eventually, lane, start};

const PATIENCE: Duration = Duration::from_secs(60);

/// An error and its causes, in one line.
pub fn chain(error: &dyn Error) -> String {
    match error.source() {
        Some(source) => format!("{error}: {}", chain(source)),
        None => error.to_string(),
    }
}

fn facts(keys: std::ops::Range<u64>) -> Vec<Change> {
    let numbered = |number| Change { sequence: number, ..fact(&format!("{number:05}"), 1, "touch", "") };
    keys.map(numbered).collect()
}

fn route(place: &Place, feed: &Arc<Script>) -> Vec<Route> {
    vec![Route { sink: Box::new(place.sink()), feed: feed.feed(&Topic::ALL) }]
}

fn closed(outcomes: &[Outcome]) {
    assert!(outcomes.iter().all(|outcome| matches!(outcome.end, End::Closed)), "{outcomes:?}");
}

/// The class of an error, and what a person reads.
fn told<T: std::fmt::Debug>(result: Result<T, SinkError>) -> (&'static str, String) {
    let error = result.unwrap_err();
    let class = match &error {
        SinkError::Retry(_) => "retry",
        SinkError::RejectThese(_) => "reject these",
        SinkError::RejectSome(_) => "reject some",
        SinkError::Lost(_) => "lost",
        SinkError::Fatal(_) => "fatal",
    };
    (class, chain(&error))
}

/// Passes bytes on between clients and the server, until it is told to cut.
struct Proxy {
    port: u16,
    orders: Arc<Orders>,
}

#[derive(Default)]
struct Orders {
    cut: Mutex<Option<Cut>>,
    /// Ends whose other side is not to notice that there is nobody any more.
    kept: Mutex<Vec<TcpStream>>,
}

/// Where the connection ends, once.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Cut {
    BeforeCommit,
    /// The server has it, its answer goes nowhere.
    BehindCommit,
    /// The same, but nobody says that the connection is gone.
    Silence,
}

impl Proxy {
    /// Runs on the runtime of the test.
    async fn start(to: u16) -> Proxy {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let (port, orders) = (listener.local_addr().unwrap().port(), Arc::new(Orders::default()));
        let shared = orders.clone();
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let server = TcpStream::connect((Ipv4Addr::LOCALHOST, to)).await.unwrap();
                tokio::spawn(Proxy::pass(client, server, shared.clone()));
            }
        });
        Proxy { port, orders }
    }

    async fn pass(mut client: TcpStream, mut server: TcpStream, orders: Arc<Orders>) {
        let (mut sent, mut answered) = (vec![0; 1 << 16], vec![0; 1 << 16]);
        loop {
            let cut = tokio::select! {
                Ok(count @ 1..) = client.read(&mut sent) => {
                    let sent = &sent[..count];
                    let is_commit = sent.windows(6).any(|bytes| bytes == b"COMMIT");
                    let cut = if is_commit { orders.cut.lock().unwrap().take() } else { None };
                    if cut != Some(Cut::BeforeCommit) {
                        server.write_all(sent).await.unwrap();
                    }
                    cut
                }
                Ok(count @ 1..) = server.read(&mut answered) => {
                    client.write_all(&answered[..count]).await.unwrap();
                    None
                }
                else => return,
            };
            match cut {
                None => {}
                Some(Cut::BeforeCommit) => return,
                // The server does not notice.
                Some(Cut::BehindCommit) => return orders.kept.lock().unwrap().push(server),
                Some(Cut::Silence) => return orders.kept.lock().unwrap().extend([client, server]),
            }
        }
    }
}

/// A batch whose COMMIT has no answer: it is stored once, whatever became of it.
fn check_commit(cut: Cut, writes: &[&str]) {
    let place = Place::new();
    block_on(async {
        let mut sink = place.sink();
        deliver(&mut sink, &lane(0), &facts(0..1)).await.unwrap();
        // Counts the statements that write facts.
        place.ask(
            "create table writes (at timestamptz); create function count_write() returns trigger \
             language plpgsql as $$ begin insert into touchline.writes values (now()); return null; end $$; \
             create trigger count_write after insert on facts execute function count_write()",
        );
        let port = Postgres::shared().port();
        let proxy = Proxy::start(port).await;
        let through = place.url.replacen(&port.to_string(), &proxy.port.to_string(), 1);
        let mut sink = PostgresSink::new(&config(&through)).unwrap();
        assert_eq!(sink.claim(&lane(0)).await.unwrap(), Start::At(Some(cursor_at(1))));
        *proxy.orders.cut.lock().unwrap() = Some(cut);
        let next = batch(&facts(1..3), 3);
        let (class, sentence) = told(sink.deliver(&lane(0), &next).await);
        assert_eq!(class, "retry", "{sentence}");
        assert_eq!(sink.deliver(&lane(0), &next).await.unwrap(), Delivered::Stored);
        sink.deliver(&lane(0), &batch(&facts(3..4), 4)).await.unwrap();
    });
    assert_eq!(place.ask("select key from facts order by key"), ["00000", "00001", "00002", "00003"]);
    assert_eq!(place.ask("select count(*) from writes"), writes, "{cut:?}");
}

#[test]
fn a_commit_without_an_answer_is_looked_up() {
    check_commit(Cut::BehindCommit, &["2"]);
    check_commit(Cut::BeforeCommit, &["2"]);
}

#[test]
fn a_server_that_says_nothing_is_given_up() {
    check_commit(Cut::Silence, &["2"]);
}

#[test]
fn sessions_that_are_killed_again_and_again_lose_and_repeat_nothing() {
    let place = Place::new();
    let feed = Script::of(facts(0..30_000));
    let dispatcher = start(route(&place, &feed));
    let progress = dispatcher.progress().next().unwrap().1.clone();
    let kill = "select count(pg_terminate_backend(pid)) from pg_stat_activity where application_name = 'touchline warehouse' \
                and query like '%facts%' and pid in (select pid from pg_locks where relation = 'facts'::regclass)";
    let mut killed = 0;
    let start = Instant::now();
    while killed < 5 && progress.borrow().delivered < 30_000 {
        assert!(start.elapsed() < PATIENCE, "{:?}", progress.borrow());
        if progress.borrow().delivered > 0 {
            killed += place.ask(kill)[0].parse::<u32>().unwrap();
        }
    }
    closed(&dispatcher.finish(PATIENCE));
    assert!(killed > 0);
    assert!(progress.borrow().retries > 0);
    assert_eq!(place.ask("select count(*), max(key) from facts"), ["30000|29999"]);
}

#[test]
fn another_run_goes_on_where_the_last_one_was_abandoned() {
    let place = Place::new();
    let feed = Script::of(facts(0..20_000));
    let dispatcher = start(route(&place, &feed));
    let progress = dispatcher.progress().next().unwrap().1.clone();
    eventually("something to be stored", || progress.borrow().delivered > 0);
    drop(dispatcher);
    eventually("it to end", || progress.borrow().ended);
    let outcomes = start(route(&place, &feed)).finish(PATIENCE);
    closed(&outcomes);
    assert!(outcomes[0].progress.delivered < 20_000, "it began again: {outcomes:?}");
    assert_eq!(place.ask("select count(*) from facts"), ["20000"]);
    assert_eq!(place.ask("select epoch from cursors"), ["2"]);
}

#[test]
fn a_row_that_somebody_refuses_is_found_and_the_others_arrive() {
    let check = |refusal: &str, reason: &str| {
        let place = Place::new();
        block_on(async { place.sink().claim(&lane(0)).await.unwrap() });
        place.ask(refusal);
        let feed = Script::of(facts(0..5_000));
        let outcomes = start(route(&place, &feed)).finish(PATIENCE);
        closed(&outcomes);
        let rejected = feed.rejected.lock().unwrap();
        let [(_, 1_234, told)] = &rejected[..] else { panic!("{rejected:?}") };
        assert!(told.contains(reason), "{told}");
        assert_eq!(place.ask("select count(*), count(*) filter (where key = '01234') from facts"), ["4999|0"]);
    };
    check("alter table facts add constraint no_1234 check (key <> '01234')", "table facts, constraint no_1234");
    check(
        "create function refuse() returns trigger language plpgsql as $$ begin raise exception 'not today'; end $$; \
         create trigger refuse before insert on facts for each row when (new.key = '01234') execute function refuse()",
        "not today",
    );
}

#[test]
fn whoever_claims_a_lane_last_has_it() {
    let place = Place::new();
    block_on(async {
        let (mut old, mut new) = (place.sink(), place.sink());
        deliver(&mut old, &lane(0), &facts(0..1)).await.unwrap();
        deliver(&mut old, &lane(1), &facts(1..2)).await.unwrap();
        assert_eq!(new.claim(&lane(0)).await.unwrap(), Start::At(Some(cursor_at(1))));
        let before = place.tables();
        let late = [facts(5..6)[0].clone(), tombstone(Topic::Facts, "00000")];
        let lost = old.deliver(&lane(0), &batch(&late, 9)).await;
        assert!(matches!(&lost, Err(SinkError::Lost(of)) if *of == lane(0)), "{lost:?}");
        assert_eq!(place.tables(), before, "it changes nothing");
        old.release(&lane(0));
        old.deliver(&lane(1), &batch(&facts(2..3), 2)).await.unwrap();
        new.deliver(&lane(0), &batch(&facts(3..4), 2)).await.unwrap();
        assert_eq!(told(old.deliver(&lane(0), &batch(&[], 9)).await).0, "fatal", "a lane is claimed first");
        // A claim waits for what is under way, and goes on behind it.
        let client = connect(&place.url).await;
        client
            .batch_execute("begin; update touchline.cursors set cursor = '\\x07' where lane = 'script/0'")
            .await
            .unwrap();
        let claim = tokio::spawn(async move { old.claim(&lane(0)).await });
        let waiting = "select from pg_stat_activity where wait_event_type = 'Lock' and query like 'insert into cursors%' \
                       and datname = current_database()";
        let watcher = connect(&place.url).await;
        while watcher.query(waiting, &[]).await.unwrap().is_empty() {
            tokio::task::yield_now().await;
        }
        client.batch_execute("commit").await.unwrap();
        assert_eq!(claim.await.unwrap().unwrap(), Start::At(Some(touchline_sink::Cursor::new(*b"\x07"))));
        assert_eq!(told(new.deliver(&lane(0), &batch(&[], 9)).await).0, "lost");
    });
    assert_eq!(place.ask("select key from facts order by key"), ["00000", "00001", "00002", "00003"]);
}

#[test]
fn writers_of_the_same_rows_wait_for_each_other_and_not_both() {
    const LANES: usize = 4;
    let place = Place::new();
    let deadlocks = "select deadlocks from pg_stat_database where datname = current_database()";
    let before = place.ask(deadlocks);
    std::thread::scope(|scope| {
        for number in 0..LANES {
            let place = &place;
            scope.spawn(move || {
                block_on(async {
                    let mut sink = place.sink();
                    sink.claim(&lane(number)).await.unwrap();
                    for round in 0..20_i64 {
                        let mut changes = Vec::new();
                        for key in 0..200_i64 {
                            // Another order in every lane and round.
                            let key = key * [1, 199, 3, 77][(number + round as usize) % 4] % 200;
                            changes.push(fact(&format!("{key:03}"), round * LANES as i64 + number as i64, "touch", ""));
                        }
                        sink.deliver(&lane(number), &batch(&changes, 1)).await.unwrap();
                    }
                });
            });
        }
    });
    assert_eq!(place.ask("select distinct version from facts"), [(20 * LANES - 1).to_string()]);
    assert_eq!(place.ask(deadlocks), before);
}

#[test]
fn what_passes_is_tried_again() {
    let server = Postgres::start();
    let admin = server.url("postgres");
    server.query(&admin, "create role loader login connection limit 5; grant create on database postgres to loader");
    let url = admin.replacen("postgres@", "loader@", 1);
    block_on(async {
        let mut sink = PostgresSink::new(&config(&url)).unwrap();
        deliver(&mut sink, &lane(0), &facts(0..1)).await.unwrap();
        // Rows that are locked for longer than the sink waits.
        let client = connect(&admin).await;
        client.batch_execute("begin; select * from touchline.facts for update").await.unwrap();
        let newer = [fact("00000", 2, "touch", "")];
        let start = Instant::now();
        let (class, sentence) = told(sink.deliver(&lane(0), &batch(&newer, 2)).await);
        assert_eq!(class, "retry", "{sentence}");
        assert!(sentence.contains("lock timeout"), "{sentence}");
        assert!(start.elapsed() < Duration::from_secs(20));
        client.batch_execute("commit").await.unwrap();
        sink.deliver(&lane(0), &batch(&newer, 2)).await.unwrap();
        sink.close().await.unwrap();
        // Out of connections.
        let mut others = Vec::new();
        while let Ok((client, connection)) = tokio_postgres::connect(&url, NoTls).await {
            tokio::spawn(connection);
            others.push(client);
        }
        let (class, sentence) = told(sink.deliver(&lane(0), &batch(&facts(1..2), 3)).await);
        assert_eq!(class, "retry", "{sentence}");
        assert!(sentence.contains("53300"), "{sentence}");
        others.clear();
        while told_retry(sink.deliver(&lane(0), &batch(&facts(1..2), 3)).await) {}
        // A server that is going down, and is away.
        client.batch_execute("alter system set default_transaction_read_only = on").await.unwrap();
        client.batch_execute("select pg_reload_conf()").await.unwrap();
        sink.close().await.unwrap();
        let mut refused = 0;
        while refused == 0 {
            refused += u32::from(told_retry(sink.deliver(&lane(0), &batch(&facts(2..3), 4)).await));
        }
    });
    server.query(&admin, "alter system reset all");
    server.kill();
    let mut sink = PostgresSink::new(&config(&url)).unwrap();
    let (class, sentence) = told(block_on(sink.claim(&lane(0))));
    assert_eq!(class, "retry", "{sentence}");
    assert!(sentence.starts_with("it may work later: no connection to PostgreSQL at 127.0.0.1:"), "{sentence}");
    server.restart();
    assert_eq!(block_on(sink.claim(&lane(0))).unwrap(), Start::At(Some(cursor_at(3))));
}

/// Whether it is to be tried again; else it has worked.
fn told_retry(result: Result<Delivered, SinkError>) -> bool {
    result.is_err().then(|| told(result)).is_some_and(|(class, sentence)| {
        assert_eq!(class, "retry", "{sentence}");
        true
    })
}

#[test]
fn what_does_not_pass_stops_the_sink_and_says_what_to_do() {
    let place = Place::new();
    // Roles are the server's, which other tests share.
    place.ask("create role stranger login password 'hush-hush'; create role writer login");
    let stranger = place.url_of("stranger:hush-hush");
    let check = |url: &str, reason: &str| {
        let mut sink = PostgresSink::new(&config(url)).unwrap();
        let (class, sentence) = told(block_on(deliver(&mut sink, &lane(0), &facts(0..1))));
        assert_eq!(class, "fatal", "{sentence}");
        assert!(sentence.contains(reason) && !sentence.contains("hush"), "{sentence}");
        assert!(!format!("{:?}", config(url)).contains("hush"));
    };
    check(&format!("{stranger}_which_is_nowhere"), "create the database, or correct `url`");
    check(&place.url_of("nobody"), "correct the user in `url`");
    check(&format!("{stranger}?sslmode=require"), "server does not support TLS");
    // Neither to make a schema, nor to use one that is there.
    check(&stranger, "grant the role what it needs");
    block_on(deliver(&mut place.sink(), &lane(9), &[])).unwrap();
    check(&stranger, "grant the role what it needs");
    // Reading and writing is enough, once somebody else has made the tables.
    place.ask(
        "grant usage on schema touchline to writer; \
         grant select, insert, update, delete on all tables in schema touchline to writer",
    );
    block_on(async {
        let mut sink = PostgresSink::new(&config(&place.url_of("writer"))).unwrap();
        deliver(&mut sink, &lane(0), &facts(0..1)).await.unwrap();
        let probe = sink.probe().await.unwrap();
        assert_eq!((probe.pending, probe.may_migrate, probe.is_encrypted), (0, false, false));
    });
    assert_eq!(place.ask("select key from facts"), ["00000"]);
    // Somebody has altered the tables.
    place.ask("alter table facts rename column title to heading");
    check(&place.url, "the schema is not as touchline has made it");
}
