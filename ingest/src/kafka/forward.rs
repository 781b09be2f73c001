//! One record of a source → one record of `touchline.events` or of the dead letters, or none that is counted.
//!
//! What becomes of a record is a pure function of it and the configuration ([`take`]); it arrived when Kafka says. A
//! record without a value is a tombstone: it deletes a key of its topic, which says nothing of an event, so it is counted
//! and passed over. An empty value is no event and no tombstone: a dead letter.

use std::borrow::Cow;
use std::sync::Arc;

use jiff::Timestamp;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{BorrowedMessage, Headers, Message, OwnedHeaders};
use rdkafka::producer::{BaseRecord, ThreadedProducer};
use touchline_core::event::Reject;
use touchline_core::record::Record;
use tracing::warn;

use super::Failure;
use super::client::Context;
use super::config::{Config, RecordFormat, Topics};
use super::flight::{Flights, Refused, Stint, Ticket};
use super::letter::Letter;
use super::partitioner::partition;
use crate::formats::Fault;
use crate::formats::canonical::{Decoded, Decoder};
use crate::metrics::{Metrics, Outcome};

/// Headers of a source's record that its event keeps, so that a trace goes through (<https://www.w3.org/TR/trace-context>).
const KEPT_HEADERS: [&str; 2] = ["traceparent", "tracestate"];
/// How much of the raw bytes a dead letter keeps where its topic does not take more: any topic takes that.
const REFUSED_RAW_BYTES: usize = 64 << 10;

/// What a record is.
enum Taken {
    /// An event of this account; its canonical bytes stand in the buffer.
    Event(String),
    /// An event of our own people.
    Internal,
    /// No value.
    Tombstone,
}

/// Decodes one value; an event's canonical bytes replace what `bytes` holds.
fn take(
    decoder: &Decoder,
    format: RecordFormat,
    value: Option<&[u8]>,
    arrived: Timestamp,
    bytes: &mut Vec<u8>,
) -> Result<Taken, Reject> {
    let Some(value) = value else { return Ok(Taken::Tombstone) };
    let decoded = match format {
        RecordFormat::Canonical => decoder.decode(value, arrived)?,
    };
    let event = match decoded {
        Decoded::Record(Record::Event(event)) => event,
        Decoded::Record(Record::Tick { .. }) => return Err(foreign("tick")),
        Decoded::Record(Record::Rules { .. }) => return Err(foreign("rules")),
        Decoded::Internal => return Ok(Taken::Internal),
    };
    bytes.clear();
    event.write_canonical(bytes);
    Ok(Taken::Event(event.account.into_owned()))
}

/// What only touchline itself may put into its log: a source does not move the clock.
fn foreign(kind: &str) -> Reject {
    Reject::Malformed {
        field: Cow::Borrowed("kind"),
        found: format!("\"{kind}\""),
        takes: Cow::Borrowed("the kind of an event in the topic of a source"),
    }
}

/// Sends what records become.
pub(super) struct Forwarder<'a> {
    config: &'a Config,
    metrics: &'a Metrics,
    decoder: Decoder,
    producer: Sender,
    /// For what a topic has refused, once it has refused something.
    single: Option<Sender>,
    flights: Arc<Flights>,
    value: Vec<u8>,
}

type Sender = ThreadedProducer<Context<Arc<Flights>>>;

impl<'a> Forwarder<'a> {
    pub(super) fn new(config: &'a Config, metrics: &'a Metrics, flights: Arc<Flights>) -> Result<Self, Failure> {
        let context = Context(Arc::clone(&flights));
        let producer = config.event_producer().create_with_context(context).map_err(Failure::Client)?;
        Ok(Forwarder { config, metrics, decoder: config.decoder(), producer, single: None, flights, value: Vec::new() })
    }

