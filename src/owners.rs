//! Whether each partition has an owner, in every group that this process is in.
//!
//! A static member that starts again is given what it had, without a rebalance. So when the members are killed between the
//! two generations in which a partition moves, where one has given it up and the other has not got it, all of them start
//! again with just that, and the partition is nobody's: the group is stable, and stays like this (KIP-345 and KIP-429 do
//! not know of each other). One more member makes the group look again: it has no part in what the group reads, so nothing
//! moves but what has no owner.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use anyhow::Result;
use rdkafka::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use tracing::{debug, warn};

use crate::cluster::{Heard, Reader};
use crate::config::Topics;
use crate::watch::Watch;

/// How often it is looked.
const LOOK_EVERY: Duration = Duration::from_secs(2);
/// A partition on the move is nobody's meanwhile: its state is written, and a member is noticed to be gone, within that. A
/// sink is waited for longer: it may be in the middle of a delivery.
const UNOWNED_FOR: Duration = Duration::from_secs(10);
const UNOWNED_BY_SINKS_FOR: Duration = Duration::from_secs(45);
/// Between two attempts that help nothing, such as when the group's leader may not see a topic: no more than this.
const LONGEST_PAUSE: Duration = Duration::from_secs(600);
/// For the group to let one more in: a member that has died since is waited for.
const JOIN: Duration = Duration::from_secs(20);
/// How soon a stop is noticed meanwhile.
const POLL: Duration = Duration::from_millis(200);
/// Of the member that comes and goes: the least that brokers allow by default.
const SESSION_MS: &str = "6000";

/// A group that this process is in.
#[derive(Debug)]
pub struct Group {
    name: String,
    /// What is shared out.
    topics: Vec<String>,
    /// What this process is called there: the beginning of its members' names.
    instance: String,
    /// Nobody in the group reads it.
    aside: String,
    /// How long a partition may be nobody's.
    patience: Duration,
}

impl Group {
    /// A group whose members read `topics`, each all of them.
    pub fn new(
        name: &str,
        topics: impl IntoIterator<Item = impl Into<String>>,
        instance: &str,
        ours: &Topics,
    ) -> Group {
        let topics: Vec<String> = topics.into_iter().map(Into::into).collect();
        let aside = if topics.contains(&ours.dead_letters) { &ours.progress } else { &ours.dead_letters };
        Group {
            name: name.to_owned(),
            topics,
            instance: instance.to_owned(),
            aside: aside.clone(),
            patience: UNOWNED_FOR,
        }
    }

    /// The same, of a sink.
    pub fn of_sink(name: &str, topics: &[&str], instance: &str, ours: &Topics) -> Group {
        Group { patience: UNOWNED_BY_SINKS_FOR, ..Group::new(name, topics.iter().copied(), instance, ours) }
    }
}

/// A partition of a topic.
type Place = (String, i32);

/// Starts to look, until what is returned is dropped.
pub fn watch(client: &ClientConfig, ours: &Topics, groups: Vec<Group>, stop: &Arc<AtomicBool>) -> Result<Watch> {
    let reader = Reader::new(client, &format!("{}.topics", ours.prefix))?;
    let mut groups: Vec<Watched> = groups
        .into_iter()
        .map(|group| Watched { pause: group.patience, group, unowned_since: BTreeMap::new() })
        .collect();
    let client = client.clone();
    Watch::start("owners", LOOK_EVERY, stop.clone(), move |is_over| {
        for watched in groups.iter_mut().take_while(|_| !is_over()) {
            if let Err(error) = watched.look(&reader, &client, is_over) {
                debug!(group = watched.group.name, error = format!("{error:#}"), "not known who has which partition");
            }
        }
    })
}

struct Watched {
    group: Group,
    unowned_since: BTreeMap<Place, Instant>,
    /// Before something is done about it.
    pause: Duration,
}

