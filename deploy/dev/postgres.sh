#!/usr/bin/env bash
# PostgreSQL on 127.0.0.1, for development and tests: anybody on this machine is its superuser `postgres`.
#
#   postgres.sh start DIR [PORT] [KEY=VALUE ...]   starts it, waits until it answers, and prints HOST:PORT
#   postgres.sh stop DIR                           stops it
#   postgres.sh run [--remove] DIR [PORT] [KEY=VALUE ...]
#                                                  the same in the foreground: until standard input ends, then stops it
#                                                  (and removes DIR); fails if the server ends by itself
#   postgres.sh tool NAME ARGS...                  one of its own tools, such as psql
#
# Without PORT (or with 0) it takes a free one, the same each time in the same DIR. KEY=VALUE are settings of the server.
#
# It needs Debian's package postgresql, or initdb and postgres on the PATH. PostgreSQL refuses root: as root it runs as the
# user postgres, or nobody, who must be able to reach DIR.
set -euo pipefail
. "$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)/lib.sh"

# TERM would wait for its clients to leave.
readonly STOP=INT
# What a server that was killed leaves for some moments: itself until somebody has asked how it ended, and processes that
# have not noticed yet.
readonly PASSING='lock file "postmaster.pid" already exists\|pre-existing shared memory block'

# The newest that is installed; it is not on the PATH where several can be.
tools() {
    local newest
    newest=$(compgen -G '/usr/lib/postgresql/*/bin/initdb' | sort -V | tail -n 1) || true
    newest=${newest:-$(command -v initdb)} ||
        fail "PostgreSQL is missing: run  scripts/setup.sh test  or install it (Debian: postgresql)"
    dirname "$newest"
}

# Drops root's rights, which PostgreSQL will not have.
unprivileged=()
drop_root() {
    local user=postgres
    [ "$(id -u)" -eq 0 ] || return 0
    id -u "$user" >/dev/null 2>&1 || user=nobody
    unprivileged=(setpriv --reuid "$user" --regid "$(id -g "$user")" --clear-groups)
    chmod a+x "$dir"
    mkdir -p "$dir/data"
    chown "$user" "$dir/data"
    (cd / && "${unprivileged[@]}" test -w "$dir/data") ||
        fail "root cannot run PostgreSQL, so $user does, and cannot get to $dir: choose a directory that everybody can enter"
}

# Makes the directory's cluster if it is new, and has `start` or `run` start the server.
database() {
    local how=$1 at=$2 wanted=0 setting
    shift 2
    case ${1:-} in
    '' | *[!0-9]*) ;;
    *) wanted=$1 && shift ;;
    esac
    bin=$(tools)
    prepare "$at" "$wanted"
    drop_root
    cd "$dir"
    if [ ! -e "$dir/data/PG_VERSION" ]; then
        ${unprivileged[@]+"${unprivileged[@]}"} "$bin/initdb" --pgdata="$dir/data" --username=postgres --auth=trust \
            --encoding=UTF8 --no-locale --no-sync >"$dir/initdb.log" 2>&1 ||
            fail "the directory could not be made a cluster: $(cat "$dir/initdb.log")"
    fi
    # Sockets in a directory have names of at most 107 bytes, so there are none.
    local settings=(-c "port=$port" -c listen_addresses=127.0.0.1 -c unix_socket_directories=)
    for setting; do settings+=(-c "$setting"); done
    "$how" ${unprivileged[@]+"${unprivileged[@]}"} "$bin/postgres" -D "$dir/data" "${settings[@]}"
}

is_ready() { "$bin/pg_isready" --quiet --host=127.0.0.1 --port="$port" --username=postgres; }
readonly READY=is_ready

tool() {
    local name=$1
    shift
    exec "$(tools)/$name" "$@"
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
start | run) database "$command" "$@" ;;
stop | tool) "$command" "$@" ;;
*) usage ;;
esac