    /// Takes one record of the source of this index.
    pub(super) fn forward(
        &mut self,
        message: &BorrowedMessage<'_>,
        stint: Stint,
        source: usize,
    ) -> Result<(), Failure> {
        let format = self.config.sources[source].format;
        let taken = take(&self.decoder, format, message.payload(), arrived(message), &mut self.value);
        let outcome = match taken {
            Ok(Taken::Event(account)) => {
                let ticket = self.flights.depart(stint, message.offset(), self.value.len());
                let place = self.place(&self.config.topics.events, account.as_bytes());
                send(&self.producer, place, account.as_bytes(), &self.value, kept_headers(message), ticket)?;
                Outcome::Event
            }
            Ok(Taken::Internal) => Outcome::Internal,
            Ok(Taken::Tombstone) => Outcome::Tombstone,
            Err(reject) => {
                self.reject(message, stint, reject)?;
                Outcome::DeadLetter
            }
        };
        self.metrics.taken(source, outcome);
        Ok(())
    }

    fn reject(&self, message: &BorrowedMessage<'_>, stint: Stint, reject: Reject) -> Result<(), Failure> {
        let fault = Fault::from(reject);
        self.metrics.dead_letter(fault.reason());
        let error = fault.to_string();
        let letter = Letter {
            topic: message.topic(),
            partition: message.partition(),
            offset: message.offset(),
            n: 0,
            error: &error,
            raw: message.payload().unwrap_or_default(),
        };
        let value = letter.value();
        let headers = letter.headers(kept_headers(message).unwrap_or_default());
        let ticket = self.flights.depart(stint, message.offset(), value.len());
        send(
            &self.producer,
            (&self.config.topics.dead_letters, None),
            letter.key().as_bytes(),
            &value,
            Some(headers),
            ticket,
        )
    }

    /// Looks after what has not landed as it should: an output that is too large for its topic becomes a dead letter.
    ///
    /// # Errors
    /// The broker will never take what was sent. All that is not committed has to be read again.
    pub(super) fn serve(&mut self) -> Result<(), Failure> {
        for refused in self.flights.take_refused() {
            self.send_alone(refused)?;
        }
        match self.flights.failure() {
            Some((topic, error)) => Err(Failure::Write { topic, error }),
            None => Ok(()),
        }
    }
}

impl Forwarder<'_> {
    /// The topic, and the partition if that is for us to say.
    fn place<'t>(&self, topic: &'t str, key: &[u8]) -> (&'t str, Option<i32>) {
        let Topics { events, partitions, .. } = &self.config.topics;
        (topic, (topic == events).then(|| partition(key, *partitions)))
    }

    /// Sends again what was refused: as it is in a batch of its own, then as a dead letter, then with less of its bytes.
    fn send_alone(&mut self, refused: Refused) -> Result<(), Failure> {
        let single = match self.single.take() {
            Some(single) => single,
            None => {
                let context = Context(Arc::clone(&self.flights));
                self.config.single_producer().create_with_context(context).map_err(Failure::Client)?
            }
        };
        let sent = self.bury(&single, refused);
        self.single = Some(single);
        sent
    }

    fn bury(&self, single: &Sender, refused: Refused) -> Result<(), Failure> {
        let dead_letters = &self.config.topics.dead_letters;
        let Refused { mut ticket, topic, key, value, headers } = refused;
        if !std::mem::replace(&mut ticket.is_alone, true) {
            return send(single, self.place(&topic, &key), &key, &value, headers, ticket);
        }
        if topic == *dead_letters {
            let error = KafkaError::MessageProduction(RDKafkaErrorCode::MessageSizeTooLarge);
            let value = Letter::shorten(&value, REFUSED_RAW_BYTES).ok_or(Failure::Write { topic, error })?;
            warn!(topic = %dead_letters, "a dead letter lost most of its bytes: the topic takes no larger records");
            return send(single, (dead_letters, None), &key, &value, headers, ticket);
        }
        let Some((origin, partition, offset)) = self.flights.origin(&ticket) else {
            // Whoever has the partition now reads the record again.
            self.flights.land(&ticket);
            return Ok(());
        };
        let error = format!(
            "the event has {} bytes, more than {topic} takes; raise its `max.message.bytes` and replay this",
            value.len()
        );
        self.metrics.dead_letter("refused");
        let letter = Letter { topic: &origin, partition, offset, n: 0, error: &error, raw: &value };
        let headers = Some(letter.headers(headers.unwrap_or_default()));
        send(single, (dead_letters, None), letter.key().as_bytes(), &letter.value(), headers, ticket)
    }
}

