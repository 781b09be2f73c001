#!/usr/bin/env bash
# Apache Kafka on 127.0.0.1, one node, for development and tests.
#
#   kafka.sh start DIR [PORT] [KEY=VALUE ...]   starts it, waits until it answers, and prints HOST:PORT
#   kafka.sh stop DIR                           stops it
#   kafka.sh run [--remove] DIR [PORT] [KEY=VALUE ...]
#                                               the same in the foreground: until standard input ends, then stops it
#                                               (and removes DIR); fails if the broker ends by itself
#   kafka.sh tool topics|groups|configs|acls|consume|produce|CLASS ARGS...
#                                               one of Kafka's own tools
#
# Without PORT (or with 0) it takes free ones, the same each time in the same DIR. PORT+1 is the controller's; PORT+2 is
# plaintext whatever KEY=VALUE, which are broker settings, make of the listener CLIENT on PORT.
#
# With KAFKA_PROXIED=1 the listener CLIENT tells its clients to come to PORT+3, where a proxy must stand. With KAFKA_JOIN=DIR
# it becomes one more broker of the cluster whose first node is in DIR, and runs. KAFKA_USERS, words `NAME=PASSWORD`, are
# those that SCRAM-SHA-512 knows from the start.
#
# It needs Java 17 or newer, and Maven, which fetches Kafka (55 MB) into the user's cache, once. KAFKA_JVM are the JVM's
# options.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
. "$here/lib.sh"

readonly NEEDS="run  scripts/setup.sh test  or install them (Debian: openjdk-17-jre-headless, maven)"
readonly STOP=TERM PASSING='nothing passes'
jars=$cache/kafka/$(cksum <"$here/kafka.pom.xml" | tr ' ' -)
java=${JAVA_HOME:+$JAVA_HOME/bin/}java

# Fetches the jars if they are not there; whoever comes meanwhile waits.
resolve() {
    local version
    version=$("$java" -version 2>&1 | sed -n 's/.* version "\([0-9]*\).*/\1/p') || true
    [ "${version:-0}" -ge 17 ] || fail "Kafka needs Java 17 or newer, and there is ${version:+only }${version:-none}: $NEEDS"
    [ ! -d "$jars" ] || return 0
    has mvn || fail "Maven fetches Kafka, and is missing: $NEEDS"
    mkdir -p "$cache/kafka"
    (
        ! has flock || flock 9
        [ ! -d "$jars" ] || exit 0
        say "fetching Kafka, once (55 MB)"
        rm -rf "$jars.new"
        said=$(mvn -q -B -f "$here/kafka.pom.xml" dependency:copy-dependencies -DoutputDirectory="$jars.new" 2>&1) ||
            fail "Maven could not fetch Kafka: $said"
        mv "$jars.new" "$jars"
    ) 9>"$cache/kafka/lock"
}

settings() {
    local id=1 roles=broker,controller first=$port controller=CONTROLLER://127.0.0.1:$((port + 1)),
    if [ -n "${KAFKA_JOIN:-}" ]; then
        id=$port roles=broker first=$(cat "$KAFKA_JOIN/port") controller=
    fi
    cat <<E
process.roles=$roles
node.id=$id
listeners=CLIENT://127.0.0.1:$port,${controller}INTERNAL://127.0.0.1:$((port + 2))
advertised.listeners=CLIENT://127.0.0.1:$((port + ${KAFKA_PROXIED:+3 +} 0)),INTERNAL://127.0.0.1:$((port + 2))
listener.security.protocol.map=CLIENT:PLAINTEXT,CONTROLLER:PLAINTEXT,INTERNAL:PLAINTEXT
controller.quorum.bootstrap.servers=127.0.0.1:$((first + 1))
controller.listener.names=CONTROLLER
inter.broker.listener.name=INTERNAL
log.dirs=$dir/data
auto.create.topics.enable=false
num.partitions=1
offsets.topic.replication.factor=1
offsets.topic.num.partitions=4
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
transaction.state.log.num.partitions=4
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
group.initial.rebalance.delay.ms=0
# Of the heap, from the start; 128 MB is the default.
log.cleaner.dedupe.buffer.size=16777216
E
    [ $# -eq 0 ] || printf '%s\n' "$@"
}

logging() {
    cat <<'E'
rootLogger.level=WARN
rootLogger.appenderRef.out.ref=out
appender.out.type=Console
appender.out.name=out
appender.out.layout.type=PatternLayout
appender.out.layout.pattern=%d %p %c: %m%n
E
}

# Formats the directory if it is new, and has `start` or `run` start the broker.
broker() {
    local how=$1 at=$2 wanted=0
    shift 2
    case ${1:-} in
    '' | *[!0-9]*) ;;
    *) wanted=$1 && shift ;;
    esac
    resolve
    prepare "$at" "$wanted"
    settings "$@" >"$dir/server.properties"
    logging >"$dir/log4j2.properties"
    if [ ! -e "$dir/data/meta.properties" ]; then
        local user users=()
        for user in ${KAFKA_USERS:-}; do
            users+=(--add-scram "SCRAM-SHA-512=[name=${user%%=*},password=${user#*=}]")
        done
        "$java" -XX:TieredStopAtLevel=1 -cp "$jars/*" kafka.tools.StorageTool format ${users[@]+"${users[@]}"} \
            "$([ -n "${KAFKA_JOIN:-}" ] && echo --no-initial-controllers || echo --standalone)" \
            --config "$dir/server.properties" --cluster-id "$(cluster)" >"$dir/format.log" 2>&1 ||
            fail "the directory could not be formatted: $(cat "$dir/format.log")"
    fi
    # shellcheck disable=SC2086 # They are several.
    "$how" "$java" ${KAFKA_JVM:--Xms128m -Xmx768m} -Dlog4j2.configurationFile="$dir/log4j2.properties" -cp "$jars/*" \
        kafka.Kafka "$dir/server.properties"
}

# 128 random bits, as Kafka writes them, which its own tool takes a second for; or those of the cluster that is joined.
cluster() {
    if [ -n "${KAFKA_JOIN:-}" ]; then
        sed -n 's/^cluster.id=//p' "$KAFKA_JOIN/data/meta.properties"
    else
        head -c 16 /dev/urandom | base64 | tr '+/' 'AB' | tr -d '='
    fi
}

is_ready() { answers "$port"; }
readonly READY=is_ready

tool() {
    local class=$1
    shift
    case $class in
    topics) class=org.apache.kafka.tools.TopicCommand ;;
    groups) class=org.apache.kafka.tools.consumer.group.ConsumerGroupCommand ;;
    configs) class=kafka.admin.ConfigCommand ;;
    acls) class=org.apache.kafka.tools.AclCommand ;;
    consume) class=org.apache.kafka.tools.consumer.ConsoleConsumer ;;
    produce) class=org.apache.kafka.tools.ConsoleProducer ;;
    esac
    resolve
    exec "$java" -XX:TieredStopAtLevel=1 -cp "$jars/*" "$class" "$@"
}

command=${1:-}
[ $# -gt 1 ] || usage
shift
if [ "$command:$1" = run:--remove ]; then
    remove=1
    shift
    [ $# -gt 0 ] || usage
fi
case $command in
start | run) broker "$command" "$@" ;;
stop | tool) "$command" "$@" ;;
*) usage ;;
esac
