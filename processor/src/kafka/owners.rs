//! Whether each partition has an owner.
//!
//! A static member that starts again is given what it had, without a rebalance. So when the members are killed between the
//! two generations in which a partition moves, where one has given it up and the other has not got it, all of them start
//! again with just that, and the partition is nobody's: the group is stable, and stays like this (KIP-345 and KIP-429 do
//! not know of each other). One more member makes the group look again: it has no part in the log of events, so nothing
//! moves but what has no owner.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};
use std::{io, thread};

use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;
use tracing::{debug, warn};

use super::client::{self, Member, Quiet};
use super::{Config, Shared};

/// How soon the end of the workers is noticed.
const WAKE_EVERY: Duration = Duration::from_millis(200);
/// Events of the observer that are served at each look: it tells them only to who polls it, and they would pile up.
const EVENTS: usize = 16;
/// How often it is looked.
const LOOK_EVERY: Duration = Duration::from_secs(2);
/// A partition on the move is nobody's meanwhile: its state is written, and a member is noticed to be gone, within that.
const UNOWNED_FOR: Duration = Duration::from_secs(10);
/// For an answer of the broker.
const WITHIN: Duration = Duration::from_secs(5);
/// For the group to let one more in: a member that has died since is waited for.
const JOIN: Duration = Duration::from_secs(20);

/// Starts to look, for as long as the workers are there. Nobody waits for the end: a broker may not answer.
pub(super) fn watch(config: &Arc<Config>, shared: &Arc<Shared>) -> io::Result<()> {
    let (config, shared) = (config.clone(), Arc::downgrade(shared));
    thread::Builder::new().name("owners".to_owned()).spawn(move || look(&config, &shared)).map(drop)
}

fn look(config: &Config, shared: &Weak<Shared>) {
    let mut observer = None;
    let mut unowned_since: BTreeMap<i32, Instant> = BTreeMap::new();
    let mut looked_at = Instant::now();
    while shared.strong_count() > 0 {
        thread::sleep(WAKE_EVERY);
        if looked_at.elapsed() < LOOK_EVERY {
            continue;
        }
        looked_at = Instant::now();
        let looked = match &observer {
            Some(observer) => unowned(config, observer),
            None => client::observer(config).and_then(|made| unowned(config, observer.insert(made))),
        };
        let found = match looked {
            Ok(found) => found,
            Err(error) => {
                debug!(%error, "who has which partition is not known; asking again");
                continue;
            }
        };
        unowned_since.retain(|partition, _| found.partitions.contains(partition));
        for partition in &found.partitions {
            unowned_since.entry(*partition).or_insert_with(Instant::now);
        }
        if found.is_ours && unowned_since.values().any(|since| since.elapsed() >= UNOWNED_FOR) {
            warn!(partitions = ?found.partitions, "nobody has these partitions; the group is made to share them out");
            if let Err(error) = nudge(config) {
                warn!(%error, "the group could not be made to; trying again");
            }
            unowned_since.clear();
        }
    }
}

#[derive(Default)]
struct Unowned {
    partitions: BTreeSet<i32>,
    /// Whether it is for this process to do something about it: one will do.
    is_ours: bool,
}

/// What nobody has, of a group in which nothing moves.
fn unowned(config: &Config, observer: &Member) -> Result<Unowned, KafkaError> {
    (0..EVENTS).for_each(|_| drop(observer.poll(Duration::ZERO)));
    // First: it takes brokers that are no more out of the list of those who are asked for the group.
    let found = observer.fetch_metadata(Some(&config.topics.events), WITHIN)?;
    let groups = observer.fetch_group_list(Some(&config.group), WITHIN)?;
    let Some(group) = groups.groups().iter().find(|group| group.name() == config.group && group.state() == STABLE)
    else {
        return Ok(Unowned::default());
    };
    let all = found.topics().iter().flat_map(|topic| topic.partitions()).map(|partition| partition.id());
    let mut partitions: BTreeSet<i32> = all.collect();
    for member in group.members() {
        // Of another protocol than ours nothing can be said.
        let Some(owned) = assigned(member.assignment().unwrap_or_default(), &config.topics.events) else {
            return Ok(Unowned::default());
        };
        partitions.retain(|partition| !owned.contains(partition));
    }
    // The broker's name for a static member begins with the member's own.
    let first = group.members().iter().map(|member| member.id()).min();
    Ok(Unowned { partitions, is_ours: first.is_some_and(|id| id.starts_with(&config.instance)) })
}

/// What the broker calls a group whose members all have their assignments.
const STABLE: &str = "Stable";

/// The partitions of `topic` in an assignment of Kafka's consumer protocol (`ConsumerProtocolAssignment`: the version as
/// int16, then an array of topics, each a string and an array of int32). `None` if it is something else.
fn assigned(mut bytes: &[u8], topic: &str) -> Option<BTreeSet<i32>> {
    let mut owned = BTreeSet::new();
    if bytes.is_empty() {
        return Some(owned);
    }
    let bytes = &mut bytes;
    bytes.split_off(..2)?;
    for _ in 0..int(bytes)? {
        let length = u16::from_be_bytes(bytes.split_off(..2)?.try_into().ok()?);
        let name = bytes.split_off(..usize::from(length))?;
        for _ in 0..int(bytes)? {
            let partition = int(bytes)?;
            if name == topic.as_bytes() {
                owned.insert(partition);
            }
        }
    }
    Some(owned)
}

fn int(bytes: &mut &[u8]) -> Option<i32> {
    Some(i32::from_be_bytes(bytes.split_off(..4)?.try_into().ok()?))
}

/// Comes to the group, and leaves it: twice the leader looks at what there is to share out.
fn nudge(config: &Config) -> Result<(), KafkaError> {
    let mut client = config.client.clone();
    client.set("group.id", &config.group).set("partition.assignment.strategy", "cooperative-sticky");
    client.set("session.timeout.ms", client::SESSION_MS).set("enable.auto.commit", "false");
    // It leaves when it is done.
    client.remove("group.instance.id");
    let member: BaseConsumer<Quiet> = client.create_with_context(Quiet)?;
    // The processor's own, and nobody else of the group reads it.
    member.subscribe(&[&config.topics.dead_letters])?;
    let until = Instant::now() + JOIN;
    while member.assignment()?.count() == 0 && Instant::now() < until {
        drop(member.poll(LOOK_EVERY));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::assigned;

    #[test]
    fn an_assignment_is_read_and_what_is_none_is_not() {
        let bytes =
            b"\0\x01\0\0\0\x02\0\x01a\0\0\0\x02\0\0\0\x03\0\0\0\x05\0\x02bc\0\0\0\x01\0\0\0\x07\xff\xff\xff\xff";
        let of = |topic| assigned(bytes, topic).map(|owned| owned.into_iter().collect::<Vec<_>>());
        assert_eq!(of("a"), Some(vec![3, 5]));
        assert_eq!(of("bc"), Some(vec![7]));
        assert_eq!(of("none"), Some(vec![]));
        assert_eq!(assigned(b"", "a").map(|owned| owned.len()), Some(0));
        // Cut off anywhere before the user data it is none.
        for length in 1..bytes.len() - 4 {
            assert_eq!(assigned(&bytes[..length], "a"), None, "{length}");
        }
    }
}
