#!/bin/sh
# Says what is missing on this machine before anything is built, and how to get it. As root on Debian (and in CI, where
# sudo asks nothing) it gets the packages itself. Arguments: what is needed besides Rust and a C compiler: python, node, curl, clippy,
# go, java (Spark runs in it), postgres (the server's programs; the tests start servers of their own), valgrind.
set -eu

python="${PYTHON:-python3}"
packages=""
has() { command -v "$1" >/dev/null 2>&1; }

has cc || packages="$packages build-essential"
for thing in "$@"; do
    case "$thing" in
        python)
            has "$python" || packages="$packages python3"
            "$python" -c 'import venv, ensurepip' 2>/dev/null || packages="$packages python3-venv"
            ;;
        node) has node && has npm || packages="$packages nodejs npm" ;;
        valgrind) has valgrind || packages="$packages valgrind" ;;
        curl) has curl || packages="$packages curl" ;;
        java) has java || packages="$packages default-jre-headless" ;;
        postgres) has initdb || ls /usr/lib/postgresql/*/bin/initdb >/dev/null 2>&1 || packages="$packages postgresql" ;;
    esac
done

case " $* " in
    *" go "*) has go || {
        echo "error: this machine lacks Go, which MinIO is built with: get it from https://go.dev/dl" >&2
        exit 1
    } ;;
esac
has cargo || {
    echo "error: this machine lacks Rust: get it from https://rustup.rs" >&2
    exit 1
}
case " $* " in
    *" clippy "*) cargo fmt --version >/dev/null 2>&1 && cargo clippy --version >/dev/null 2>&1 || rustup component add rustfmt clippy ;;
esac
[ -n "$packages" ] || exit 0

root=""
[ "$(id -u)" = 0 ] || root="sudo -n"
if has apt-get && { [ -z "$root" ] || { [ -n "${CI:-}" ] && $root true 2>/dev/null; }; }; then
    echo "installing$packages"
    $root apt-get update -qq
    case "$packages" in
        *postgresql*) # its package would make and start a cluster for the whole machine, which nobody asked for
            [ -e /etc/postgresql-common/createcluster.conf ] || {
                $root mkdir -p /etc/postgresql-common
                echo "create_main_cluster = false" | $root tee /etc/postgresql-common/createcluster.conf >/dev/null
            }
            ;;
    esac
    # shellcheck disable=SC2086
    DEBIAN_FRONTEND=noninteractive $root apt-get install -y -qq --no-install-recommends $packages >/dev/null
    exit 0
fi
echo "error: this machine lacks:$packages" >&2
echo "       on Debian: sudo apt-get install$packages" >&2
exit 1
