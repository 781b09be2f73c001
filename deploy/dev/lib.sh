# What kafka.sh, postgres.sh and prometheus.sh share: how a server is started, waited for, and never left behind.
#
# A server has a directory. In it: `port`, the first of its ports, which it keeps from start to start; `pid`; and
# `server.log`, all that it says. It listens on 127.0.0.1 alone.
#
# The script that sources this sets READY, a command that succeeds once the server answers; STOP, the signal that stops it;
# and PASSING, what the log of a server that has ended says where another attempt is worth it.
# shellcheck shell=bash

# A JVM on a machine that compiles something else meanwhile takes a quarter of this.
readonly START_SECONDS=120
# Kafka and PostgreSQL need about one to close their files; more, and it hangs.
readonly STOP_SECONDS=20
# Below those that systems give to clients (32768 and up), so that a server which restarts finds its own free.
readonly FIRST_PORT=10000
# How many ports lie together for one server, and how many such blocks there are.
readonly BLOCK=4 BLOCKS=5000

cache=${XDG_CACHE_HOME:-$HOME/.cache}/touchline
server= is_told_to_end=
# In front of a command: it is killed if the shell that starts it is, where the system can do that.
leash=()

say() { printf '%s: %s\n' "${0##*/}" "$*" >&2; }
fail() {
    say "$@"
    exit 1
}
has() { command -v "$1" >/dev/null 2>&1; }
if has setpriv; then
    leash=(setpriv --pdeathsig KILL)
fi
is_running() { kill -0 "$1" 2>/dev/null; }
answers() { (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null; }

# Says what the script does: the comment at its head.
usage() {
    sed -n '2,/^[^#]/s/^# \{0,1\}//p' "$0" >&2
    exit 64
}

# Whether the process is the server of `dir`: by now the number can be another one's.
serves() {
    case $({ tr '\0' ' ' <"/proc/${1:-0}/cmdline" || ps -o args= -p "${1:-0}"; } 2>/dev/null) in
    *"$dir/"*) ;;
    *) return 1 ;;
    esac
}

# Makes DIR, and sets `dir` to it and `port`: the one given, else the one that it had, else the first of a free block. A
# lock, which the server inherits, keeps the block from a server that is started at the same time.
prepare() {
    mkdir -p "$1"
    dir=$(cd "$1" && pwd)
    ! serves "$(cat "$dir/pid" 2>/dev/null)" || fail "the server of $dir is running already"
    port=${2:-0}
    if [ "$port" = 0 ] && [ -e "$dir/port" ]; then
        port=$(cat "$dir/port")
    fi
    mkdir -p "$cache/ports"
    while [ "$port" = 0 ]; do
        port=$((FIRST_PORT + RANDOM % BLOCKS * BLOCK))
        is_free || port=0
    done
    echo "$port" >"$dir/port"
}

is_free() {
    local each
    if has flock; then
        exec 8>"$cache/ports/$port"
        flock -n 8 || return
    fi
    for ((each = port; each < port + BLOCK; each++)); do
        ! answers "$each" || return
    done
}

# Starts the server of `dir`, and waits until it is READY.
launch() {
    local deadline=$((SECONDS + START_SECONDS))
    spawn "$@"
    until "$READY" >/dev/null 2>&1; do
        [ -z "$is_told_to_end" ] || exit 1
        ((SECONDS < deadline)) || unstarted "no answer on 127.0.0.1:$port within $START_SECONDS s"
        sleep 0.1
        is_running "$server" && continue
        tail -n 5 "$dir/server.log" | grep -qE "$PASSING" || unstarted "it has ended"
        spawn "$@"
    done
}

spawn() {
    "$@" >>"$dir/server.log" 2>&1 </dev/null &
    server=$!
    echo "$server" >"$dir/pid"
}

unstarted() {
    tail -n 30 "$dir/server.log" >&2
    fail "not started: $1; all that it said is in $dir/server.log"
}

# Starts it, says where it is, and leaves it running.
start() {
    trap end_server EXIT
    # In a process group of its own: a Ctrl-C is not meant for it.
    set -m
    launch "$@"
    set +m
    trap - EXIT
    echo "127.0.0.1:$port"
}

# Starts it, says where it is, and stops it once standard input has ended or a signal comes: so whoever holds the other
# end of the pipe leaves no server behind, however it dies. Fails if the server ends by itself.
run() {
    trap 'is_told_to_end=1' INT TERM HUP
    # Whoever was to read where it is may be gone, as standard input then tells.
    trap '' PIPE
    trap leave EXIT
    exec 3<&0
    launch ${leash[@]+"${leash[@]}"} "$@"
    echo "127.0.0.1:$port" 2>/dev/null || true
    cat <&3 >/dev/null 8>&- &
    local input=$!
    [ -n "$is_told_to_end" ] || wait -n || true
    if [ -z "$is_told_to_end" ] && is_running "$input"; then
        kill "$input"
        fail "the server has ended; all that it said is in $dir/server.log"
    fi
    kill "$input" 2>/dev/null || true
    is_told_to_end=1
}

leave() {
    end_server
    [ -z "$is_told_to_end" ] || [ -z "${remove:-}" ] || rm -rf "$dir"
}

# Stops the server that was started with `start`.
stop() {
    dir=$(cd "$1" 2>/dev/null && pwd) || fail "there is no directory $1"
    server=$(cat "$dir/pid" 2>/dev/null) || fail "no server has been started in $dir"
    ! serves "$server" || end_server
}

end_server() {
    local deadline=$((SECONDS + STOP_SECONDS))
    [ -n "$server" ] || return 0
    # One that is paused sees the signal once it goes on.
    kill "-$STOP" "$server" 2>/dev/null && kill -CONT "$server" 2>/dev/null || return 0
    while is_running "$server"; do
        if ((SECONDS >= deadline)); then
            kill -KILL "$server" 2>/dev/null || true
        fi
        sleep 0.05
    done
}