fn send(
    producer: &Sender,
    (topic, partition): (&str, Option<i32>),
    key: &[u8],
    value: &[u8],
    headers: Option<OwnedHeaders>,
    ticket: Box<Ticket>,
) -> Result<(), Failure> {
    let mut record = BaseRecord::with_opaque_to(topic, ticket).key(key).payload(value);
    record.headers = headers;
    record.partition = partition;
    producer.send(record).map_err(|(error, _)| Failure::Write { topic: topic.to_owned(), error })
}

/// When Kafka says that a record arrived. One without a time stamp, of a format that brokers no longer write, may lie
/// anywhere.
fn arrived(message: &BorrowedMessage<'_>) -> Timestamp {
    let millis = message.timestamp().to_millis();
    millis.and_then(|millis| Timestamp::from_millisecond(millis).ok()).unwrap_or(Timestamp::MAX)
}

fn kept_headers(message: &BorrowedMessage<'_>) -> Option<OwnedHeaders> {
    let kept = message.headers()?.iter().filter(|header| KEPT_HEADERS.contains(&header.key));
    kept.fold(None, |headers, header| Some(headers.unwrap_or_else(OwnedHeaders::new).insert(header)))
}

#[cfg(test)]
mod tests {
    use super::*;

    const ARRIVED: &str = "2024-06-01T00:00:00Z";

    /// What becomes of a value: the account and the canonical bytes, what it is, or what is wrong with it.
    fn check(value: Option<&str>, expect: &str) {
        let decoder = Decoder { identity: crate::Identity::new(["ours.example".to_owned()]), ..Decoder::default() };
        let mut bytes = b"what was before".to_vec();
        let value = value.map(str::as_bytes);
        let told = match take(&decoder, RecordFormat::Canonical, value, ARRIVED.parse().unwrap(), &mut bytes) {
            Ok(Taken::Event(account)) => format!("{account}: {}", String::from_utf8(bytes).unwrap()),
            Ok(Taken::Internal) => "internal".to_owned(),
            Ok(Taken::Tombstone) => "tombstone".to_owned(),
            Err(reject) => reject.to_string(),
        };
        assert_eq!(told, expect);
    }

    #[test]
    fn records_become_events_keyed_by_account() {
        check(
            Some(
                r#"{"kind":"engagement","vehicle":"call","id":"1","source":"crm","occurred_at":"2024-03-05","contact":"Ann@Acme.example"}"#,
            ),
            r#"acme.example: {"id":"1","source":"crm","kind":"engagement","occurred_at":"2024-03-05T00:00:00Z","account":"acme.example","contact":"ann@acme.example","vehicle":"call"}"#,
        );
        check(
            Some(
                r#"{"kind":"engagement","vehicle":"call","id":"1","source":"crm","occurred_at":"2024-03-05","contact":"bob@ours.example"}"#,
            ),
            "internal",
        );
    }

    #[test]
    fn no_value_is_no_event_and_an_empty_one_is_wrong() {
        check(None, "tombstone");
        check(Some(""), "the record is not a JSON object: EOF while parsing a value at column 0");
    }

    #[test]
    fn a_source_does_not_move_the_clock() {
        check(
            Some(r#"{"kind":"tick","through":"2030-01-01T00:00:00Z"}"#),
            r#"field `kind` is "tick"; it takes the kind of an event in the topic of a source"#,
        );
        check(
            Some(r#"{"kind":"rules","revision":9}"#),
            r#"field `kind` is "rules"; it takes the kind of an event in the topic of a source"#,
        );
    }
}
