#!/usr/bin/env bash
# Measures a build of Trine, compares it with the nights before, and writes what it found to OUT/report.md, with OUT/trend.svg:
#
#     bench/nightly.sh path/to/trine OUT [BUDGETS.toml]
#
# OUT keeps the records of all nights, and the baseline of the first; delete OUT/baseline-*.json after a change of speed that is meant. MODELS names
# other models than the embedded one, separated by spaces: files, folders, and synthetic ones as shape:format. The exit status is that of
# `trine bench`: 4 if something became slower, or a limit of the budgets was not kept, 6 if that cannot be told, and another if something was not
# measured. For a commit in the records, build with TRINE_COMMIT=$(git rev-parse HEAD).
set -euo pipefail
[ $# -ge 2 ] || { echo "usage: bench/nightly.sh path/to/trine OUT [BUDGETS.toml]" >&2; exit 2; }
trine=$(realpath "$1") out=$2 budgets=${3:-}
mkdir -p "$out"
out=$(realpath "$out")
export XDG_DATA_HOME=$out/data
report=$out/report.md worst=0

# Sets the options that compare with a baseline, or save it the first time.
against() {
    compare=(--save-baseline "$1")
    [ ! -e "$1" ] || compare=(--baseline "$1")
}

# How bad an exit status is: nothing was measured, something became slower, that cannot be told, all is well.
rank() {
    case $1 in
        0) echo 0 ;;
        6) echo 1 ;;
        4) echo 2 ;;
        *) echo 3 ;;
    esac
}

# Runs Trine, and keeps its exit status if it is worse than those before. What went wrong is in the report, too.
guard() {
    local status=0
    "$trine" "$@" 2> "$out/errors.log" || status=$?
    cat "$out/errors.log" >&2
    [ "$(rank "$status")" != 3 ] || sed 's/^/    /' "$out/errors.log"
    [ "$(rank "$status")" -le "$(rank "$worst")" ] || worst=$status
}

{
    echo "# Speed of $("$trine" --version), $(date -u +%Y-%m-%d)"
    echo
    "$trine" devices | sed -n 's/^\(CPU model\|cores\|memory\) .*/    &/p'
    echo
    echo "## Memory"
    echo
    guard bench bandwidth --output md
    for model in ${MODELS:-embedded:stories 1.1b:q4_k_m 2b4t:i2_s}; do
        name=${model##*/} baseline=$out/baseline-${model//[\/:]/-}.json
        case $model in
            *.gguf | embedded:* | */*) args=("$model") ;;
            *) args=(--shape "${model%%:*}" --format "${model#*:}") ;;
        esac
        echo
        echo "## $name"
        echo
        against "$baseline"
        guard bench "${args[@]}" --batch 1,4,16 --record "${compare[@]}" ${budgets:+--budgets "$budgets"} --output md
    done
    echo
    echo "## Start"
    echo
    guard bench startup --output md
    echo
    echo "## Operations"
    echo
    against "$out/baseline-ops.json"
    guard bench ops -r 9 "${compare[@]}" --output md
    echo
    echo "## Trend"
    echo
    echo "![Speed of each test, as a part of its first record](trend.svg)"
    echo
    guard bench history --last 40 --svg "$out/trend.svg" --output md
} > "$report.partial"
mv "$report.partial" "$report"
echo "$report"
exit "$worst"
