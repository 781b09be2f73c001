//! Kafka.

use std::collections::BTreeMap;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::{self, Sender};
use std::thread;
use std::time::{Duration, Instant};

use rdkafka::admin::{AdminClient, AdminOptions, NewPartitions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::message::{BorrowedMessage, Headers};
use rdkafka::producer::{BaseProducer, BaseRecord, DeliveryResult, Producer, ProducerContext};
use rdkafka::types::RDKafkaErrorCode;
use rdkafka::{ClientConfig, ClientContext, Message, Offset, TopicPartitionList};

use crate::eventually;
use crate::proxy::{Protocol, Proxy};
use crate::server::Server;

/// For whatever a broker that runs does at once. One that was paused or started again takes some seconds.
const WITHIN: Duration = Duration::from_secs(60);
/// How long a poll may wait: the loops around it look at their deadlines so often.
const POLL: Duration = Duration::from_millis(100);

/// As many replicas as the broker's settings say.
const DEFAULT: i32 = -1;
/// Where a proxy stands, from the broker's port.
const PROXY: u16 = 3;

/// What makes a cluster of three outlive one of them.
const CLUSTER: [&str; 7] = [
    "default.replication.factor=3",
    "min.insync.replicas=2",
    "offsets.topic.replication.factor=3",
    "transaction.state.log.replication.factor=3",
    "transaction.state.log.min.isr=2",
    // One that is dead is seen to be.
    "broker.session.timeout.ms=3000",
    "broker.heartbeat.interval.ms=500",
];

/// What lets in whom it knows, and lets them do what they are allowed. Who comes by the other listeners may do everything.
const GUARDED: [&str; 6] = [
    "listener.security.protocol.map=CLIENT:SASL_PLAINTEXT,CONTROLLER:PLAINTEXT,INTERNAL:PLAINTEXT",
    "listener.name.client.sasl.enabled.mechanisms=SCRAM-SHA-512",
    "listener.name.client.scram-sha-512.sasl.jaas.config=org.apache.kafka.common.security.scram.ScramLoginModule required;",
    "authorizer.class.name=org.apache.kafka.metadata.authorizer.StandardAuthorizer",
    "allow.everyone.if.no.acl.found=false",
    "super.users=User:ANONYMOUS",
];

/// A broker, alone in its cluster or not.
pub struct Kafka {
    server: Server,
    /// Further brokers of its cluster.
    others: Vec<Server>,
    bootstrap: String,
    topics: AtomicU32,
    producer: OnceLock<BaseProducer<Receipts>>,
}

/// What stands in a topic.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Record {
    /// Its partition.
    pub partition: i32,
    /// Its offset there.
    pub offset: i64,
    /// Its key.
    pub key: Option<Vec<u8>>,
    /// Its value; `None` is a tombstone.
    pub value: Option<Vec<u8>>,
    /// Its headers, in their order.
    pub headers: Vec<(String, Option<Vec<u8>>)>,
    /// Milliseconds since 1970: its producer's or, where the topic says so, the broker's.
    pub timestamp: Option<i64>,
}

