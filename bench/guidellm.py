#!/usr/bin/env python3
"""Servers beside one another, as guidellm (PyPI) measures them: so many clients at once, each with its next request when it has its answer.

    bench/guidellm.py path/to/guidellm text.txt trine=http://127.0.0.1:8080 llama-server=http://127.0.0.1:8081

The servers run already, with the same model, nothing else does, and they take turns. Prompts are pieces of the text. Prints a table, and with
--json FILE all figures. Goodput is what guidellm counts: requests per second whose first token comes within 5 s, and whose tokens come within
250 ms each, on average.
"""

import argparse
import json
import os
import random
import subprocess
import tempfile

SLO = {"time_to_first_token_ms": 5000, "inter_token_latency_ms": 250}


def prompts(text, count, words, tokens, seed):
    """Rows of guidellm's data: pieces of a text, and how many tokens are to follow each."""
    all_words, chance = text.split(), random.Random(seed)
    for _ in range(count):
        length = chance.randint(*words)
        begin = chance.randrange(len(all_words) - length)
        yield {"prompt": " ".join(all_words[begin:begin + length]), "output_tokens_count": chance.randint(*tokens)}


def measure(guidellm, url, rows, clients, seconds):
    """What guidellm reports of a server with so many clients."""
    with tempfile.TemporaryDirectory() as folder:
        data, report = os.path.join(folder, "prompts.jsonl"), os.path.join(folder, "report.json")
        with open(data, "w") as file:
            file.writelines(json.dumps(row) + "\n" for row in rows)
        command = [
            guidellm, "run", "--disable-console",
            "--backend", f"kind=openai_http,target={url},request_format=/v1/completions",
            "--profile", f"kind=concurrent,streams={clients}",
            "--data", f"kind=json_file,path={data}",
            "--constraint", f"kind=max_requests,count={len(rows)}",
            "--constraint", f"kind=max_duration,seconds={seconds}",
            "--output", f"kind=json,path={report}",
        ]
        ran = subprocess.run(command, env={**os.environ, "HF_HUB_OFFLINE": "1"}, capture_output=True, text=True)
        if ran.returncode:
            raise SystemExit(ran.stderr)
        with open(report) as file:
            return json.load(file)["benchmarks"][0]


def summary(benchmark):
    """The figures of the table."""
    metrics, done = benchmark["metrics"], benchmark["requests"]["successful"]
    span = benchmark["duration"]
    figures = {"requests": metrics["request_totals"]["successful"], "errors": metrics["request_totals"]["errored"], "seconds": round(span, 1)}
    figures["output_tokens_per_second"] = round(metrics["output_token_count"]["successful"]["total_sum"] / span, 1)
    for name, short in ("time_to_first_token_ms", "ttft"), ("inter_token_latency_ms", "itl"):
        percentiles = metrics[name]["successful"]["percentiles"]
        figures.update({f"{short}_{p}_ms": round(percentiles[p], 1) for p in ("p50", "p95", "p99")})
    good = sum(all((one[name] or 0) <= most for name, most in SLO.items()) for one in done)
    figures["goodput_per_second"] = round(good / span, 2)
    return figures


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("guidellm")
    parser.add_argument("text")
    parser.add_argument("servers", nargs="+", metavar="NAME=URL")
    parser.add_argument("--clients", default="1,4,8,16,32")
    parser.add_argument("--requests", type=int, default=3, help="of each client (default: 3)")
    parser.add_argument("--words", default="48-160", help="of a prompt")
    parser.add_argument("--tokens", default="32-96", help="of an answer")
    parser.add_argument("--seed", type=int, default=0, help="of the prompts: servers know those of an earlier run")
    parser.add_argument("--seconds", type=float, default=300, help="at most, for each measurement")
    parser.add_argument("--json", metavar="FILE")
    args = parser.parse_args()
    between = lambda text: [int(part) for part in text.split("-")]
    with open(args.text) as file:
        text = file.read()
    rows = []
    print("| clients | server | tokens/s | goodput, 1/s | TTFT p50 / p95 / p99, s | ITL p50 / p95 / p99, ms |\n|---|---|---|---|---|---|")
    for turn, clients in enumerate(map(int, args.clients.split(","))):
        data = list(prompts(text, max(args.requests * clients, 6), between(args.words), between(args.tokens), args.seed + turn))
        for server in args.servers:
            name, url = server.split("=", 1)
            found = summary(measure(args.guidellm, url, data, clients, args.seconds))
            rows.append({"server": name, "clients": clients, **found})
            first = " / ".join(f"{found[f'ttft_{p}_ms'] / 1e3:.2f}" for p in ("p50", "p95", "p99"))
            between_tokens = " / ".join(f"{found[f'itl_{p}_ms']:.0f}" for p in ("p50", "p95", "p99"))
            speed = f"{found['output_tokens_per_second']:.1f}"
            print(f"| {clients} | {name} | {speed} | {found['goodput_per_second']:.2f} | {first} | {between_tokens} |", flush=True)
    if args.json:
        with open(args.json, "w") as file:
            json.dump(rows, file, indent=1)


main()
