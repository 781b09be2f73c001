#!/usr/bin/env bash
# Checks what touchline is made of, as deny.toml says: versions, licences and where crates come from, always; and known
# vulnerabilities, whenever their database can be had. Of the fuzzer, which has a lock file of its own and is no part of
# touchline, it checks where crates come from, and the vulnerabilities.
#
# The database (RustSec's) is a repository on GitHub, which not every machine reaches. Where it cannot be fetched, this
# says so in one line, and succeeds if all else is well. Where it can, a finding fails.
set -euo pipefail
cd "$(dirname "$0")/.."

# The one version that deny.toml is written for; .ci/run installs it.
readonly VERSION=0.20.2
# A database of 15 MB that has not come in this time does not come.
readonly FETCH_SECONDS=180

if [ "${1:-}" = --version ]; then
    echo "$VERSION"
    exit
fi
if ! cargo deny --version >/dev/null 2>&1; then
    echo "deny: cargo-deny is missing: run  cargo install --locked cargo-deny@$VERSION" >&2
    exit 1
fi

deny() { cargo deny --workspace --all-features --locked "$@"; }
deny_fuzz() { cargo deny --manifest-path tests/fuzz/Cargo.toml --config deny.toml --all-features --locked "$@"; }

# Nobody is there to type a name and a password.
fetch_database() {
    local limit=(env)
    if command -v timeout >/dev/null; then limit=(timeout "$FETCH_SECONDS"); fi
    GIT_TERMINAL_PROMPT=0 "${limit[@]}" cargo deny fetch db 2>&1
}

deny check --deny warnings bans licenses sources
deny_fuzz check --deny warnings sources

# The model is pure by its manifest, at any depth.
if impure=$(cargo tree --locked -p touchline-core -e normal --prefix none | grep -E '^(tokio|mio|socket2|rdkafka|rocksdb) '); then
    echo "deny: touchline-core must do no I/O, and depends on: ${impure//$'\n'/, }" >&2
    exit 1
fi

if why=$(fetch_database); then
    deny check --deny warnings advisories
    deny_fuzz check --deny warnings advisories
else
    why=$(printf '%s\n' "$why" | sed '/^[[:space:]]*$/d' | tail -n 1)
    echo "deny: advisories NOT CHECKED: the RustSec database could not be fetched (${why:-no answer in $FETCH_SECONDS s})" >&2
fi
