#!/usr/bin/env bash
# Builds a commit, and lets its stages be replaced by those of this tree, one after the other, under load; and back again.
#
#   upgrade.sh COMMIT
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

[ $# = 1 ] || { echo 'which version is the one before? make upgrade BEFORE=COMMIT' >&2 && exit 64; }
built=${CARGO_TARGET_DIR:-$PWD/target}
[ "${built:0:1}" = / ] || built=$PWD/$built
# A copy of what is built already, since RocksDB takes long; it must not be taken for this tree's.
work=$built/upgrade
if [ ! -d "$work/target" ]; then
    mkdir -p "$work/target"
    [ ! -d "$built/release" ] || cp -a "$built/release" "$work/target/"
fi
rm -rf "$work/tree"
mkdir -p "$work/tree"
git archive "$1" | tar --extract --touch --directory "$work/tree"
(cd "$work/tree" && CARGO_TARGET_DIR=$work/target cargo build --release --workspace --locked)
TOUCHLINE_BEFORE=$work/target/release/touchline \
    cargo test --release --workspace --locked --test it -- operations:: --nocapture
