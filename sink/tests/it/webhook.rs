//! The webhook sink, against receivers that misbehave.

mod receiver;
mod tls;

use std::collections::{BTreeMap, BTreeSet};
use std::env;
use std::net::TcpListener;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use reqwest::header::{HeaderMap, HeaderName};
use serde_json::{Value, json};
use touchline_core::output::Topic;
use touchline_sink::webhook::{Secret, UrlError, WebhookConfig, WebhookError, WebhookSink, parse_url};
use touchline_sink::{Change, Dispatcher, End, Event, Outcome, Route};

use crate::kit::{Script, change, cursor_at, eventually, lane, start};
use receiver::{Receiver, Reply, Request, status};

/// Far more than any of these tests needs.
const PATIENCE: Duration = Duration::from_secs(20);
/// What a receiver that never answers costs.
const TIMEOUT: Duration = Duration::from_millis(300);
const MS: Duration = Duration::from_millis(1);

fn secret_text(byte: u8) -> String {
    format!("whsec_{}", STANDARD.encode([byte; 32]))
}

/// One that is done with a message after five attempts in no time.
fn config(url: String) -> WebhookConfig {
    let secrets = vec![Secret::parse(&secret_text(1)).unwrap(), Secret::parse(&secret_text(2)).unwrap()];
    WebhookConfig {
        schedule: vec![10 * MS; 4],
        timeout: TIMEOUT,
        allow_private: true,
        ..WebhookConfig::new("sales", url, secrets)
    }
}

fn begin(config: WebhookConfig, script: &Arc<Script>) -> Dispatcher {
    let feed = script.feed(&Topic::ALL);
    start(vec![Route { sink: Box::new(WebhookSink::new(config).unwrap()), feed }])
}

fn finish(dispatcher: Dispatcher) -> Outcome {
    dispatcher.finish(PATIENCE).pop().unwrap()
}

/// An alert; its change's number in the lane is also its own sequence.
fn alert(sequence: u64, id: &str) -> Change {
    let value = json!({
        "id": id, "rule": "lapse", "change": "opened", "sequence": sequence, "account": "acme", "contact": "ann",
        "due": "2024-03-01T00:00:00Z", "tick": "2024-03-01T00:00:01Z", "score": 12.5,
    });
    change(sequence, Topic::Alerts, id, Some(&value.to_string()))
}

fn alerts(ids: &[&str]) -> Arc<Script> {
    Script::of((0..).zip(ids).map(|(sequence, id)| alert(sequence, id)).collect())
}

fn data(request: &Request) -> Value {
    serde_json::from_slice::<Value>(&request.body).unwrap()["data"].take()
}

