//! What is done to the servers, and on the way to them.

use std::thread::sleep;
use std::time::Duration;

use touchline_harness::{Kafka, Postgres};

use super::works::Works;
use super::{pause, rounds};
use crate::receiver::Receiver;

#[test]
fn a_broker_that_dies_comes_back() {
    let (kafka, postgres) = (Kafka::start(&[]), Postgres::shared());
    let works = Works::start(&kafka, postgres, postgres.port(), Receiver::refusing("nothing at all"));
    works.check(5, |_, dice| {
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
fn a_network_that_is_slow_stands_still_and_breaks() {
    let ((kafka, proxy), postgres) = (Kafka::proxied(), Postgres::shared());
    let mut works = Works::start(&kafka, postgres, postgres.port(), Receiver::refusing("nothing at all"));
    works.may_err = true;
    works.check(6, |_, dice| {
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
    let works = Works::start(Kafka::shared(), &postgres, proxy.port(), Receiver::refusing("nothing at all"));
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
fn a_receiver_that_does_all_that_receivers_do() {
    let postgres = Postgres::shared();
    let works = Works::start(Kafka::shared(), postgres, postgres.port(), Receiver::moody());
    works.check(8, |_, _| sleep(Duration::from_secs(rounds(5).into())));
}
