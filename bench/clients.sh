#!/bin/sh
# Official clients against the program itself: those of OpenAI (Python, Node), Anthropic and Ollama, litellm, langchain-openai and instructor.
#   clients.sh [FOLDER]    FOLDER keeps the environment of Python for the next time
# TRINE is the program, OPENAPI OpenAI's openapi.yaml.
set -eu
here=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd)
TRINE=${TRINE:-$here/../target/release/trine}
OPENAPI=${OPENAPI:-$here/../../shared/data/api/openapi.yaml}
work=$(mktemp -d)
venv=${1:-$work/venv}
[ -x "$venv/bin/python" ] || python3 -m venv "$venv"
"$venv/bin/pip" install --quiet openai anthropic ollama litellm langchain-openai instructor jsonschema pyyaml httpx

"$TRINE" serve --port 0 --embedding-model "$here/../golden/encoders/bert" embedded:stories 2> "$work/log" &
server=$!
trap 'kill $server 2>/dev/null; rm -rf "$work"' EXIT
until url=$(sed -n 's/^serving .* at //p' "$work/log") && [ -n "$url" ]; do
    kill -0 $server 2>/dev/null || { cat "$work/log" >&2; exit 1; }
    sleep 0.1
done
[ -f "$OPENAPI" ] || OPENAPI=
"$venv/bin/python" "$here/clients.py" "$url" ${OPENAPI:+"$OPENAPI"}

if command -v npm > /dev/null && npm install --prefix "$work" --no-save --no-audit --no-fund --loglevel=error openai > /dev/null 2>&1; then
    cp "$here/clients.mjs" "$work"
    (cd "$work" && node clients.mjs "$url")
else
    echo "skipped: npm cannot fetch the openai package"
fi
