//! What is done to the servers, and on the way to them.

use std::thread::sleep;
use std::time::Duration;

use touchline_harness::{Kafka, Postgres};

use super::works::{PARTITIONS, Works};
use super::{patient, pause, rounds, works, works_on};
use crate::harness::until;
use crate::receiver::Receiver;

/// How often the broker looks for transactions that have lasted too long.
const CLEANS_UP: (&str, &str) = ("transaction.abort.timed.out.transaction.cleanup.interval.ms", "500");

/// A broker that was killed is let in again once it is given up, which takes 9 s by default.
const FORGETS: [(&str, &str); 2] = [("broker.session.timeout.ms", "2000"), ("broker.heartbeat.interval.ms", "500")];

#[test]
fn a_broker_that_dies_comes_back() {
    let kafka = Kafka::start(&FORGETS);
    works_on(&kafka).check(5, |_, dice| {
        for _ in 0..rounds(2) {
            sleep(Duration::from_secs(3));
            kafka.kill();
            pause(dice, 8000);
            kafka.restart();
        }
        sleep(Duration::from_secs(3));
    });
}

#[test]
fn leaders_that_move() {
    let kafka = Kafka::cluster();
    works_on(&kafka).check(18, |_, dice| {
        for round in 0..rounds(2) {
            pause(dice, 3000);
            kafka.kill_other(round as usize % 2);
            sleep(Duration::from_secs(8));
            kafka.restart_other(round as usize % 2);
            // Whatever is on two brokers only is on three again, or the next would take the last but one.
            sleep(Duration::from_secs(5));
        }
    });
}

/// An account's partition follows from their number: who is at work goes on with those that there were, and who is started
/// refuses, until he is told.
#[test]
fn partitions_that_are_added() {
    const CONFIG: i32 = 78;
    works().check(22, |works, _| {
        sleep(Duration::from_secs(4));
        for topic in ["events", "alerts", "facts"] {
            works.deployment.kafka.add_partitions(&works.deployment.topic(topic), PARTITIONS as usize + 3);
        }
        // They are known of within so long.
        sleep(Duration::from_secs(12));
        for stage in 0..works.stages() {
            works.drain(stage);
            works.start_again(stage);
            let mut refused = None;
            until("it is refused", || {
                refused = works.has_ended(stage);
                refused.is_some()
            });
            let words = ["has 7 partitions, and the configuration says 4", "set [topics] unused to 3"];
            refused.unwrap().refused(CONFIG, &words);
            works.configure(stage, "partitions = 4", "partitions = 4\nunused = 3");
            works.start_again(stage);
        }
        sleep(Duration::from_secs(4));
    });
}

#[test]
fn transactions_that_are_left_open() {
    let kafka = Kafka::start(&[CLEANS_UP]);
    let works = works_on(&kafka);
    works.check(16, |works, dice| {
        for _ in 0..rounds(2) {
            pause(dice, 1000);
            for topic in ["source", "events", "alerts", "facts"] {
                // Nobody may ever see it.
                kafka.leave_open(&works.deployment.topic(topic), b"{}", Duration::from_secs(3));
            }
            sleep(Duration::from_secs(6));
        }
    });
}

#[test]
fn a_network_that_is_slow_stands_still_and_breaks() {
    let (kafka, proxy) = Kafka::proxied();
    works_on(&kafka).check(6, |_, dice| {
        for round in 0..rounds(6) {
            pause(dice, 2000);
            match round % 3 {
                0 => proxy.cut(),
                1 => {
                    proxy.lag(Duration::from_millis(20 + dice.below(80)));
                    sleep(Duration::from_secs(3));
                    proxy.lag(Duration::ZERO);
                }
                _ => {
                    proxy.stall(true);
                    sleep(Duration::from_secs(1 + dice.below(15)));
                    proxy.stall(false);
                }
            }
        }
    });
}

#[test]
fn a_database_that_dies_and_is_cut_off() {
    let postgres = Postgres::start();
    let proxy = postgres.proxied();
    let works = Works::start(Kafka::shared(), &postgres, proxy.port(), patient());
    works.check(7, |_, dice| {
        for round in 0..rounds(4) {
            pause(dice, 3000);
            if round % 2 == 0 {
                proxy.cut();
            } else {
                postgres.kill();
                pause(dice, 3000);
                postgres.restart();
            }
        }
    });
}

#[test]
fn a_database_that_is_locked_and_takes_nobody_in() {
    let postgres = Postgres::start();
    let works = Works::start(Kafka::shared(), &postgres, postgres.port(), patient());
    works.check(15, |works, dice| {
        for _ in 0..rounds(1) {
            for table in ["alert_changes", "scores", "facts", "cursors"] {
                pause(dice, 2000);
                let lock = format!("begin; lock table touchline.{table} in access exclusive mode; select pg_sleep(3)");
                postgres.query(&works.url, &lock);
            }
            // Nobody comes in, and nobody stays.
            let (all, database) = (postgres.url("postgres"), works.url.rsplit('/').next().unwrap());
            postgres.query(&all, &format!("alter database {database} allow_connections false"));
            postgres.query(
                &all,
                &format!("select pg_terminate_backend(pid) from pg_stat_activity where datname = '{database}'"),
            );
            sleep(Duration::from_secs(3));
            postgres.query(&all, &format!("alter database {database} allow_connections true"));
        }
    });
}

#[test]
fn a_receiver_that_does_all_that_receivers_do() {
    let postgres = Postgres::shared();
    let works = Works::start(Kafka::shared(), postgres, postgres.port(), Receiver::moody());
    works.check(8, |_, _| sleep(Duration::from_secs(rounds(5).into())));
}
