"""Requests that schemathesis makes of OpenAI's openapi.yaml against `trine serve`: no answer may be the server's fault.

`bench/clients.sh` starts the server and runs this:

    clients_schemathesis.py URL OPENAPI

Of the specification, the paths that are served are kept, with the name of the served model for that of any. Afterwards the server must answer,
all blocks of the KV cache must be free or hold what a later prompt may find, and memory must be bounded.
"""

import json
import pathlib
import re
import subprocess
import sys
import tempfile
import time
import urllib.request

import yaml

URL, OPENAPI = sys.argv[1], sys.argv[2]
PATHS = ("/chat/completions", "/completions", "/responses", "/embeddings", "/models", "/models/{model}")
# What the server refuses always, since it stores nothing: with them, most requests would test nothing else.
STORED = ("conversation", "previous_response_id", "background", "max_tool_calls", "web_search_options")
SECONDS, EXAMPLES, MAX_MEMORY = 120, 150, 200 << 20


def get(path):
    return urllib.request.urlopen(f"{URL}{path}", timeout=30).read().decode()


def metric(name):
    return float(re.search(rf"^{name} (\S+)$", get("/metrics"), re.MULTILINE)[1])


names = [model["id"] for model in json.loads(get("/v1/models"))["data"]]
spec = yaml.safe_load(pathlib.Path(OPENAPI).read_text())
spec["paths"] = {path: {"get" if "models" in path else "post": spec["paths"][path]["get" if "models" in path else "post"]} for path in PATHS}
for schema_name, schema in spec["components"]["schemas"].items():
    served = {"type": "string", "enum": [names[-1 if "Embedding" in schema_name else 0]]}
    for part in [schema, *schema.get("allOf", [])]:
        properties = part.get("properties", {})
        if "model" in properties:
            properties["model"] = served
        for name in STORED:
            properties.pop(name, None)
        if "Response" in schema_name:
            properties.pop("prompt", None)
        if schema_name == "CreateResponse" and "input" in properties:
            part["required"] = ["input"]

with tempfile.TemporaryDirectory() as work:
    (pathlib.Path(work) / "openapi.json").write_text(json.dumps(spec, default=str))
    limits = ["--max-time", str(SECONDS), "--max-examples", str(EXAMPLES), "--request-timeout", "60", "--seed", "1"]
    checks = ["--checks", "not_a_server_error", "--phases", "examples,coverage,fuzzing", "--continue-on-failure"]
    command = [pathlib.Path(sys.executable).with_name("st"), "run", "openapi.json", "--url", f"{URL}/v1", *limits, *checks]
    ran = subprocess.run([*command, "--no-color", "--generation-database", "none"], cwd=work, capture_output=True, text=True)
if ran.returncode:
    sys.exit(f"FAILED  schemathesis:\n{ran.stdout}{ran.stderr}")
cases = re.search(r"(\d+) generated, (\d+) passed", ran.stdout)
assert int(cases[1]) >= 500, ran.stdout

for _ in range(300):
    if metric("trine_num_requests_running") == metric("trine_num_requests_waiting") == 0:
        break
    time.sleep(0.1)
used, memory = metric("trine_kv_blocks_used"), metric("process_resident_memory_bytes")
assert used == 0, f"{used} blocks of the KV cache are in use, and no request runs"
assert memory < MAX_MEMORY, f"{memory / 2**20:.0f} MiB of resident memory"
answered = {status: sum(map(int, re.findall(rf'^trine_requests_total{{route="/v1/.*status="{status}.*"}} (\d+)$', get("/metrics"), re.M)))
            for status in (2, 4, 5)}
assert answered[5] == 0 and answered[2] > 0, answered
print(f"ok      schemathesis: {cases[0]}; {answered[2]} answers, {answered[4]} refusals, {memory / 2**20:.0f} MiB")
