#!/usr/bin/env bash
# Puts bugs into a copy of the tree, one at a time, and runs the test that is to see them: for each tests/mutants/*.patch, which
# says above its diff what the bug is. Fails if one is not seen, does not compile, or does not apply any more, and if the
# test does not pass without them.
#
#   mutants.sh [NAME...]    all of them, or those that are named: tests/mutants/NAME.patch
#
# TEST is that test; LOOK is how long to look, in runs of the simulation.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

readonly TEST=${TEST:-kafka::simulation::whatever_happens} LOOK=${LOOK:-300}
built=${CARGO_TARGET_DIR:-$PWD/target}
[ "${built:0:1}" = / ] || built=$PWD/$built
patches=$PWD/tests/mutants
# Cargo tells what it has built by the time of a file, and not by the folder of the tree: what is built here must not be taken
# for what others build. A copy of what is there already, since RocksDB takes long.
work=$built/mutants
export CARGO_TARGET_DIR=$work/target CARGO_TERM_PROGRESS_WHEN=never
if [ ! -d "$work/target" ]; then
    mkdir -p "$work/target"
    [ ! -d "$built/release" ] || cp -a "$built/release" "$work/target/"
fi

rm -rf "$work/tree"
mkdir -p "$work/tree"
# Newer than what was built there, or a bug of before would still be in it.
git ls-files -z --cached --others --exclude-standard | tar --create --null --files-from=- |
    tar --extract --touch --directory "$work/tree"
cd "$work/tree"

looked() { TOUCHLINE_SEEDS=$LOOK cargo test --release --workspace --locked --lib --quiet -- "$TEST" 2>&1; }

# A test that always fails would see everything.
looked >/dev/null || { echo 'the test fails without any bug put in' >&2 && exit 1; }

[ $# -gt 0 ] || set -- $(basename -s .patch "$patches"/*.patch)
unseen=0
for name in "$@"; do
    patch --quiet --strip 1 <"$patches/$name.patch"
    # What does not compile is no bug that a test could see.
    cargo test --release --workspace --locked --lib --no-run --quiet
    if said=$(looked); then
        printf '%-36s NOT SEEN\n' "$name"
        unseen=$((unseen + 1))
    else
        # The first complaint, in one line.
        why=$(sed -n '/panicked at/ { n; p; q; }' <<<"$said" | cut -c1-100)
        printf '%-36s seen: %s\n' "$name" "$why"
    fi
    patch --quiet --strip 1 --reverse <"$patches/$name.patch"
done
[ "$unseen" = 0 ]
