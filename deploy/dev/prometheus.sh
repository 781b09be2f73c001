#!/usr/bin/env bash
# Prometheus on 127.0.0.1, for development; prometheus.yml beside this says what it watches.
#
#   prometheus.sh start DIR [PORT]   starts it, waits until it answers, and prints HOST:PORT
#   prometheus.sh stop DIR           stops it
#   prometheus.sh run DIR [PORT]     the same in the foreground: until standard input ends, then stops it; fails if the
#                                    server ends by itself
#
# Without PORT (or with 0) it takes a free one, the same each time in the same DIR. It needs Debian's package prometheus,
# or prometheus on the PATH.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
. "$here/lib.sh"

readonly STOP=TERM PASSING='nothing passes'

is_ready() { answers "$port"; }
readonly READY=is_ready

[ $# -gt 1 ] || usage
case $1 in
start | run)
    has prometheus || fail "Prometheus is missing: run  scripts/setup.sh dev  or install it (Debian: prometheus)"
    prepare "$2" "${3:-0}"
    "$1" prometheus --config.file="$here/prometheus.yml" --storage.tsdb.path="$dir/data" \
        --web.listen-address="127.0.0.1:$port" --log.level=warn
    ;;
stop) stop "$2" ;;
*) usage ;;
esac
