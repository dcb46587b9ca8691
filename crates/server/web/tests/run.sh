#!/bin/sh
# Tests of the page in Chromium, against the program itself: `trine serve` with the model that is part of it.
#   run.sh             runs the tests
#   run.sh screens DIR saves pictures of every state there, in both themes and at the width of a phone
# TRINE is the program, CHROMIUM the browser.
set -eu
here=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd)

skip() {
    echo "SKIPPED: the tests of the web page: $1" >&2
    exit 0
}

target=${CARGO_TARGET_DIR:-$here/../../../../target}
if [ -z "${TRINE:-}" ]; then
    for build in release debug; do
        if [ -x "$target/$build/trine" ]; then TRINE=$target/$build/trine; break; fi
    done
fi
[ -n "${TRINE:-}" ] || { echo "error: found no program: build it, or name it by TRINE" >&2; exit 1; }
CHROMIUM=${CHROMIUM:-$(command -v chromium || true)}
[ -n "$CHROMIUM" ] || skip "chromium is not installed"
command -v node >/dev/null || skip "node is not installed"
command -v npm >/dev/null || skip "npm is not installed"

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
npm install --prefix "$work" --no-save --no-audit --no-fund --fetch-retries=1 --fetch-timeout=30000 --loglevel=error playwright-core@1.65.1 axe-core@4.14.1 >/dev/null 2>"$work/npm.log" ||
    skip "npm cannot fetch playwright-core: $(tail -n 1 "$work/npm.log")"
# The tests are run from beside their libraries, since they are no part of the repository.
cp "$here"/*.mjs "$here"/*.json "$here"/*.jinja "$work"
export TRINE CHROMIUM
cd "$work"
if [ "${1:-}" = screens ]; then
    case $2 in /*) out=$2 ;; *) out=$OLDPWD/$2 ;; esac
    node screens.mjs "$out"
else
    node --test --test-reporter=spec --test-concurrency=1 ./*.test.mjs
fi
