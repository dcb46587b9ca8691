#!/bin/sh
# Converts a folder of the shape of Llama 2 7B, whose weights are zeros that take no room on the disk, in a memory cgroup (version 1) of the bytes of the
# largest tensor as it is read and as it is written, and 200 MB more.
# usage, as root: bench/long/convert_memory.sh [format] [layers], from the root of the repository, after `cargo build --release`
set -eu
format=${1:-q4_k}
trine=${TRINE:-target/release/trine}
folder=$(mktemp -d "${TMPDIR:-/tmp}/trine-XXXXXX")
group=/sys/fs/cgroup/memory/trine-convert-$$
trap 'rm -rf "$folder"; rmdir "$group" 2> /dev/null || true' EXIT
python3 - "$folder" golden/models/llama "${2:-32}" <<'PYTHON'
import json, shutil, struct, sys
from pathlib import Path
folder, golden = map(Path, sys.argv[1:3])
hidden, inner, layers, vocab = 4096, 11008, int(sys.argv[3]), 32000
shapes = {"model.embed_tokens.weight": [vocab, hidden], "model.norm.weight": [hidden], "lm_head.weight": [vocab, hidden]}
for i in range(layers):
    name = f"model.layers.{i}."
    shapes |= {name + part + "_layernorm.weight": [hidden] for part in ("input", "post_attention")}
    shapes |= {f"{name}self_attn.{part}_proj.weight": [hidden, hidden] for part in "qkvo"}
    shapes |= {f"{name}mlp.{part}_proj.weight": [inner, hidden] for part in ("gate", "up")}
    shapes[name + "mlp.down_proj.weight"] = [hidden, inner]
header, at = {}, 0
for name, shape in shapes.items():
    size = 2 * shape[0] * (shape[1] if len(shape) > 1 else 1)
    header[name] = {"dtype": "BF16", "shape": shape, "data_offsets": [at, at + size]}
    at += size
text = json.dumps(header).encode()
text += b" " * (-len(text) % 64)
with open(folder / "model.safetensors", "wb") as file:
    file.write(struct.pack("<Q", len(text)) + text)
    # The head is not the embedding.
    file.write(b"\x80\x3f")
    file.truncate(8 + len(text) + at)
config = json.loads((golden / "config.json").read_text())
config |= dict(hidden_size=hidden, intermediate_size=inner, num_hidden_layers=layers, vocab_size=vocab, num_attention_heads=32, num_key_value_heads=32, head_dim=128)
(folder / "config.json").write_text(json.dumps(config))
for name in ("tokenizer.json", "tokenizer_config.json"):
    shutil.copy(golden / name, folder)
PYTHON
largest=$("$trine" convert "$folder" "$folder/out.gguf" --format "$format" --dry-run --json | python3 -c '
import json, math, sys
sizes = {"BF16": 2, "F16": 2, "F32": 4}
print(max(t["bytes"] + sizes[t["from"]] * math.prod(t["shape"]) for t in json.load(sys.stdin)["tensors"]))')
limit=$((largest + 200000000))
mkdir "$group"
echo "$limit" > "$group/memory.limit_in_bytes"
sh -c 'echo $$ > "$1/cgroup.procs"; shift; exec "$@"' sh "$group" /usr/bin/env time -f "%e s, at most %M KiB resident" \
    "$trine" convert "$folder" "$folder/out.gguf" --format "$format"
echo "limit $limit bytes, most charged $(cat "$group/memory.max_usage_in_bytes"), refused $(cat "$group/memory.failcnt") times"
