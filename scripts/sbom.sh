#!/usr/bin/env bash
# Writes what touchline is made of, as CycloneDX 1.5 in JSON, to standard output: each crate that is linked into it or builds
# it, with its licence, its checksum and what it depends on.
#
# It comes from the manifest and the lock file alone, so that the same commit gives the same bytes, whoever runs it. It needs jq.
set -euo pipefail
cd "$(dirname "$0")/.."

command -v jq >/dev/null || {
    echo "sbom: jq is missing (Debian: jq)" >&2
    exit 1
}
host=$(rustc -vV | sed -n 's/^host: //p')

# NAME VERSION CHECKSUM of each crate that comes from a registry.
checksums() {
    awk -F '"' '/^name = /{ name = $2 } /^version = /{ version = $2 } /^checksum = /{ print name, version, $2 }' Cargo.lock
}

cargo metadata --locked --format-version 1 --filter-platform "${TARGET:-$host}" | jq -S --arg checksums "$(checksums)" '
    def grown($edges): . as $known | ($known + [$known[] | $edges[.][]] | unique)
        | if length == ($known | length) then . else grown($edges) end;
    def purl: "pkg:cargo/\(.name)@\(.version | gsub("\\+"; "%2B"))";
    ($checksums | split("\n") | map(split(" ") | { key: "\(.[0])@\(.[1])", value: .[2] }) | from_entries) as $sums
    # Tests and benches are no part of it.
    | (.resolve.nodes | map({ key: .id, value: [.deps[] | select(any(.dep_kinds[]; .kind != "dev")).pkg] }) | from_entries) as $edges
    | (.packages | map({ key: .id, value: . }) | from_entries) as $packages
    | .resolve.root as $root
    | ([$root] | grown($edges)) as $all
    | def component: { type: "library", name, version, purl: purl, "bom-ref": purl }
        + (if .license then { licenses: [{ expression: (.license | gsub("/"; " OR ")) }] } else {} end)
        + ($sums["\(.name)@\(.version)"] as $sum | if $sum then { hashes: [{ alg: "SHA-256", content: $sum }] } else {} end);
    {
        bomFormat: "CycloneDX", specVersion: "1.5", version: 1,
        metadata: { component: ($packages[$root] | component + { type: "application" }) },
        components: [$all[] | select(. != $root) | $packages[.] | component] | sort_by(.purl),
        dependencies: [$all[] | { ref: ($packages[.] | purl), dependsOn: ([$edges[.][] | $packages[.] | purl] | unique) }] | sort_by(.ref)
    }'
