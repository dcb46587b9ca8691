#!/usr/bin/env bash
# Runs Trine and other programs on the same files in turn, and prints a table for each:
#
#     bench/peers.sh path/to/trine "path/to/llama-bench path/to/ik/llama-bench" model.gguf ...
#
# The programs are those of llama.cpp, ik_llama.cpp or bitnet.cpp, built for this CPU, with their llama-bench. A ratio is not printed when something
# else uses the CPUs. Where a llama-completion or llama-cli lies beside a llama-bench, starts are compared, too: cold, warm, and their memory.
set -euo pipefail
trine=$(realpath "$1") peers=$2
shift 2
for model in "$@"; do
    for peer in $peers; do
        echo "## ${model##*/} beside $peer"
        echo
        "$trine" bench "$model" --batch 1 --against "llama-bench=$peer" --output md || echo "not measured"
        echo
        for start in llama-completion llama-cli; do
            start=$(dirname "$peer")/$start
            if [ -x "$start" ]; then
                "$trine" bench startup "$model" --output md --against "'$start' -m '$model' -p Hello -n 1 -no-cnv --no-warmup" || echo "not measured"
                echo
                break
            fi
        done
    done
done
