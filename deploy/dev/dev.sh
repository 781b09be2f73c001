#!/usr/bin/env bash
# All of touchline on this machine, until Ctrl-C: Kafka, PostgreSQL, Prometheus, touchline itself, and events.
#
#   dev.sh TOUCHLINE [CONFIG]     TOUCHLINE is the binary; CONFIG is touchline.toml beside this
#
# Events: a company with 5,000 contacts, of whose last year all is there at once, and five events a second from then on.
# All that runs writes to /tmp/touchline-dev, where the next start begins anew. When one of them ends, all do; when this
# script is killed, too.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
. "$here/lib.sh"

# deploy/dev/touchline.toml and prometheus.yml name them, too.
readonly DIR=/tmp/touchline-dev SOURCE=dev.events
readonly KAFKA=19092 POSTGRES=15432 PROMETHEUS=19090 TOUCHLINE=9464
readonly DATABASE=postgres://postgres@127.0.0.1:$POSTGRES/touchline
# touchline drains within ten seconds.
readonly END_SECONDS=30

# Names of what runs, in the order of starting, and their processes.
names=() pids=()

# Starts a command as NAME, in a process group of its own: a Ctrl-C is not meant for it.
spawn_as() {
    names+=("$1")
    set -m
    "${@:2}" <"$DIR/lifeline" >"$DIR/$1.out" 2>"$DIR/$1.log" 9>&- &
    set +m
    pids+=($!)
}

# Waits until a server answers on a port.
await() {
    local name=$1 port=$2 deadline=$((SECONDS + START_SECONDS))
    until answers "$port"; do
        [ -z "$is_told_to_end" ] || exit 130
        report
        ((SECONDS < deadline)) || fail "$name does not answer on 127.0.0.1:$port; see $DIR/$name.log"
        sleep 0.1
    done
}

# Fails if anything has ended that should not have; events may come to their end.
report() {
    local at status
    for at in "${!pids[@]}"; do
        if is_running "${pids[at]}"; then
            continue
        fi
        status=0
        wait "${pids[at]}" || status=$?
        if [ "${names[at]}" = events ] && [ "$status" = 0 ]; then
            say "all events have been sent; it runs on without new ones"
            unset "names[at]" "pids[at]"
            continue
        fi
        tail -n 20 "$DIR/${names[at]}.log" >&2
        fail "${names[at]} has ended ($status); all that it said is in $DIR/${names[at]}.log"
    done
}

# Ends what runs, the last that was started first: each has what it needs until it is gone itself.
end_all() {
    trap '' INT TERM HUP
    local left at
    left=("${!pids[@]}")
    for ((at = ${#left[@]} - 1; at >= 0; at--)); do
        end "${names[left[at]]}" "${pids[left[at]]}"
    done
    rm -f "$DIR/lifeline"
}

end() {
    local name=$1 pid=$2 deadline=$((SECONDS + END_SECONDS))
    kill "$pid" 2>/dev/null || return 0
    say "stopping $name"
    while is_running "$pid"; do
        if ((SECONDS >= deadline)); then
            say "$name does not end; killing it"
            kill -KILL "$pid" 2>/dev/null || true
        fi
        sleep 0.05
    done
}

begin_anew() {
    local port
    for port in "$KAFKA" "$POSTGRES" "$PROMETHEUS" "$TOUCHLINE"; do
        ! answers "$port" || fail "something listens on 127.0.0.1:$port already: is another one running?"
    done
    if [ -e "$DIR" ]; then
        [ -O "$DIR" ] || fail "$DIR is another user's"
        rm -rf "$DIR"
    fi
    mkdir "$DIR"
    # PostgreSQL may run as another user, who has to get there.
    chmod a+x "$DIR"
    # The servers run as long as this script holds its one end.
    mkfifo "$DIR/lifeline"
    exec 9<>"$DIR/lifeline"
}

start_servers() {
    spawn_as kafka "$here/kafka.sh" run "$DIR/kafka" "$KAFKA"
    spawn_as postgres "$here/postgres.sh" run "$DIR/postgres" "$POSTGRES"
    spawn_as prometheus "$here/prometheus.sh" run "$DIR/prometheus" "$PROMETHEUS"
    await kafka "$KAFKA"
    await postgres "$POSTGRES"
    await prometheus "$PROMETHEUS"
    "$here/kafka.sh" tool topics --bootstrap-server "127.0.0.1:$KAFKA" --create --topic "$SOURCE" --partitions 4 >/dev/null
    "$here/postgres.sh" tool createdb --host=127.0.0.1 --port="$POSTGRES" --username=postgres touchline
}

start_touchline() {
    local touchline=$1 config=$2
    say "starting touchline"
    # They know nothing of the lifeline.
    local run=(${leash[@]+"${leash[@]}"} "$touchline")
    TOUCHLINE_LOG=${TOUCHLINE_LOG:-info} spawn_as touchline "${run[@]}" run --config "$config"
    spawn_as events "${run[@]}" generate --contacts 5000 --events 200000 --live --rate 5 --kafka "$SOURCE" \
        --bootstrap "127.0.0.1:$KAFKA"
    await touchline "$TOUCHLINE"
}

say_where() {
    local bold='' plain=''
    if [ -t 1 ] && [ -z "${NO_COLOR:-}" ]; then
        bold=$'\e[1m' plain=$'\e[0m'
    fi
    cat <<EOF

${bold}touchline runs; Ctrl-C ends it all.$plain

${bold}who is silent$plain    psql $DATABASE -c 'select * from touchline.open_lapses limit 10'
${bold}alerts$plain           deploy/dev/kafka.sh tool consume --bootstrap-server 127.0.0.1:$KAFKA --topic touchline.alerts
${bold}lags$plain             deploy/dev/kafka.sh tool groups --bootstrap-server 127.0.0.1:$KAFKA --describe --all-groups
${bold}graphs, rules$plain    http://127.0.0.1:$PROMETHEUS/graph?g0.expr=touchline_clock_lag_seconds&g0.tab=0  http://127.0.0.1:$PROMETHEUS/alerts
${bold}metrics$plain          http://127.0.0.1:$TOUCHLINE/metrics
${bold}what they say$plain    tail -f $DIR/*.log

EOF
}

[ $# -ge 1 ] || usage
touchline=$(cd "$(dirname "$1")" && pwd)/${1##*/}
[ -x "$touchline" ] || fail "there is no $touchline: build it first"
trap 'is_told_to_end=1' INT TERM HUP
begin_anew
trap end_all EXIT
say "starting Kafka, PostgreSQL and Prometheus"
start_servers
start_touchline "$touchline" "${2:-$here/touchline.toml}"
say_where
while [ -z "$is_told_to_end" ]; do
    wait -n || true
    [ -n "$is_told_to_end" ] || report
done
