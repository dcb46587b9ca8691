#!/bin/sh
# Kills conversions at random moments, and checks that the file of the target's name is the old one or the new one, whole.
# usage: bench/long/kill.sh [times], from the root of the repository, after `cargo build --release`
set -eu
times=${1:-50}
trine=${TRINE:-target/release/trine}
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"$trine" quantize embedded:stories "$folder/old.gguf" --format q8_0 > /dev/null
"$trine" quantize embedded:stories "$folder/new.gguf" --format iq2_xs > /dev/null
"$trine" convert embedded:stories "$folder/folder" > /dev/null
old=$(sha256sum < "$folder/old.gguf") new=$(sha256sum < "$folder/new.gguf")
i=0 kept=0 replaced=0
while [ "$i" -lt "$times" ]; do
    cp "$folder/old.gguf" "$folder/target.gguf"
    rm -rf "$folder/out"
    "$trine" quantize embedded:stories "$folder/target.gguf" --format iq2_xs --force > /dev/null 2>&1 & pid=$!
    "$trine" convert embedded:stories "$folder/out" > /dev/null 2>&1 & other=$!
    sleep "$(awk -v seed="$i" 'BEGIN { srand(seed * 7919 + 1); print rand() * 1.5 }')"
    kill -9 "$pid" "$other" 2> /dev/null || true
    wait "$pid" "$other" 2> /dev/null || true
    found=$(sha256sum < "$folder/target.gguf")
    case "$found" in
        "$old") kept=$((kept + 1)) ;;
        "$new") replaced=$((replaced + 1)) ;;
        *) echo "run $i: the file is neither the old one nor the new one" >&2; exit 1 ;;
    esac
    if [ -e "$folder/out" ]; then
        cmp "$folder/out/model.safetensors" "$folder/folder/model.safetensors"
    fi
    i=$((i + 1))
done
echo "$times kills: $kept times the old file, $replaced times the new one, never a broken one"
