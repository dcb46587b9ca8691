#!/usr/bin/env python3
"""Does to a server, llama-server of llama.cpp or ik_llama.cpp or `trine serve`, what `trine bench --load` does to Trine's engine, and prints
the same figures.

The requests are those of a trace: as long, in the same order, as many at once.

    trine bench model.gguf --load clients=16,prompt=64-512,output=64-256,requests=64 --profile trace.json --json
    bench/peers.py trace.json model.gguf --clients 16 --server path/to/llama-server
    bench/peers.py trace.json model.gguf --clients 16 --server path/to/trine
"""

import argparse
import http.client
import json
import math
import os
import queue
import random
import socket
import subprocess
import threading
import time


def requests_of(trace):
    """Tokens of prompt and answer of each request, in the order in which they came."""
    rows = {}
    for event in json.load(open(trace))["traceEvents"]:
        if event["ph"] == "X":
            rows.setdefault(event["tid"], {}).update(event["args"])
    return [(row["prompt_tokens"], row["completion_tokens"]) for _, row in sorted(rows.items())]


def statistics(name, seconds):
    """As NumPy has them, in milliseconds."""
    if not seconds:
        return {}
    xs = sorted(1e3 * x for x in seconds)
    mean = sum(xs) / len(xs)
    figures = {"mean": mean, "std": math.sqrt(sum((x - mean) ** 2 for x in xs) / len(xs))}
    for label, p in ("median", 0.5), ("p95", 0.95), ("p99", 0.99):
        at = p * (len(xs) - 1)
        low, high = xs[int(at)], xs[min(int(at) + 1, len(xs) - 1)]
        figures[label] = low + (high - low) * (at % 1)
    return {f"{label}_{name}_ms": round(value, 1) for label, value in figures.items()}


def ask(port, prompt, tokens, began=lambda: None):
    """Seconds at which a request was sent, and at which each token of its answer came; `began` is called at the first."""
    body = {
        "prompt": prompt, "max_tokens": tokens, "ignore_eos": True, "stream": True, "cache_prompt": False, "temperature": 0,
        "stream_options": {"include_usage": True},
    }
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=3600)
    sent = time.perf_counter()
    connection.request("POST", "/v1/completions", json.dumps(body), {"Content-Type": "application/json"})
    response = connection.getresponse()
    if response.status != 200:
        raise RuntimeError(response.read().decode())
    came, count = [], 0
    for line in response:
        if not line.startswith(b"data: "):
            continue
        if line.startswith(b"data: [DONE]"):
            break
        event = json.loads(line[6:])
        if event.get("usage"):
            count = event["usage"]["completion_tokens"]
        if not event["choices"] or event["choices"][0]["finish_reason"]:
            continue
        came.append(time.perf_counter())
        if len(came) == 1:
            began()
    connection.close()
    return sent, came, count


def run(port, requests, clients, vocab, late, times=None):
    """All requests, so many at once; and a prompt of `late` tokens when all clients wait for a second token."""
    random.seed(1)
    long = [random.randrange(3, vocab) for _ in range(late)]
    waiting = queue.SimpleQueue()
    for prompt, tokens in requests:
        waiting.put(([random.randrange(3, vocab) for _ in range(prompt)], tokens))
    answers, errors, generating = [], [], threading.Semaphore(0)

    def client():
        while not errors:
            try:
                request = waiting.get_nowait()
            except queue.Empty:
                return
            try:
                answers.append(ask(port, *request, generating.release))
            except Exception as error:
                errors.append(error)

    threads = [threading.Thread(target=client) for _ in range(clients)]
    begin = time.perf_counter()
    [thread.start() for thread in threads]
    if late:
        [generating.acquire() for _ in threads]
        sent, came, _ = ask(port, long, 1)
        answered = came[0] if came else time.perf_counter()
    [thread.join() for thread in threads]
    if errors:
        raise errors[0]
    took = time.perf_counter() - begin
    pairs = [(a, b) for _, came, _ in answers for a, b in zip(came, came[1:])]
    gaps = [b - a for a, b in pairs]
    if times:
        since = lambda moments: [round(moment - begin, 4) for moment in moments]
        streams = [since(came) for _, came, _ in answers]
        json.dump({"late": since([sent, answered]) if late else None, "streams": streams}, open(times, "w"))
    output = sum(count for _, _, count in answers)
    return {
        "duration": round(took, 2),
        "completed": len(answers),
        "total_input_tokens": sum(prompt for prompt, _ in requests),
        "total_output_tokens": output,
        "output_throughput": round(output / took, 2),
        **statistics("ttft", [came[0] - sent for sent, came, _ in answers]),
        **statistics("tpot", [(came[-1] - came[0]) / (len(came) - 1) for _, came, _ in answers if len(came) > 1]),
        **statistics("itl", gaps),
        "max_itl_ms": round(1e3 * max(gaps), 1),
        "late_ttft_ms": round(1e3 * (answered - sent), 1) if late else None,
        "late_max_itl_ms": round(1e3 * max(b - a for a, b in pairs if b > sent and a < answered), 1) if late else None,
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("trace")
    parser.add_argument("model")
    parser.add_argument("--server", required=True, help="the program")
    parser.add_argument("--clients", type=int, required=True)
    parser.add_argument("--parallel", type=int, help="sequences that it runs at once [default: clients]")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--vocab", type=int, default=32000, help="ids of prompts are below this")
    parser.add_argument("--late", type=int, default=0, help="tokens of the prompt that comes late, as `late` of the load")
    parser.add_argument("--times", help="a file for the moment at which each token came")
    parser.add_argument("options", nargs="*", help="more for the program, after --")
    args = parser.parse_args()
    requests = [request for request in requests_of(args.trace) if request[0] != args.late]
    parallel = args.parallel or args.clients + (args.late > 0)
    context = max([prompt + tokens for prompt, tokens in requests] + [args.late]) + 16
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    if os.path.basename(args.server).startswith("trine"):
        command = [args.server, "serve", args.model, "--threads", args.threads, "--parallel", parallel, "--context", context]
        command += ["--cache-size", "8GiB", "--port", port, *args.options]
    else:
        # Its context is that of all sequences together.
        command = [args.server, "-m", args.model, "-t", args.threads, "-tb", args.threads, "-np", parallel, "-c", parallel * context]
        command += ["--host", "127.0.0.1", "--port", port, *args.options]
    server = subprocess.Popen([str(word) for word in command], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        while True:
            try:
                connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
                connection.request("GET", "/health")
                if connection.getresponse().status == 200:
                    break
            except OSError:
                if server.poll() is not None:
                    raise SystemExit(f"{args.server} ended with {server.returncode}")
            time.sleep(0.2)
        ask(port, [5] * 8, 4)
        print(json.dumps(run(port, requests, args.clients, args.vocab, args.late, args.times)))
    finally:
        server.terminate()
        server.wait()


if __name__ == "__main__":
    main()
