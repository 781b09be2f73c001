//! The questions that people ask: what the views answer, and which index answers them.

use touchline_core::output::Topic;
use touchline_sink::Sink;

use super::changes::{alert, change, fact, score};
use super::place::{Place, batch, block_on, deliver};
use crate::kit::lane;

/// Accounts, each with as many contacts, each with some facts: enough that reading a table through is slower than an
/// index.
const ACCOUNTS: u32 = 60;
const CONTACTS: u32 = 10;
const FACTS: u32 = 25;

fn filled() -> Place {
    let place = Place::new();
    block_on(async {
        let mut sink = place.sink();
        sink.claim(&lane(0)).await.unwrap();
        for account in 0..ACCOUNTS {
            let mut changes = Vec::new();
            for contact in 0..CONTACTS {
                let whose = format!(r#""account":"a{account}","contact":"c{contact}","#);
                let (id, version) = (format!("{account}-{contact}"), 1);
                for number in 0..FACTS {
                    let at = format!("2024-{:02}-{:02}T08:00:00Z", number % 12 + 1, contact + 1);
                    let (kind, members) = match number {
                        0 => ("value", r#""measure":"order","ref":"o","amount":"10","#.to_owned()),
                        1 => ("engagement", format!(r#""vehicle":"web","campaign":"camp{account}","#)),
                        _ => ("touch", r#""channel":"email","#.to_owned()),
                    };
                    let value =
                        format!(r#"{{"fact":"{kind}","occurred_at":"{at}",{members}{whose}"version":{version}}}"#);
                    changes.push(change(Topic::Facts, &format!("{id}-{number}"), Some(&value)));
                }
                for (number, recovered) in [(0, r#""2024-05-01T00:00:00Z""#), (1, "null")] {
                    // Of many silences few are open.
                    let recovered = if number == 1 && contact > 0 { r#""2024-07-01T00:00:00Z""# } else { recovered };
                    let value = format!(
                        r#"{{"fact":"lapse_episode",{whose}"lapsed_at":"2024-0{}-01T00:00:00Z","recovered_at":{recovered},"version":1}}"#,
                        number + 4
                    );
                    changes.push(change(Topic::Facts, &format!("{id}-e{number}"), Some(&value)));
                }
                let state = if contact == 0 { "at_risk" } else { "active" };
                let due = format!(r#""state":"{state}","due":"2024-0{}-01T00:00:00Z","#, contact % 9 + 1);
                changes.push(score(&format!("a{account}|c{contact}"), 1, &due));
                for number in 0..4 {
                    let name = if contact == 0 && number == 0 { "opened" } else { "recovered" };
                    let value = format!(
                        r#"{{"rule":"lapse","change":"{name}","sequence":1,{whose}"owner":"o{account}","due":"2024-04-01T00:00:00Z","score":1}}"#
                    );
                    changes.push(change(Topic::Alerts, &format!("{id}-{number}"), Some(&value)));
                }
            }
            sink.deliver(&lane(0), &batch(&changes, 0)).await.unwrap();
        }
    });
    place.ask("analyze");
    place
}

#[test]
fn an_index_answers_every_question() {
    let place = filled();
    let check = |question: &str, index: &str| {
        assert!(!place.ask(question).is_empty(), "{question}");
        let plan = place.ask(&format!("explain {question}")).join("\n");
        assert!(plan.contains(index) && !plan.contains("Seq Scan"), "{question}\n{plan}");
    };
    // Who has gone silent now, and whose they are?
    check("select * from open_lapses where lapsed_at >= '2024-03-01' order by lapsed_at", "alerts_open");
    check("select * from open_lapses where owner = 'o7'", "alerts_open_owner");
    check("select * from episodes where recovered_at is null and lapsed_at > '2024-01-01'", "facts_open_episodes");
    // What has happened with this contact?
    check("select * from timeline where account = 'a7' and contact = 'c3' order by at desc", "facts_timeline");
    check("select * from timeline where account = 'a7' and contact = 'c3' and at >= '2024-06-01'", "facts_timeline");
    check("select * from alerts where account = 'a7' and contact = 'c3'", "alerts_contact");
    check("select * from alert_changes where id = '7-3-0' order by sequence", "alert_changes_pkey");
    // How often has this account been silent?
    check("select * from episodes where account = 'a7' order by lapsed_at", "facts_episodes");
    // Whose score is falling: who of an account, and who is silent next?
    check("select * from scores_now where account = 'a7'", "scores_contact");
    check("select * from scores_now where state = 'at_risk' and due < '2024-03-01' order by due", "scores_due");
    // What has a campaign brought, and what has an account bought?
    check("select * from campaigns where campaign = 'camp7'", "facts_campaign");
    check("select * from deals where account = 'a7'", "facts_value");
}

#[test]
fn views_answer_in_peoples_words() {
    let place = Place::new();
    let context = r#""owner":"ann","name":"Jo","last_engagement":{"at":"2024-01-01T00:00:00Z","title":"Roundtable"},"due":"2024-04-01T00:00:00Z","#;
    let touch = |key: &str, cost: &str, currency: &str| {
        fact(
            key,
            1,
            "touch",
            &format!(r#""campaign":"spring","cost":"{cost}","currency":"{currency}","channel":"email","#),
        )
    };
    let value = |key: &str, at: &str, stage: &str, amount: &str| {
        let value = format!(
            r#"{{"fact":"value","source":"crm","account":"acme.com","occurred_at":"{at}","measure":"opportunity","ref":"op-1","stage":"{stage}","amount":"{amount}","version":1}}"#
        );
        change(Topic::Facts, key, Some(&value))
    };
    let changes = [
        alert("a", 1, "opened", context),
        alert("b", 1, "opened", context),
        alert("b", 2, "escalated", context),
        alert("c", 1, "opened", context),
        alert("c", 2, "recovered", context),
        touch("t1", "1.5", "EUR"),
        touch("t2", "2", "EUR"),
        fact("e1", 1, "engagement", r#""campaign":"spring","vehicle":"web","#),
        fact("e2", 1, "engagement", r#""campaign":"spring","vehicle":"web","interaction":"machine","#),
        fact("e3", 1, "engagement", r#""campaign":"spring","vehicle":"web","status":"no_show","#),
        value("v1", "2024-01-01T00:00:00Z", "proposal", "100"),
        value("v2", "2024-02-01T00:00:00Z", "won", "90"),
    ];
    let half_a_year = "to_char(now() at time zone 'UTC' - interval '60 days', 'YYYY-MM-DD\"T\"HH24:MI:SS\"Z\"')";
    block_on(async { deliver(&mut place.sink(), &lane(0), &changes).await.unwrap() });
    let check = |sql: &str, expected: &[&str]| assert_eq!(place.ask(sql), expected, "{sql}");
    check(
        "select alert, owner, name, last_title, change from open_lapses order by alert",
        &["a|ann|Jo|Roundtable|opened", "b|ann|Jo|Roundtable|escalated"],
    );
    check("select owner, lapses, escalated, accounts from open_lapses_by_owner", &["ann|2|1|1"]);
    check(
        "select touches, contacts_touched, engagements, contacts_engaged, cost, currency from campaigns",
        &["2|1|1|1|3.5|EUR"],
    );
    check("select ref, stage, amount from deals", &["op-1|won|90"]);
    check("select count(*) from timeline where what is not null", &["7"]);
    // S = 10 of k = 10: a half-life later it is 5.
    let as_of = &place.ask(&format!("select {half_a_year}"))[0];
    let members = format!(r#""score":63.212055882855765,"half_life_days":60.0,"as_of":"{as_of}","#);
    block_on(async { deliver(&mut place.sink(), &lane(0), &[score("acme.com|jo", 1, &members)]).await.unwrap() });
    check("select round(score_now::numeric, 2) from scores_now", &["39.35"]);
    block_on(async {
        deliver(&mut place.sink(), &lane(0), &[touch("t3", "3", "USD")]).await.unwrap();
    });
    check("select cost, currency from campaigns", &["-|-"]);
}

#[test]
fn a_contact_can_be_erased_by_hand() {
    let place = Place::new();
    let of_account = r#"{"rule":"account_lapse","change":"opened","sequence":1,"account":"acme.com","contact":null,"contacts":["jo@acme.com","al@acme.com"],"score":1}"#;
    let other =
        r#"{"rule":"lapse","change":"opened","sequence":1,"account":"acme.com","contact":"al@acme.com","score":1}"#;
    let changes = [
        alert("a", 1, "opened", ""),
        alert("a", 2, "recovered", ""),
        change(Topic::Alerts, "of account", Some(of_account)),
        change(Topic::Alerts, "of another", Some(other)),
        fact("f", 1, "touch", ""),
        score("acme.com|jo@acme.com", 1, ""),
        score("acme.com|al@acme.com", 1, ""),
    ];
    block_on(async { deliver(&mut place.sink(), &lane(0), &changes).await.unwrap() });
    // Whatever the search path of whoever calls it.
    place.ask("set search_path = public; select touchline.erase('acme.com', 'jo@acme.com')");
    let left = place.tables().join("\n");
    assert!(!left.contains("jo@acme.com"), "{left}");
    assert_eq!(left.matches("al@acme.com").count(), 9, "{left}");
}