impl Kafka {
    /// This process's one, which is not to be stopped: other tests use it.
    pub fn shared() -> &'static Kafka {
        static SHARED: OnceLock<Kafka> = OnceLock::new();
        SHARED.get_or_init(|| Kafka::start(&[]))
    }

    /// One of the test's own, with settings of the broker. The listener that tests may secure is `CLIENT`.
    pub fn start(settings: &[(&str, &str)]) -> Kafka {
        let settings = settings.iter().map(|(key, value)| format!("{key}={value}")).collect();
        Kafka::behind(Server::start("kafka.sh", "-TERM", settings, Vec::new()), 0)
    }

    /// One of the test's own whose listener `CLIENT` knows users by SCRAM-SHA-512, who may do nothing that [`Kafka::acls`] has
    /// not allowed. This kit may do everything.
    pub fn guarded<'a>(users: impl IntoIterator<Item = (&'a str, &'a str)>) -> Kafka {
        let settings = GUARDED.iter().map(|setting| (*setting).to_owned()).collect();
        let users: Vec<_> = users.into_iter().map(|(name, password)| format!("{name}={password}")).collect();
        let environment = vec![("KAFKA_USERS", users.join(" "))];
        Kafka::behind(Server::start("kafka.sh", "-TERM", settings, environment), 0)
    }

    /// Three of the test's own. Every topic is on all of them, and what is written is on two before it counts.
    pub fn cluster() -> Kafka {
        let settings: Vec<String> = CLUSTER.iter().map(|setting| (*setting).to_owned()).collect();
        let mut kafka = Kafka::behind(Server::start("kafka.sh", "-TERM", settings.clone(), Vec::new()), 0);
        for _ in 0..2 {
            let joins = vec![("KAFKA_JOIN", kafka.server.dir().display().to_string())];
            let other = Server::start("kafka.sh", "-TERM", settings.clone(), joins);
            kafka.bootstrap += &format!(",127.0.0.1:{}", other.port());
            kafka.others.push(other);
        }
        kafka
    }

    /// One of the test's own, with a proxy on the way to it for all but this kit.
    pub fn proxied() -> (Kafka, Proxy) {
        let server = Server::start("kafka.sh", "-TERM", Vec::new(), vec![("KAFKA_PROXIED", "1".to_owned())]);
        let (port, kafka) = (server.port(), Kafka::behind(server, PROXY));
        (kafka, Proxy::start(Protocol::Kafka, port + PROXY, port))
    }

    fn behind(server: Server, proxy: u16) -> Kafka {
        let bootstrap = format!("127.0.0.1:{}", server.port() + proxy);
        Kafka { server, others: Vec::new(), bootstrap, topics: AtomicU32::new(0), producer: OnceLock::new() }
    }

    /// Where clients find it.
    pub fn bootstrap(&self) -> &str {
        &self.bootstrap
    }

    /// A client's settings, of which a test may add its own. It is plaintext also where `CLIENT` is not.
    pub fn client(&self) -> ClientConfig {
        let mut config = ClientConfig::new();
        let servers = std::iter::once(&self.server).chain(&self.others);
        let servers: Vec<_> = servers.map(|server| format!("127.0.0.1:{}", server.port() + 2)).collect();
        config.set("bootstrap.servers", servers.join(","));
        // What a broker that is away writes into the output of tests tells nothing.
        config.set_log_level(rdkafka::config::RDKafkaLogLevel::Emerg);
        config
    }

    /// Adds rights, or removes them: what `kafka-acls.sh` takes.
    pub fn acls(&self, arguments: &[&str]) {
        let open = format!("127.0.0.1:{}", self.server.port() + 2);
        self.server.tool(&[&["acls", "--bootstrap-server", &open, "--force"], arguments].concat());
    }

    /// A name for a topic, or for a group or prefix, that no other test of this broker has.
    pub fn unique(&self, name: &str) -> String {
        format!("{name}-{}", self.topics.fetch_add(1, Ordering::Relaxed))
    }

    /// Creates a topic, and waits until it can be used.
    pub fn create_topic(&self, name: &str, partitions: i32, config: &[(&str, &str)]) {
        let admin: AdminClient<DefaultClientContext> = self.client().create().unwrap();
        let mut topic = NewTopic::new(name, partitions, TopicReplication::Fixed(DEFAULT));
        topic = config.iter().fold(topic, |topic, (key, value)| topic.set(key, value));
        // On a thread of its own, since the caller may be asynchronous.
        let create = || {
            let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
            runtime.block_on(admin.create_topics([&topic], &AdminOptions::new().request_timeout(Some(WITHIN))))
        };
        let created = thread::scope(|scope| scope.spawn(create).join().unwrap()).unwrap();
        assert_eq!(created, [Ok(name.to_owned())], "topic {name} could not be created");
        eventually(WITHIN, &format!("topic {name} has leaders"), || {
            let metadata = admin.inner().fetch_metadata(Some(name), WITHIN).unwrap();
            let found = metadata.topics()[0].partitions();
            found.len() == partitions as usize && found.iter().all(|partition| partition.error().is_none())
        });
    }

    /// Deletes a topic; it is gone when this returns.
    pub fn delete_topic(&self, topic: &str) {
        let admin: AdminClient<DefaultClientContext> = self.client().create().unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let deleted = runtime.block_on(admin.delete_topics(&[topic], &AdminOptions::new())).unwrap();
        assert_eq!(deleted, [Ok(topic.to_owned())]);
        eventually(WITHIN, &format!("topic {topic} is gone"), || {
            let metadata = admin.inner().fetch_metadata(None, WITHIN).unwrap();
            metadata.topics().iter().all(|found| found.name() != topic)
        });
    }

    /// Adds partitions to a topic, so that it has so many.
    pub fn add_partitions(&self, topic: &str, partitions: usize) {
        let admin: AdminClient<DefaultClientContext> = self.client().create().unwrap();
        let new = [NewPartitions::new(topic, partitions)];
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let added = runtime.block_on(admin.create_partitions(&new, &AdminOptions::new())).unwrap();
        assert_eq!(added, [Ok(topic.to_owned())]);
    }

    /// Lets every partition lose what stands before `offset`, as retention does.
    pub fn delete_before(&self, topic: &str, offset: i64) {
        let admin: AdminClient<DefaultClientContext> = self.client().create().unwrap();
        let mut offsets = TopicPartitionList::new();
        for partition in self.ends(topic, "read_uncommitted").keys() {
            offsets.add_partition_offset(topic, *partition, Offset::Offset(offset)).unwrap();
        }
        let delete = || {
            let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
            runtime.block_on(admin.delete_records(&offsets, &AdminOptions::new().request_timeout(Some(WITHIN))))
        };
        thread::scope(|scope| scope.spawn(delete).join().unwrap()).unwrap();
    }

    /// Writes a record, and waits until the broker has it: its partition and offset. Without a partition the key decides, as
    /// in the Java client. Without a value it is a tombstone.
    pub fn produce(&self, topic: &str, partition: Option<i32>, key: Option<&[u8]>, value: Option<&[u8]>) -> (i32, i64) {
        self.produce_all(topic, [(partition, key, value)])[0]
    }

    /// The same for many, in their order.
    pub fn produce_all<'a>(
        &self,
        topic: &str,
        records: impl IntoIterator<Item = (Option<i32>, Option<&'a [u8]>, Option<&'a [u8]>)>,
    ) -> Vec<(i32, i64)> {
        let producer = self.producer.get_or_init(|| self.producer());
        let (sender, receipts) = mpsc::channel();
        let mut count = 0;
        for (partition, key, value) in records {
            let mut record: BaseRecord<'_, [u8], [u8], Receipt> =
                BaseRecord::with_opaque_to(topic, Box::new((count, sender.clone())));
            (record.partition, record.key, record.payload) = (partition, key, value);
            count += 1;
            while let Err((error, back)) = producer.send(record) {
                assert_eq!(error.rdkafka_error_code(), Some(RDKafkaErrorCode::QueueFull), "{topic}: {error}");
                producer.poll(POLL);
                record = back;
            }
        }
        let mut places = Vec::new();
        eventually(WITHIN, &format!("{topic}: all is delivered"), || {
            // It takes all of the time that it is given, and so does `flush`.
            producer.poll(Duration::ZERO);
            places.extend(receipts.try_iter());
            places.len() == count
        });
        places.sort_by_key(|(number, _)| *number);
        places.into_iter().map(|(_, place)| place.unwrap_or_else(|error| panic!("{topic}: {error}"))).collect()
    }

    /// Writes a record in a transaction that nobody ends, as who dies in it does. The broker aborts it after `timeout`.
    pub fn leave_open(&self, topic: &str, value: &[u8], timeout: Duration) {
        let mut config = self.client();
        config
            .set("transactional.id", self.unique("open"))
            .set("transaction.timeout.ms", timeout.as_millis().to_string());
        let producer: BaseProducer = config.create().unwrap();
        producer.init_transactions(WITHIN).unwrap();
        producer.begin_transaction().unwrap();
        producer.send(BaseRecord::<(), _>::to(topic).payload(value)).unwrap();
        producer.flush(timeout).unwrap();
    }

    fn producer(&self) -> BaseProducer<Receipts> {
        // Two tests that use it at once do not mix the records of a partition: each call is in order.
        let mut config = self.client();
        config.set("enable.idempotence", "true").set("partitioner", "murmur2_random").set("linger.ms", "0");
        config.create_with_context(Receipts).unwrap()
    }

    /// What stands in a topic by now, committed, by partition and offset.
    ///
    /// # Panics
    ///
    /// Also where a transaction stays open, behind which nothing can be read.
    pub fn read_committed(&self, topic: &str) -> Vec<Record> {
        let ends = self.ends(topic, "read_uncommitted");
        eventually(WITHIN, &format!("no transaction is open in {topic}"), || {
            let stable = self.ends(topic, "read_committed");
            ends.iter().all(|(partition, end)| stable[partition] >= *end)
        });
        let mut records = self.read_until(topic, &ends);
        records.sort_unstable();
        records
    }

    /// Reads each partition until the broker says that there is nothing more: markers and aborted records have offsets and
    /// are never delivered, so a count of offsets would wait for what does not come.
    fn read_until(&self, topic: &str, ends: &BTreeMap<i32, i64>) -> Vec<Record> {
        let consumer = self.consumer("read_committed");
        let mut assignment = TopicPartitionList::new();
        for partition in ends.keys() {
            assignment.add_partition_offset(topic, *partition, Offset::Beginning).unwrap();
        }
        consumer.assign(&assignment).unwrap();
        let start = Instant::now();
        let mut records = Vec::new();
        let mut open = ends.clone();
        while !open.is_empty() {
            match consumer.poll(POLL) {
                Some(Ok(message)) if message.offset() < ends[&message.partition()] => records.push(record(&message)),
                Some(Err(KafkaError::PartitionEOF(partition))) => {
                    open.remove(&partition);
                }
                // Beyond the end, or of a broker that is away for a moment.
                _ => {}
            }
            assert!(start.elapsed() < WITHIN, "{topic} could not be read within {WITHIN:?}: {open:?} are left");
        }
        records
    }

    /// The partitions' ends: the true ones, or the last stable offsets. One that was made just now may have no leader yet.
    fn ends(&self, topic: &str, isolation: &str) -> BTreeMap<i32, i64> {
        let consumer = self.consumer(isolation);
        let ask = || {
            let metadata = consumer.fetch_metadata(Some(topic), WITHIN)?;
            let ids = metadata.topics()[0].partitions().iter().map(rdkafka::metadata::MetadataPartition::id);
            ids.map(|id| Ok((id, consumer.fetch_watermarks(topic, id, WITHIN)?.1))).collect::<Result<_, KafkaError>>()
        };
        let mut ends = BTreeMap::new();
        eventually(WITHIN, &format!("{topic} tells where it ends"), || {
            ask().is_ok_and(|found| {
                ends = found;
                true
            })
        });
        ends
    }

    /// Whether a group has committed all that stands in a topic.
    pub fn is_read(&self, topic: &str, group: &str) -> bool {
        let mut config = self.client();
        let consumer: BaseConsumer =
            config.set("group.id", group).set("isolation.level", "read_committed").create().unwrap();
        self.ends(topic, "read_committed").into_iter().all(|(partition, end)| {
            let mut list = TopicPartitionList::new();
            list.add_partition(topic, partition);
            let committed = consumer.committed_offsets(list, WITHIN);
            committed.is_ok_and(|list| end == 0 || list.elements()[0].offset() == Offset::Offset(end))
        })
    }

    fn consumer(&self, isolation: &str) -> BaseConsumer {
        let mut config = self.client();
        // It never joins: partitions are assigned by hand.
        config.set("group.id", "harness").set("enable.auto.commit", "false").set("isolation.level", isolation);
        config.set("enable.partition.eof", "true").set("fetch.wait.max.ms", "10").create().unwrap()
    }

    /// Kills it with SIGKILL; it is gone when this returns.
    pub fn kill(&self) {
        self.server.kill();
    }

    /// Stops it in order; it is gone when this returns.
    pub fn stop(&self) {
        self.server.stop();
    }

    /// Starts it again on the same ports and data.
    pub fn restart(&self) {
        self.server.restart();
    }

    /// Kills one of the further brokers of a cluster.
    pub fn kill_other(&self, number: usize) {
        self.others[number].kill();
    }

    /// Starts it again.
    pub fn restart_other(&self, number: usize) {
        self.others[number].restart();
    }

    /// Lets it do nothing, as a machine does that hangs: connections stay.
    pub fn pause(&self) {
        self.server.pause();
    }

    /// Lets it go on after [`Kafka::pause`].
    pub fn resume(&self) {
        self.server.resume();
    }
}

fn record(message: &BorrowedMessage<'_>) -> Record {
    let headers = message.headers().into_iter().flat_map(Headers::iter);
    Record {
        partition: message.partition(),
        offset: message.offset(),
        key: message.key().map(<[u8]>::to_vec),
        value: message.payload().map(<[u8]>::to_vec),
        headers: headers.map(|header| (header.key.to_owned(), header.value.map(<[u8]>::to_vec))).collect(),
        timestamp: message.timestamp().to_millis(),
    }
}

/// Where a record of that number went.
type Receipt = Box<(usize, Sender<(usize, Result<(i32, i64), KafkaError>)>)>;

/// Hands on what became of each record.
struct Receipts;

impl ClientContext for Receipts {}

impl ProducerContext for Receipts {
    type DeliveryOpaque = Receipt;

    fn delivery(&self, result: &DeliveryResult<'_>, receipt: Receipt) {
        let (number, sender) = *receipt;
        let place = match result {
            Ok(message) => Ok((message.partition(), message.offset())),
            Err((error, _)) => Err(error.clone()),
        };
        // Nobody listens where the test has failed already.
        let _ = sender.send((number, place));
    }
}
