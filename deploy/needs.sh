#!/bin/sh
# Says what is missing on this machine before anything is built, and how to get it.
set -eu

missing=""
need() { command -v "$1" >/dev/null 2>&1 || missing="$missing $2"; }

need cargo "rustup(https://rustup.rs)"
need cc build-essential
need python3 python3
python3 -c 'import venv, ensurepip' 2>/dev/null || missing="$missing python3-venv"

[ -z "$missing" ] || {
    echo "error: this machine lacks:$missing" >&2
    echo "       on Debian: apt-get install build-essential python3 python3-venv, and Rust from rustup" >&2
    exit 1
}