#[test]
fn their_own_library_accepts_what_we_sign() {
    let receiver = Receiver::start(|_, _| status(200));
    let script = alerts(&["a1", "b2"]);
    assert!(matches!(finish(begin(config(receiver.url()), &script)).end, End::Closed));
    for request in receiver.requests() {
        let pairs = request.headers.iter();
        let headers: HeaderMap =
            pairs.map(|(name, value)| (name.parse::<HeaderName>().unwrap(), value.parse().unwrap())).collect();
        for (byte, is_ours) in [(1, true), (2, true), (3, false)] {
            let library = standardwebhooks::Webhook::new(&secret_text(byte)).unwrap();
            assert_eq!(library.verify(&request.body, &headers).is_ok(), is_ours);
            let other = [&request.body[..], b" "].concat();
            assert!(library.verify(&other, &headers).is_err());
        }
        assert_eq!(request.line, "POST /hooks/lapse?token=hidden HTTP/1.1");
        assert_eq!(request.headers["content-type"], "application/json");
        assert_eq!(request.headers["user-agent"], concat!("touchline/", env!("CARGO_PKG_VERSION")));
    }
    let mut requests = receiver.requests();
    requests.sort_by_key(|request| request.id().to_owned());
    assert_eq!(requests[1].id(), "alert_b2_1");
    let value = alert(1, "b2").value.unwrap();
    let body = [br#"{"type":"lapse.opened","timestamp":"2024-03-01T00:00:01Z","data":"#, &value[..], b"}"].concat();
    assert_eq!(requests[1].body, body);
}

/// A receiver that misbehaves twice takes the message at the third attempt, and what was wrong is told.
fn check(reply: Reply, reason: &str) {
    let (misbehaving, told) = (reply.clone(), Arc::new(AtomicBool::new(false)));
    let tells = told.clone();
    let receiver = Receiver::start(move |_, earlier| match earlier {
        0 | 1 => misbehaving.clone(),
        // The last attempt waits until it has been seen why the former ones failed.
        _ if tells.load(Ordering::SeqCst) => status(204),
        _ => misbehaving.clone(),
    });
    let script = alerts(&["a"]);
    let config = WebhookConfig { schedule: vec![10 * MS; 1_000], ..config(receiver.url()) };
    let dispatcher = begin(config, &script);
    let progress = dispatcher.progress().next().unwrap().1.clone();
    eventually(reason, || progress.borrow().failing.as_ref().is_some_and(|failing| failing.contains(reason)));
    let failing = progress.borrow().failing.clone().unwrap();
    assert!(!failing.contains("hidden"), "{failing}");
    told.store(true, Ordering::SeqCst);
    let outcome = finish(dispatcher);
    assert!(matches!(outcome.end, End::Closed), "{reply:?}: {outcome:?}");
    assert_eq!((outcome.progress.delivered, outcome.progress.failing), (1, None));
    let requests = receiver.requests();
    assert!(requests.len() >= 3, "{reply:?}");
    for request in &requests {
        assert_eq!((request.id(), &request.body), (requests[0].id(), &requests[0].body), "{reply:?}");
    }
}

#[test]
fn whatever_a_receiver_does_the_message_comes_through() {
    check(status(500), "did not take a message: 500 Internal Server Error");
    check(status(404), "404 Not Found");
    check(Reply::Answer(422, "", b"{\"error\":\n\"unknown\"}".to_vec()), "422 Unprocessable Entity");
    check(Reply::HangUp, "the connection broke");
    check(Reply::HangUpInBody, "200 OK, but the connection broke");
    check(Reply::Garbage, "the connection broke");
    check(Reply::Never, "no answer within 300ms");
    check(Reply::SlowBody, "200 OK, but not the whole answer within 300ms");
    let to_itself = Reply::Answer(301, "location: /hooks/lapse?hidden\r\n", Vec::new());
    check(to_itself, "redirects are not followed");
}

#[test]
fn a_refused_change_holds_up_no_other_and_becomes_a_dead_letter() {
    let receiver = Receiver::start(|request, _| status(if request.id() == "alert_odd_0" { 422 } else { 200 }));
    let script = alerts(&["odd", "a", "odd", "b"]);
    let config = WebhookConfig { schedule: vec![300 * MS; 2], ..config(receiver.url()) };
    let dispatcher = begin(config, &script);
    eventually("the others to get through", || receiver.count() >= 3);
    assert!(script.rejected.lock().unwrap().is_empty());
    let outcome = finish(dispatcher);
    assert!(matches!(outcome.end, End::Closed), "{outcome:?}");
    let ids: Vec<_> = receiver.requests().iter().map(|request| request.id().to_owned()).collect();
    assert_eq!(ids.iter().filter(|id| *id == "alert_odd_0").count(), 3);
    assert_eq!(ids.last().unwrap(), "alert_odd_2", "the next of its key comes after it");
    let [(sink, sequence, reason)] = &script.rejected.lock().unwrap()[..] else { panic!() };
    assert_eq!((sink.as_str(), *sequence), ("sales", 0));
    assert!(reason.contains("422 Unprocessable Entity; given up after 3 attempts in"), "{reason}");
    assert_eq!(script.remembered.lock().unwrap()[&lane(0)], cursor_at(4));
    assert_eq!((outcome.progress.delivered, outcome.progress.rejected), (3, 1));
}

#[test]
fn a_receiver_that_is_gone_ends_the_sink_and_nothing_is_lost() {
    let receiver = Receiver::start(|_, _| status(410));
    let script = alerts(&["a", "b"]);
    let outcome = finish(begin(config(receiver.url()), &script));
    let End::Failed(error) = outcome.end else { panic!("{outcome:?}") };
    let error = std::error::Error::source(&error).unwrap().to_string();
    assert!(error.contains("410 Gone") && error.contains("2 changes wait"), "{error}");
    assert!(script.rejected.lock().unwrap().is_empty() && script.remembered.lock().unwrap().is_empty());
}

#[test]
fn a_receiver_gets_the_time_that_it_asks_for() {
    for code in [429, 503] {
        let receiver = Receiver::start(move |_, earlier| match earlier {
            0 => Reply::Answer(code, "retry-after: 1\r\n", Vec::new()),
            _ => status(200),
        });
        let config = WebhookConfig { schedule: vec![10 * MS, PATIENCE], ..config(receiver.url()) };
        assert!(matches!(finish(begin(config, &alerts(&["a"]))).end, End::Closed));
        let requests = receiver.requests();
        let pause = requests[1].at - requests[0].at;
        assert!((Duration::from_secs(1)..Duration::from_secs(5)).contains(&pause), "{pause:?}");
    }
}

#[test]
fn connections_are_used_again() {
    let large = vec![b'x'; 60 << 10];
    let receiver = Receiver::start(move |_, _| Reply::Answer(200, "", large.clone()));
    let ids: Vec<String> = (0..100).map(|number| format!("a{number}")).collect();
    let script = alerts(&ids.iter().map(String::as_str).collect::<Vec<_>>());
    let config = WebhookConfig { concurrency: 2, ..config(receiver.url()) };
    assert!(matches!(finish(begin(config, &script)).end, End::Closed));
    let connections: BTreeSet<_> = receiver.requests().iter().map(|request| request.connection).collect();
    assert_eq!(receiver.count(), 100);
    assert!(connections.len() <= 2, "{connections:?}");
}

#[test]
fn neither_a_huge_answer_nor_a_closed_connection_is_a_failure() {
    let huge = vec![b'x'; 8 << 20];
    let receiver = Receiver::start(move |request, _| match request.id() {
        "alert_huge_0" => Reply::Answer(200, "", huge.clone()),
        _ => Reply::AnswerAndClose,
    });
    let script = alerts(&["huge", "same", "same", "same"]);
    let outcome = finish(begin(WebhookConfig { concurrency: 1, ..config(receiver.url()) }, &script));
    assert!(matches!(outcome.end, End::Closed), "{outcome:?}");
    assert_eq!((outcome.progress.delivered, outcome.progress.retries), (4, 0));
}

#[test]
fn a_connection_that_is_closed_while_it_rests_is_no_failure() {
    // Every connection takes one message; whoever uses it again finds out too late that it is closed.
    let used = Mutex::new(BTreeSet::new());
    let receiver =
        Receiver::start(
            move |request, _| {
                if used.lock().unwrap().insert(request.connection) { status(200) } else { Reply::HangUp }
            },
        );
    let outcome = finish(begin(config(receiver.url()), &alerts(&["same"; 10])));
    assert!(matches!(outcome.end, End::Closed), "{outcome:?}");
    assert_eq!((outcome.progress.delivered, outcome.progress.retries), (10, 0));
    assert_eq!(receiver.count(), 19, "one that had not been used before is not tried twice");
}

#[test]
fn a_receiver_that_was_away_gets_all_in_order() {
    // A port that nobody listens on.
    let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let script = alerts(&["a", "b", "a", "c", "b", "a", "d", "e", "f", "g", "h", "a"]);
    let config = WebhookConfig { schedule: vec![50 * MS; 10_000], ..config(format!("http://{address}/")) };
    let dispatcher = begin(config, &script);
    let progress = dispatcher.progress().next().unwrap().1.clone();
    eventually("it to be down", || {
        progress
            .borrow()
            .failing
            .as_ref()
            .is_some_and(|failing| failing.contains("nothing gets through, and 12 changes"))
    });
    assert!(progress.borrow().failing.as_ref().unwrap().contains("Connection refused"), "{:?}", progress.borrow());
    let receiver = Receiver::listen(address, None, |_, _| status(202));
    let outcome = finish(dispatcher);
    assert!(matches!(outcome.end, End::Closed), "{outcome:?}");
    let mut orders: BTreeMap<String, Vec<u64>> = BTreeMap::new();
    for request in receiver.requests() {
        let data = data(&request);
        orders.entry(data["id"].to_string()).or_default().push(data["sequence"].as_u64().unwrap());
    }
    assert_eq!(orders["\"a\""], [0, 2, 5, 11]);
    assert_eq!(orders.values().map(Vec::len).sum::<usize>(), 12);
}

#[test]
fn while_it_is_down_one_message_at_a_time_is_tried() {
    let receiver = Receiver::start(|_, _| status(503));
    let ids: Vec<String> = (0..200).map(|number| format!("a{number}")).collect();
    let script = alerts(&ids.iter().map(String::as_str).collect::<Vec<_>>());
    let config = WebhookConfig { schedule: vec![200 * MS; 10_000], ..config(receiver.url()) };
    let started = Instant::now();
    let dispatcher = begin(config, &script);
    let tried = || receiver.requests().iter().map(|request| request.id().to_owned()).collect::<BTreeSet<_>>().len();
    eventually("a few probes", || tried() >= 12);
    // Eight at once, and then one more after each pause, which jitter may shorten by a fifth.
    let (tried, pauses) = (tried() as u32, started.elapsed().as_millis() as u32 / 160);
    assert!(tried <= 8 + pauses, "{tried} after {pauses} pauses");
    drop(dispatcher);
}

#[test]
fn a_crash_repeats_the_window_with_the_same_ids() {
    let receiver = Receiver::start(|request, earlier| {
        status(if request.id() == "alert_odd_3" && earlier < 4 { 500 } else { 200 })
    });
    let script = alerts(&["a", "b", "c", "odd", "d", "e"]);
    let slow = WebhookConfig { schedule: vec![PATIENCE], ..config(receiver.url()) };
    let dispatcher = begin(slow, &script);
    eventually("all to be tried", || receiver.count() == 6);
    drop(dispatcher);
    let before = receiver.requests();
    let outcome = finish(begin(config(receiver.url()), &script));
    assert!(matches!(outcome.end, End::Closed), "{outcome:?}");
    let bodies: BTreeMap<_, _> = before.iter().map(|request| (request.id().to_owned(), request.body.clone())).collect();
    assert_eq!(bodies.len(), 6);
    for request in receiver.requests() {
        assert_eq!(bodies[request.id()], request.body);
    }
    assert_eq!(script.remembered.lock().unwrap()[&lane(0)], cursor_at(6));
}

#[test]
fn a_backlog_is_pushed_as_a_digest() {
    let receiver = Receiver::start(|_, _| status(200));
    let backlog = |sequence: u64| {
        let mut value: Value = serde_json::from_slice(&alert(sequence, "a").value.unwrap()).unwrap();
        value["id"] = json!(format!("a{sequence}"));
        value["backlog"] = json!(true);
        value["score"] = json!(sequence as f64 / 10.0);
        change(sequence, Topic::Alerts, &format!("a{sequence}"), Some(&value.to_string()))
    };
    let script = Script::of((0..300).map(backlog).chain([alert(300, "live")]).collect());
    assert!(matches!(finish(begin(config(receiver.url()), &script)).end, End::Closed));
    let requests = receiver.requests();
    assert_eq!(requests.len(), 2);
    let digest = requests.iter().find(|request| request.id().starts_with("digest_")).unwrap();
    let data = data(digest);
    assert_eq!((&data["count"], &data["omitted"]), (&json!(300), &json!(280)));
    assert_eq!(data["alerts"][0]["id"], "a299", "the highest score first");
    assert_eq!(script.remembered.lock().unwrap()[&lane(0)], cursor_at(301));
}

#[test]
fn every_topic_can_be_sent() {
    let receiver = Receiver::start(|_, _| status(200));
    let script = Script::of(vec![
        change(0, Topic::Scores, "acme", Some(r#"{"account":"acme","as_of":"2024-03-01T00:00:00Z"}"#)),
        change(1, Topic::Facts, "f", Some(r#"{"fact":"touch","occurred_at":"2024-03-01T00:00:00+01:00"}"#)),
        change(2, Topic::Facts, "f\"2", None),
        change(3, Topic::DeadLetters, "", Some(r#"{"topic":"crm"}"#)),
    ]);
    assert!(matches!(finish(begin(config(receiver.url()), &script)).end, End::Closed));
    let bodies: BTreeSet<String> =
        receiver.requests().iter().map(|request| String::from_utf8(request.body.clone()).unwrap()).collect();
    let expected = [
        r#"{"type":"dead_letter.created","data":{"topic":"crm"}}"#,
        r#"{"type":"fact.removed","data":{"key":"f\"2"}}"#,
        r#"{"type":"fact.updated","timestamp":"2024-03-01T00:00:00+01:00","data":{"fact":"touch","occurred_at":"2024-03-01T00:00:00+01:00"}}"#,
        r#"{"type":"score.updated","timestamp":"2024-03-01T00:00:00Z","data":{"account":"acme","as_of":"2024-03-01T00:00:00Z"}}"#,
    ];
    assert_eq!(bodies.iter().map(String::as_str).collect::<Vec<_>>(), expected);
    let ids: BTreeSet<_> = receiver.requests().iter().map(|request| request.id().to_owned()).collect();
    assert_eq!(ids.len(), 4);
}

#[test]
fn a_change_is_on_the_wire_at_once() {
    let receiver = Receiver::start(|_, _| status(200));
    let script = alerts(&[]);
    let dispatcher = begin(config(receiver.url()), &script);
    let times: Vec<Duration> = (0..50)
        .map(|number| {
            let published = Instant::now();
            script.publish(alert(number, &format!("a{number}")));
            eventually("it to arrive", || receiver.count() as u64 > number);
            receiver.requests()[number as usize].at - published
        })
        .collect();
    // The machine may be busy for some, and not for all.
    assert!(times.iter().min().unwrap() < &(3 * MS), "{times:?}");
    finish(dispatcher);
}

#[test]
fn what_is_private_is_refused_unless_allowed() {
    let check = |url: &str, allow_private, allow_http, expected: Result<(), &str>| {
        let error = parse_url(url, allow_private, allow_http).map(drop).map_err(|error| error.to_string());
        match expected {
            Ok(()) => assert_eq!(error, Ok(()), "{url}"),
            Err(part) => assert!(error.as_ref().is_err_and(|error| error.contains(part)), "{url}: {error:?}"),
        }
    };
    check("https://crm.example.com/hooks", false, false, Ok(()));
    check("https://user:word@1.1.1.1:8443/hooks", false, false, Ok(()));
    check("http://crm.example.com/hooks", false, false, Err("https://"));
    check("http://crm.example.com/hooks", false, true, Ok(()));
    check("http://10.0.0.1/hooks", true, false, Ok(()));
    check("ftp://crm.example.com/hooks", true, true, Err("begins ftp://"));
    check("crm.example.com/hooks", false, false, Err("is not a URL"));
    check("https://", false, false, Err("is not a URL"));
    // Every way to write an address that browsers know.
    for loopback in ["127.0.0.1", "127.1", "0x7f.0.0.1", "2130706433", "0177.0.0.1", "127.0.0.1."] {
        check(&format!("https://{loopback}/"), false, true, Err("127.0.0.1 is a loopback address"));
    }
    check("https://[::1]:9/", false, true, Err("::1 is a loopback address"));
    check("https://[::ffff:169.254.169.254]/", false, true, Err("is a link-local address"));
    check("https://192.168.1.1/", false, true, Err("set allow_private = true"));
}

#[test]
fn a_name_of_a_private_address_is_refused_when_it_is_resolved() {
    let receiver = Receiver::start(|_, _| status(200));
    let url = format!("http://localhost:{}/", receiver.address.port());
    let config = WebhookConfig { allow_private: false, allow_http: true, schedule: vec![], ..config(url) };
    let script = alerts(&["a"]);
    assert!(matches!(finish(begin(config, &script)).end, End::Closed));
    let (_, _, reason) = script.rejected.lock().unwrap().pop().unwrap();
    assert!(reason.contains("is a loopback address, which no webhook is sent to"), "{reason}");
    assert_eq!(receiver.count(), 0);
}

#[test]
fn a_proxy_resolves_names_itself() {
    let proxy = Receiver::start(|_, _| status(200));
    let config = WebhookConfig {
        allow_private: false,
        allow_http: true,
        proxy: Some(format!("http://{}", proxy.address)),
        ..config("http://crm.example.com/hooks".to_owned())
    };
    assert!(matches!(finish(begin(config, &alerts(&["a"]))).end, End::Closed));
    assert_eq!(proxy.requests()[0].line, "POST http://crm.example.com/hooks HTTP/1.1");
}

#[test]
fn a_proxy_of_the_environment_is_not_used() {
    let nobody = "http://127.0.0.1:1";
    let mut process = Command::new(env::current_exe().unwrap());
    process.args(["--exact", "webhook::connections_are_used_again"]).stdout(Stdio::null());
    for name in ["HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "ALL_PROXY", "all_proxy"] {
        process.env(name, nobody);
    }
    assert!(process.status().unwrap().success());
}

#[test]
fn a_lane_that_is_taken_away_is_let_go_at_once() {
    let receiver = Receiver::start(|_, earlier| if earlier == 0 { Reply::Never } else { status(200) });
    let script = alerts(&["a"]);
    let dispatcher = begin(WebhookConfig { timeout: PATIENCE, ..config(receiver.url()) }, &script);
    eventually("it to be on its way", || receiver.count() == 1);
    script.order(Event::Revoked(lane(0)));
    script.order(Event::Assigned(lane(0)));
    eventually("it to be sent again by the new owner", || receiver.count() == 2);
    let outcome = finish(dispatcher);
    assert!(matches!(outcome.end, End::Closed), "{outcome:?}");
    assert_eq!((receiver.count(), script.remembered.lock().unwrap().len()), (2, 1));
}

#[test]
fn what_makes_no_sense_is_no_sink() {
    let error = |config| WebhookSink::new(config).err().unwrap();
    let good = || config("http://127.0.0.1/".to_owned());
    let is_wrong = |config, wrong: &str| {
        let error = error(config);
        assert!(matches!(error, WebhookError::Unusable { setting, .. } if setting == wrong), "{error:?}");
    };
    assert!(matches!(error(WebhookConfig { secrets: vec![], ..good() }), WebhookError::NoSecret));
    assert!(matches!(error(WebhookConfig { allow_private: false, ..good() }), WebhookError::Url(UrlError::Plain)));
    is_wrong(WebhookConfig { proxy: Some("::".to_owned()), ..good() }, "proxy");
    is_wrong(
        WebhookConfig {
            ca: Some(b"-----BEGIN CERTIFICATE-----\nnone\n-----END CERTIFICATE-----\n".to_vec()),
            ..good()
        },
        "ca",
    );
}

#[test]
fn a_probe_sends_no_message() {
    let receiver = Receiver::start(|_, _| status(405));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    assert_eq!(runtime.block_on(config(receiver.url()).probe()).unwrap(), 405);
    assert_eq!(receiver.requests()[0].line, "HEAD /hooks/lapse?token=hidden HTTP/1.1");
    let nobody = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let error = runtime.block_on(config(format!("http://{nobody}/hidden")).probe()).unwrap_err().to_string();
    assert!(error.contains("cannot be reached: no connection") && !error.contains("hidden"), "{error}");
}
