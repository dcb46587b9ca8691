#!/bin/sh
# Official clients against the program itself: those of OpenAI (Python, Node), Anthropic and Ollama, litellm, langchain-openai and instructor;
# lm-evaluation-harness, beside `trine eval` and transformers; schemathesis; the coding agents aider and Codex.
#   clients.sh [--official] [FOLDER]    FOLDER keeps the environments of Python and Node for the next time; --official leaves out what comes after
#                                       the clients and the libraries on top of them
# TRINE is the program, TRINE_SHARED a folder with data/models, data/tasks and data/text, OPENAPI OpenAI's openapi.yaml. A step whose packages
# cannot be fetched, or whose data is not there, says that it is skipped. FOLDER/lm compares with transformers if lm-eval[hf] is installed there.
set -eu
here=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd)
TRINE=${TRINE:-$here/../target/release/trine}
data=${TRINE_SHARED:-$here/../../shared}/data
unset TRINE_SHARED # which `trine serve` refuses
OPENAPI=${OPENAPI:-$data/api/openapi.yaml}
official=
if [ "${1:-}" = --official ]; then
    official=1
    shift
fi
work=$(mktemp -d)
folder=${1:-$work}
mkdir -p "$folder"
folder=$(CDPATH='' cd -- "$folder" && pwd)
[ -f "$OPENAPI" ] || OPENAPI=
server=
failed=0

stop() {
    [ -z "$server" ] || { kill "$server" 2> /dev/null && wait "$server" || true; }
    server=
}
trap 'stop; rm -rf "$work"' EXIT
trap 'exit 1' INT TERM

# Starts the server with these arguments in place of the one before; its address is $url.
serve() {
    stop
    : > "$work/log"
    "$TRINE" serve --port 0 "$@" 2> "$work/log" &
    server=$!
    until url=$(sed -n 's/^serving .* at //p' "$work/log") && [ -n "$url" ]; do
        kill -0 "$server" 2> /dev/null || { cat "$work/log" >&2; exit 1; }
        sleep 0.1
    done
}

# The environment $1 of Python with the other arguments as packages; its programs are in $bin.
environment() {
    bin=$folder/$1/bin
    [ -x "$bin/python" ] || python3 -m venv "$folder/$1" > /dev/null 2>&1 || { echo "skipped: python3 -m venv does not work"; return 1; }
    shift
    "$bin/python" -m pip install --quiet "$@" > "$work/pip" 2>&1 || { echo "skipped: pip cannot fetch $*"; return 1; }
}

# The same for a package of Node.
package() {
    command -v npm > /dev/null && npm install --prefix "$folder/npm" --no-audit --no-fund --loglevel=error "$1" > /dev/null 2>&1 ||
        { echo "skipped: npm cannot fetch $1"; return 1; }
}

check() {
    TMPDIR=$work "$@" 2> "$work/stderr" || { failed=1; tail -c 4000 "$work/stderr"; }
}

# Whether requests of this path were answered, and all of them.
answered() {
    curl -s "$url/metrics" > "$work/metrics"
    grep -q "^trine_requests_total{route=\"$1\",status=\"200\"}" "$work/metrics" &&
        ! grep "^trine_requests_total{route=\"$1\",status=\"[45]" "$work/metrics"
}

# The answers of the agents are nonsense: a small model of stories writes them. What is tested is that the protocol holds until its end.
agent() {
    name=$1 path=$2 sign=$3
    shift 3
    if timeout 600 "$@" < /dev/null > "$work/$name" 2>&1 && grep -q "$sign" "$work/$name" && answered "$path"; then
        echo "ok      $name: an answer by $path"
    else
        echo "FAILED  $name"
        cat "$work/$name" "$work/log"
        failed=1
    fi
}

serve --embedding-model "$here/../golden/encoders/bert" embedded:stories
if environment venv openai anthropic ollama litellm langchain-openai instructor jsonschema pyyaml httpx; then
    check "$bin/python" "$here/clients.py" "$url" ${OPENAPI:+"$OPENAPI"}
fi
if package openai; then
    cp "$here/clients.mjs" "$folder/npm"
    check node "$folder/npm/clients.mjs" "$url"
fi
[ -z "$official" ] || exit $failed

if [ ! -d "$data/tasks" ]; then
    echo "skipped: no data for lm-evaluation-harness in $data"
elif environment lm 'lm-eval[api]'; then
    serve "$data/models/stories3M/stories3M-f32.gguf"
    check "$bin/python" "$here/clients_lm_eval.py" "$url" "$TRINE" "$data/models/stories3M" "$data"
fi

if [ -z "$OPENAPI" ]; then
    echo "skipped: no openapi.yaml for schemathesis"
elif environment schema schemathesis pyyaml; then
    serve --embedding-model "$here/../golden/encoders/bert" embedded:stories
    check "$bin/python" "$here/clients_schemathesis.py" "$url" "$OPENAPI"
fi

# What agents tell the model is longer than its context: a copy claims to have more. Its template has tools.
python3 - "$here/../assets/stories.gguf" "$work/long.gguf" << 'END'
import struct, sys
data, key = open(sys.argv[1], "rb").read(), b".context_length" + struct.pack("<I", 4)
assert data.count(key) == 1
at = data.index(key) + len(key)
open(sys.argv[2], "wb").write(data[:at] + struct.pack("<I", 32768) + data[at + 4 :])
END
serve --alias stories --context 32768 --parallel 2 --template "$here/../crates/server/web/tests/tools.jinja" "$work/long.gguf"
mkdir "$work/home" "$work/files"
cd "$work/files"
export HOME="$work/home" CODEX_HOME="$work/home"
if environment aider 'aider-chat==0.86.*'; then
    agent aider /v1/chat/completions 'Tokens: .* received' "$bin/aider" --message "Once upon a time" --yes-always --no-git --no-check-update \
        --analytics-disable --no-show-model-warnings --no-show-release-notes --no-pretty --openai-api-base "$url/v1" --openai-api-key none \
        --model openai/stories
fi
# Codex asks for a search that OpenAI runs, unless it is told not to.
if package @openai/codex; then
    agent codex /v1/responses '"type":"turn.completed"' "$folder/npm/node_modules/.bin/codex" exec --json --skip-git-repo-check -s read-only \
        -m stories -c model_provider=trine -c 'web_search="disabled"' \
        -c "model_providers.trine={name=\"trine\",base_url=\"$url/v1\",wire_api=\"responses\",request_max_retries=0,stream_max_retries=0}" \
        "Once upon a time"
fi
exit $failed
