#!/usr/bin/env bash
# Sees to it that touchline can be built here: Rust, and what RocksDB and librdkafka are compiled with.
#
#   setup.sh         what building needs
#   setup.sh test    and the servers that tests run: Java and Maven for Kafka, PostgreSQL
#   setup.sh dev     and Prometheus, for `make dev` and `make rules`
#
# Where nothing is missing, nothing is asked for and nothing is changed. On Debian and its kin what is missing is
# installed, with sudo only if you are not root; elsewhere this says what to install, and fails.
set -euo pipefail
cd "$(dirname "$0")/.."

say() { printf 'setup: %s\n' "$*" >&2; }
fail() { say "$@"; exit 1; }
has() { command -v "$1" >/dev/null 2>&1; }

# Whether one of the given names, which may hold wildcards, is there.
any() { compgen -G "$1" >/dev/null || { [ $# -gt 1 ] && shift && any "$@"; }; }

# bindgen reads RocksDB's header with libclang, and needs the headers that a compiler brings (stddef.h) too: the library
# alone is not enough.
has_libclang() {
    local root
    if [ -n "${LIBCLANG_PATH:-}" ]; then
        any "$LIBCLANG_PATH" "$LIBCLANG_PATH/libclang*"
        return
    fi
    for root in /usr/lib/llvm* /usr /usr/local /opt/homebrew/opt/llvm /usr/local/opt/llvm \
        /Library/Developer/CommandLineTools/usr /Applications/Xcode.app/Contents/Developer/Toolchains/XcodeDefault.xctoolchain/usr; do
        if any "$root/lib*/libclang.so*" "$root/lib*/libclang-*.so*" "$root/lib*/libclang.dylib" "$root/lib/*/libclang*.so*" &&
            any "$root/lib*/clang/*/include/stddef.h"; then
            return 0
        fi
    done
    return 1
}

# The headers of OpenSSL, for librdkafka.
has_openssl() {
    [ -n "${OPENSSL_DIR:-}" ] || pkg-config --exists openssl 2>/dev/null || [ -d /opt/homebrew/opt/openssl@3 ] || [ -d /usr/local/opt/openssl@3 ]
}

# Java 17 or newer, which Kafka needs.
has_java() {
    local version
    version=$("${JAVA_HOME:+$JAVA_HOME/bin/}java" -version 2>&1 | sed -n 's/.* version "\([0-9]*\).*/\1/p') || true
    [ "${version:-0}" -ge 17 ]
}

# Where a newer Java is the default there is no 17, and where 17 is to be had an older one can be the default.
java_package() {
    if apt-cache show openjdk-17-jre-headless >/dev/null 2>&1; then
        echo openjdk-17-jre-headless
    else
        echo default-jre-headless
    fi
}

missing() {
    has g++ || has c++ || echo g++
    has make || echo make
    has pkg-config || has pkgconf || [ "$(uname -s)" = Darwin ] || echo pkg-config
    has_libclang || echo libclang-dev
    has_openssl || echo libssl-dev
    [ "$purpose" != build ] || return 0
    has_java || java_package
    has mvn || echo maven
    has initdb || any '/usr/lib/postgresql/*/bin/initdb' || echo postgresql
    [ "$purpose" != test ] || return 0
    has prometheus || echo prometheus
}

install_on_debian() {
    local as_root=()
    if [ "$(id -u)" -ne 0 ]; then
        has sudo || fail "as root, install them: apt-get install $*"
        # Where nobody can type a password, do not wait for one.
        if [ -t 0 ]; then
            as_root=(sudo)
        elif sudo -n true 2>/dev/null; then
            as_root=(sudo -n)
        else
            fail "sudo wants a password: install them with  sudo apt-get install $*"
        fi
    fi
    local apt=(${as_root[@]+"${as_root[@]}"} env DEBIAN_FRONTEND=noninteractive apt-get -qq -o DPkg::Lock::Timeout=300)
    "${apt[@]}" update || say "the package lists could not be updated; trying with those that are here"
    # Which package has Java is known only now.
    # shellcheck disable=SC2046 # Names have no spaces.
    set -- $(missing)
    "${apt[@]}" install -y --no-install-recommends "$@" >/dev/null || fail "apt-get could not install: $*"
    local still
    still=$(missing)
    [ -z "$still" ] || fail "installed, and still missing: ${still//$'\n'/ }"
    say "installed: $*"
}

check_tools() {
    local names
    names=$(missing)
    [ -n "$names" ] || return 0
    # shellcheck disable=SC2086 # Names have no spaces.
    set -- $names
    say "missing: $*"
    if has apt-get && has dpkg; then
        say "installing them, which takes a minute"
        install_on_debian "$@"
        return
    fi
    say "this is not Debian or Ubuntu, so install what is missing yourself: a C++ compiler, make, pkg-config, libclang and the"
    say "headers of OpenSSL for building; Java 17, Maven and PostgreSQL for tests; Prometheus for make dev. For example"
    if [ "$(uname -s)" = Darwin ]; then
        say "    xcode-select --install; brew install openssl@3"
    elif has dnf; then
        say "    sudo dnf install gcc-c++ make pkgconf clang-devel openssl-devel"
    elif has zypper; then
        say "    sudo zypper install gcc-c++ make pkgconf clang-devel libopenssl-devel"
    elif has pacman; then
        say "    sudo pacman -S --needed gcc make pkgconf clang openssl"
    else
        say "    the packages that your system calls gcc-c++ (or g++), make, pkgconf and clang-devel (or libclang) and openssl-devel"
    fi
    fail "and run this again. If libclang is in an unusual place, LIBCLANG_PATH says where."
}

check_rust() {
    local needed found
    needed=$(sed -n 's/^rust-version = "\(.*\)"$/\1/p' Cargo.toml)
    if ! has cargo; then
        if [ -x "${CARGO_HOME:-$HOME/.cargo}/bin/cargo" ]; then
            fail "cargo is installed, and not on the PATH: run  . \"${CARGO_HOME:-$HOME/.cargo}/env\"  and then this again"
        fi
        fail "Rust is missing ($needed or newer): get it with rustup, https://rustup.rs, and run this again"
    fi
    found=$(cargo --version | sed -n 's/^cargo \([0-9]*\.[0-9]*\).*/\1/p')
    [ -n "$found" ] || fail "cargo does not tell its version: $(cargo --version 2>&1 | head -n 1)"
    if [ "$(printf '%s\n%s\n' "$needed" "$found" | sort -t . -k 1,1n -k 2,2n | head -n 1)" != "$needed" ]; then
        fail "Rust $found is too old: touchline needs $needed. Run  rustup update stable,  or get rustup at https://rustup.rs"
    fi
}

purpose=${1:-build}
case $purpose in
build | test | dev) ;;
*) fail "it takes nothing, test or dev, and not $purpose" ;;
esac

# Rust first: it is the one that people get themselves, so say so before anything is installed.
check_rust
check_tools
