//! PostgreSQL: databases of tests do not meet, and it survives its death.

use touchline_harness::Postgres;

#[test]
fn every_test_has_a_database() {
    let postgres = Postgres::shared();
    let (one, other) = (postgres.database(), postgres.database());
    postgres.query(&one, "CREATE TABLE t (a int, b text); INSERT INTO t VALUES (1, NULL)");
    assert_eq!(postgres.query(&one, "SELECT * FROM t"), [[Some("1".to_owned()), None]]);
    assert_eq!(postgres.query(&other, "SELECT to_regclass('t')"), [[None]]);
}

#[test]
fn it_survives_its_death() {
    let postgres = Postgres::start();
    let url = postgres.database();
    postgres.query(&url, "CREATE TABLE t (a int)");
    for restart in 1..=4 {
        postgres.query(&url, "INSERT INTO t VALUES (1)");
        if restart % 2 == 0 {
            postgres.stop();
        } else {
            postgres.kill();
        }
        postgres.restart();
        assert_eq!(postgres.query(&url, "SELECT sum(a) FROM t"), [[Some(restart.to_string())]]);
    }
}
