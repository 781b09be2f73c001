//! What else people type: reports, `generate`, `check`, completions, help.

use std::process::{Command, Stdio};

use crate::community::{AS_OF, GZIP, text};
use crate::harness::{Place, objects};
use crate::log::engagement;

#[test]
fn a_report_for_people() {
    let place = Place::with(&[("h.jsonl.gz", GZIP)]);
    let ran = place.run(&format!("replay h.jsonl.gz --as-of {AS_OF}")).ok();
    for line in [
        "1,370 of 1,488 contacts have gone silent, as of 2024-10-26.",
        "108 are engaged, 10 will be silent soon.",
        "The longest relationships that went silent",
        "Lapses and recoveries by month",
        "32,541 events read in ",
        "Files in touchline-out",
        "  lapses.csv          every silence",
    ] {
        assert!(ran.out.lines().any(|found| found.starts_with(line)), "{line:?} is not in\n{}", ran.out);
    }
    assert!(!ran.out.contains('\x1b') && ran.err.is_empty(), "no colours and no bars where nobody looks: {ran}");
    // Again, as people do: nothing to be warned of.
    assert_eq!(place.run(&format!("replay h.jsonl.gz --as-of {AS_OF}")).ok().err, "");
}

#[test]
fn an_object_for_machines() {
    let place = Place::with(&[("h.jsonl.gz", GZIP)]);
    let ran = place.run(&format!("replay h.jsonl.gz --as-of {AS_OF} --out out --json")).ok();
    let json = ran.json();
    let expected = [("events", 32_541), ("dead_letters", 0), ("internal", 0), ("held", 0)];
    expected.iter().for_each(|(name, number)| assert_eq!(json[name], *number, "{name} of {json}"));
    for number in ["alerts", "alert_changes", "published", "wall_s", "cpu_s", "max_rss_mb"] {
        assert!(json[number].as_f64().is_some_and(|number| number > 0.0), "{number} of {json}");
    }
    assert_eq!((&json["as_of"], &json["out"], &json["stopped"]), (&AS_OF.into(), &"out".into(), &false.into()));
    assert!(json["warnings"].as_array().unwrap().is_empty() && ran.err.is_empty(), "{ran}");
}

#[test]
fn a_reader_that_has_seen_enough() {
    let place = Place::with(&[("one.jsonl", text(&[engagement("1", "2024-01-01", "ann")]))]);
    for command in ["replay one.jsonl", "generate --contacts 100 --events 100000", "completions zsh", "--help"] {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let run = Command::new(env!("CARGO_BIN_EXE_touchline"))
            .args(command.split(' '))
            .current_dir(place.path("."))
            .stdout(writer)
            .stderr(Stdio::piped())
            .spawn();
        let output = run.unwrap().wait_with_output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!((output.status.code(), &*said), (Some(0), ""), "{command}");
    }
}

#[test]
fn generated_load_is_the_same_for_the_same_seed() {
    let place = Place::new();
    let command = "generate --contacts 500 --events 20000 --seed";
    let told = place.run(&format!("{command} 7 --to seven.jsonl")).ok().out;
    assert!(told.starts_with("20,000 events, ") && told.ends_with(" bytes, in seven.jsonl\n"), "{told}");
    let seven = place.read("seven.jsonl");
    assert!(place.run(&format!("{command} 7")).ok().out == seven, "standard output is another");
    assert!(place.run(&format!("{command} 8")).ok().out != seven, "another seed is another history");
    let json = place.run("replay seven.jsonl --out out --json").ok().json();
    assert_eq!((&json["events"], &json["dead_letters"]), (&20_000.into(), &0.into()));
    assert!(json["alerts"].as_u64().unwrap() > 100, "contacts fade: {json}");
    let (kinds, mut times) = (|kind: &str| seven.matches(&format!(r#""kind":"{kind}""#)).count(), Vec::new());
    for kind in ["touch", "engagement", "advocacy", "value", "profile"] {
        assert!(kinds(kind) > 10, "{} {kind}s", kinds(kind));
    }
    let (mut ids, all) = (std::collections::BTreeSet::new(), objects(&seven));
    for event in &all {
        times.push(event["occurred_at"].as_str().unwrap().parse::<jiff::Timestamp>().unwrap());
        ids.insert(event.to_string());
    }
    assert!(times.windows(2).any(|pair| pair[1] < pair[0]), "some come late");
    assert!(ids.len() < all.len(), "some come twice");
}

#[test]
fn configurations_are_checked() {
    let config =
        "[lapse]\nmonths = 2\n[[sink]]\nname = \"sales\"\nkind = \"file\"\ntopics = [\"alerts\"]\ndir = \"sales\"\n";
    let place = Place::with(&[("touchline.toml", config), ("empty.toml", "")]);
    assert_eq!(place.run("check --offline").ok().out, "touchline.toml is right\n");
    assert_eq!(place.run("check --config empty.toml --offline").ok().out, "empty.toml is right\n");
}

#[test]
fn help_and_completions() {
    let place = Place::new();
    for shell in ["bash", "elvish", "fish", "powershell", "zsh"] {
        let ran = place.run(&format!("completions {shell}")).ok();
        assert!(ran.out.contains("as-of") && ran.out.contains("generate"), "{shell}: {ran}");
    }
    let ran = place.run("--version").ok();
    assert_eq!(ran.out, format!("touchline {}\n", env!("CARGO_PKG_VERSION")));
    for (command, word) in [("--help", "replay"), ("help replay", "--as-of <TIME>"), ("state --help", "verify")] {
        assert!(place.run(command).ok().out.contains(word), "{command}");
    }
}