impl Watched {
    fn look(&mut self, reader: &Reader, client: &ClientConfig, is_over: &dyn Fn() -> bool) -> Result<()> {
        let unowned = unowned(&self.group, reader, is_over)?;
        let was = std::mem::take(&mut self.unowned_since);
        let since = |place: &Place| was.get(place).copied().unwrap_or_else(Instant::now);
        self.unowned_since = unowned.places.into_iter().map(|place| (place.clone(), since(&place))).collect();
        if self.unowned_since.is_empty() {
            self.pause = self.group.patience;
        }
        if unowned.is_ours && self.unowned_since.values().any(|since| since.elapsed() >= self.pause) {
            let (group, partitions) = (&self.group.name, self.unowned_since.keys());
            warn!(group, ?partitions, "nobody has these partitions; the group is made to share them out");
            if let Err(error) = nudge(&self.group, client, is_over) {
                warn!(group, error = format!("{error:#}"), "the group could not be made to; trying again");
            }
            let now = Instant::now();
            self.unowned_since.values_mut().for_each(|since| *since = now);
            self.pause = (2 * self.pause).min(LONGEST_PAUSE);
        }
        Ok(())
    }
}

#[derive(Default)]
struct Unowned {
    places: Vec<Place>,
    /// Whether it is for this process to do something about it: one will do.
    is_ours: bool,
}

/// What nobody has, of a group in which nothing moves.
fn unowned(group: &Group, reader: &Reader, is_over: &dyn Fn() -> bool) -> Result<Unowned> {
    let mut places = Vec::new();
    // First: it takes brokers that are no more out of the list of those who are asked for the group.
    for topic in &group.topics {
        // Each question may take seconds.
        if is_over() {
            return Ok(Unowned::default());
        }
        places.extend(reader.partitions(topic)?.into_iter().map(|partition| (topic.clone(), partition)));
    }
    let groups = reader.group(&group.name)?;
    let Some(found) = groups.groups().iter().find(|found| found.name() == group.name && found.state() == STABLE) else {
        return Ok(Unowned::default());
    };
    for member in found.members() {
        // Of another protocol than ours nothing can be said.
        let Some(owned) = assigned(member.assignment().unwrap_or_default()) else {
            return Ok(Unowned::default());
        };
        places.retain(|place| !owned.contains(place));
    }
    // The broker's name for a static member begins with the member's own.
    let first = found.members().iter().map(|member| member.id()).min();
    Ok(Unowned { places, is_ours: first.is_some_and(|id| id.starts_with(&group.instance)) })
}

/// What the broker calls a group whose members all have their assignments.
const STABLE: &str = "Stable";

/// The partitions in an assignment of Kafka's consumer protocol (`ConsumerProtocolAssignment`: the version as int16, then an
/// array of topics, each a string and an array of int32). `None` if it is something else.
fn assigned(mut bytes: &[u8]) -> Option<Vec<Place>> {
    let mut owned = Vec::new();
    if bytes.is_empty() {
        return Some(owned);
    }
    let bytes = &mut bytes;
    bytes.split_off(..2)?;
    for _ in 0..int(bytes)? {
        let length = u16::from_be_bytes(bytes.split_off(..2)?.try_into().ok()?);
        let name = str::from_utf8(bytes.split_off(..usize::from(length))?).ok()?;
        for _ in 0..int(bytes)? {
            owned.push((name.to_owned(), int(bytes)?));
        }
    }
    Some(owned)
}

fn int(bytes: &mut &[u8]) -> Option<i32> {
    Some(i32::from_be_bytes(bytes.split_off(..4)?.try_into().ok()?))
}

/// Comes to the group, and leaves it: twice the leader looks at what there is to share out.
fn nudge(group: &Group, client: &ClientConfig, is_over: &dyn Fn() -> bool) -> Result<()> {
    let mut client = client.clone();
    client.set("group.id", &group.name).set("partition.assignment.strategy", "cooperative-sticky");
    client.set("session.timeout.ms", SESSION_MS).set("enable.auto.commit", "false").set("group.protocol", "classic");
    // It leaves when it is done.
    client.remove("group.instance.id");
    let member: BaseConsumer<Heard> = client.create_with_context(Heard::default())?;
    member.subscribe(&[&group.aside])?;
    let until = Instant::now() + JOIN;
    while member.assignment()?.count() == 0 && Instant::now() < until && !is_over() {
        drop(member.poll(POLL));
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
        let place = |topic: &str, partition| (topic.to_owned(), partition);
        assert_eq!(assigned(bytes), Some(vec![place("a", 3), place("a", 5), place("bc", 7)]));
        assert_eq!(assigned(b""), Some(vec![]));
        // Cut off anywhere before the user data it is none.
        for length in 1..bytes.len() - 4 {
            assert_eq!(assigned(&bytes[..length]), None, "{length}");
        }
    }
}
