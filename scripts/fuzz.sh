#!/usr/bin/env bash
# Fuzzes what reads bytes (tests/fuzz), each target for SECONDS_EACH (60), beginning with real records and with what earlier
# runs found worth keeping. Fails at the first input that makes one panic, and says where it is.
#
#   fuzz.sh [--keep] [TARGET...]     --keep: what was found, reduced to what reaches something new, goes into tests/fuzz/corpus
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

readonly SECONDS_EACH=${SECONDS_EACH:-60}
# What reads a few KiB and takes so much memory, or so long, is broken. Longer inputs find nothing that shorter ones do not.
readonly LIMITS=(-rss_limit_mb=1024 -timeout=5 -max_len=4096)
# Real records, of a history, to begin with.
readonly RECORDS=200
target=${CARGO_TARGET_DIR:-$PWD/target}/fuzz
corpus=$PWD/tests/fuzz/corpus

keep=
if [ "${1:-}" = --keep ]; then
    keep=1
    shift
fi
[ $# -gt 0 ] || set -- event record rows state position alert

# What libFuzzer is told of: which edges were taken, and what was compared with what.
host=$(rustc -vV | sed -n 's/^host: //p')
RUSTFLAGS="-Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
-Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
-Cllvm-args=-sanitizer-coverage-trace-compares" \
    cargo build --release --locked --manifest-path tests/fuzz/Cargo.toml --target-dir "$target" --target "$host"
fuzz=$target/$host/release/touchline-fuzz

for name in "$@"; do
    work=$target/work/$name
    rm -rf "$work"
    mkdir -p "$work/seeds" "$work/found" "$work/failed"
    [ ! -e "$corpus/$name.tar.gz" ] || tar --extract --gzip --file "$corpus/$name.tar.gz" --directory "$work/seeds"
    gzip -dc tests/data/kafka-community.jsonl.gz | awk -v n=$RECORDS 'NR <= n' |
        TOUCHLINE_FUZZ=$name TOUCHLINE_FUZZ_SEEDS=$work/seeds "$fuzz"
    printf '%s: ' "$name"
    if ! TOUCHLINE_FUZZ=$name "$fuzz" "${LIMITS[@]}" -dict="$work/seeds.dict" -max_total_time="$SECONDS_EACH" -print_final_stats=1 \
        -artifact_prefix="$work/failed/" "$work/found" "$work/seeds" >"$work/log" 2>&1; then
        tail -n 40 "$work/log"
        printf 'again: TOUCHLINE_FUZZ=%s %s %s\n' "$name" "$fuzz" "$(ls "$work/failed"/*)"
        exit 1
    fi
    sed -n 's/^stat::number_of_executed_units: *//p' "$work/log" | tr '\n' ' '
    printf 'runs, %s inputs that reach something new\n' "$(find "$work/found" -type f | wc -l)"
    if [ -n "$keep" ]; then
        mkdir -p "$work/kept" "$corpus"
        TOUCHLINE_FUZZ=$name "$fuzz" "${LIMITS[@]}" -merge=1 "$work/kept" "$work/seeds" "$work/found" >>"$work/log" 2>&1
        tar --create --gzip --sort=name --mtime=@0 --owner=0 --group=0 --file "$corpus/$name.tar.gz" --directory "$work/kept" .
    fi
done
