#!/usr/bin/env bash
# Make .venv, or install into it: `venv.sh create`, `venv.sh requirements FILE...`,
# `venv.sh package`. What the user can mend is one sentence on stderr; tools log to .venv/*.log.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

UV_VERSION=0.13.9
VENV=.venv
OFFLINE="cannot reach the Python package index: connect this machine to the network (or set its \
proxy in HTTPS_PROXY) and run make again; details are in"

fail() {
    echo "dpt_ros: $*" >&2
    exit 1
}

# Print the first of python3, python3.14 ... python3.10 that can make an environment. ROS 2 has
# wheels for these versions only.
find_python() {
    local python version lacking='' seen=''
    for python in python3 python3.{14..10}; do
        version=$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null) ||
            continue
        seen="$seen $version"
        [[ $version =~ ^3\.1[0-4]$ ]] || continue
        if "$python" -c 'import ensurepip, venv' 2>/dev/null; then
            command -v "$python"
            return
        fi
        lacking=${lacking:-$version}
    done
    if [[ $lacking ]]; then
        fail "Python $lacking cannot make virtual environments (no ensurepip): install its venv" \
            "package, e.g. 'sudo apt install python$lacking-venv', and run make again"
    fi
    fail "needs Python 3.10 to 3.14 and found${seen:- none}: install one, e.g." \
        "'sudo apt install python3 python3-venv', put it on PATH and run make again"
}

create() {
    local python log=$VENV/create.log
    [[ $(uname) == Linux ]] || fail "needs Linux, for ROS 2 has wheels for nothing else"
    python=$(find_python)
    rm -rf "$VENV"
    mkdir "$VENV"
    "$python" -m venv "$VENV" >"$log" 2>&1 ||
        fail "'$python -m venv $VENV' failed: its reasons are in $log"
    "$VENV/bin/python" -m pip install --disable-pip-version-check --retries 1 \
        "uv==$UV_VERSION" >>"$log" 2>&1 || fail "$OFFLINE $log"
}

uv_install() {
    local quiet=--quiet
    [[ -t 2 ]] && quiet=
    "$VENV/bin/uv" pip install --python "$VENV/bin/python" $quiet "$@"
}

requirements() {
    local log=$VENV/requirements.log files=()
    for file; do
        files+=(-r "$file")
    done
    # A dry run first: what is out of reach shows within seconds, and in one sentence.
    if ! uv_install --dry-run "${files[@]}" >"$log" 2>&1; then
        grep -q 'error sending request' "$log" && fail "$OFFLINE $log"
        fail "$* has no solution for this machine: the reason is in $log"
    fi
    uv_install "${files[@]}" ||
        fail "installing ${*} failed for the reason above: mend it and run make again"
}

# Not editable: only a wheel brings the ament index, launch and config files into .venv/share.
# Built from a copy, for setuptools leaves build/ and *.egg-info where it builds; offline.
#
# What Numba compiled stands beside the package, where uv deletes it: it is laid aside until then,
# unless a file there changed, lest what nobody asks for any more pile up.
package() {
    local site loops=dpt_ros/perception
    site=$("$VENV/bin/python" -Ic 'import sysconfig; print(sysconfig.get_path("purelib"))')
    rm -rf "$VENV/src" "$VENV/compiled"
    mkdir "$VENV/src" "$VENV/compiled"
    cp -R -t "$VENV/src" dpt_ros launch config resource package.xml setup.py setup.cfg LICENSE
    if diff -rqx __pycache__ $loops "$site/$loops" >"$VENV/changed.log" 2>&1; then
        find "$site/$loops" -name '*.nb[ci]' -exec mv -t "$VENV/compiled" {} +
    fi
    uv_install --offline --no-deps --no-build-isolation --reinstall "$VENV/src"
    mkdir -p "$site/$loops/__pycache__"
    find "$VENV/compiled" -type f -exec mv -t "$site/$loops/__pycache__" {} +
    compile
}

# Have Numba compile what the node runs at its start: it takes half a minute, which whoever waits
# for a node would not expect.
compile() {
    "$VENV/bin/python" -I - <<'END'
import logging

from dpt_ros.ros.parameters import options, Parameters
from dpt_ros.ros.processor import open_perception

logging.basicConfig(level=logging.INFO, format='%(message)s')
chosen = Parameters(device='cpu')
open_perception(chosen).warm_up(640, 480, options(chosen))
END
}

"$@"
