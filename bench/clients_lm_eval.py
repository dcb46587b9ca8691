"""lm-evaluation-harness against `trine serve`: its `local-completions`, which scores texts by `echo` and `logprobs`.

`bench/clients.sh` starts the server and runs this:

    clients_lm_eval.py URL TRINE MODEL DATA

MODEL is a folder with a GGUF file and the same weights as transformers reads them, DATA has `tasks` and `text`. The perplexity must be that of
`trine eval perplexity`. Where torch is, each log-likelihood and each greedy answer must be that of transformers, which reads the vocabulary of
the GGUF file with its own tokenizer.
"""

import json
import math
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile

os.environ.update(HF_HUB_OFFLINE="1", HF_DATASETS_OFFLINE="1", TOKENIZERS_PARALLELISM="false")
import lm_eval

URL, TRINE, MODEL, DATA = sys.argv[1], sys.argv[2], pathlib.Path(sys.argv[3]), pathlib.Path(sys.argv[4])
LIMIT = 100
work = pathlib.Path(tempfile.mkdtemp())
os.environ["HF_DATASETS_CACHE"] = str(work / "cache")
stories = work / "stories.jsonl"


def task(name, path, **more):
    files = {"dataset_path": "json", "dataset_kwargs": {"data_files": {"test": str(path)}}, "test_split": "test"}
    return {"task": name, **files, **more}


def choices(name, path):
    of = {"output_type": "multiple_choice", "doc_to_text": "{{query}}", "doc_to_choice": "{{choices}}", "doc_to_target": "{{gold}}"}
    return task(name, DATA / "tasks" / path, **of, metric_list=[{"metric": "acc"}, {"metric": "acc_norm"}])


def continuation(name, path, **more):
    return task(name, DATA / "tasks" / path, doc_to_text="{{context}}", doc_to_target="{{continuation}}", **more)


TASKS = [
    task("stories", stories, output_type="loglikelihood_rolling", doc_to_text="", doc_to_target="{{text}}",
         metric_list=[{"metric": "word_perplexity"}, {"metric": "bits_per_byte"}]),
    choices("copa", "commonsense_reasoning/copa.jsonl"),
    choices("openbook_qa", "commonsense_reasoning/openbook_qa.jsonl"),
    choices("arc_easy", "world_knowledge/arc_easy.jsonl"),
    continuation("lambada", "language_understanding/lambada_openai.jsonl", output_type="loglikelihood",
                 metric_list=[{"metric": "perplexity"}, {"metric": "acc"}]),
    continuation("lambada_words", "language_understanding/lambada_openai.jsonl", output_type="generate_until",
                 generation_kwargs={"until": ["."], "max_gen_toks": 16}, metric_list=[{"metric": "exact_match"}]),
]


def evaluate(model, **args):
    """The metrics of each task, and all responses of the model."""
    known = {"model": model, "model_args": args, "tasks": TASKS, "limit": LIMIT, "bootstrap_iters": 0, "log_samples": True}
    found = lm_eval.simple_evaluate(**known)
    answers = {name: [sample["filtered_resps"] for sample in samples] for name, samples in found["samples"].items()}
    return found["results"], answers


def leaves(value):
    return [leaf for part in value for leaf in leaves(part)] if isinstance(value, (list, tuple)) else [value]


def difference(a, b):
    """How far a response is from that of transformers, in nats. Answers differ or do not: there, BOS does not end one, and the first space is lost."""
    if isinstance(a, float):
        return abs(a - b)
    return 0 if (b.strip().startswith(a.strip()) if isinstance(a, str) else a == b) else math.inf


texts = (DATA / "text/tinystories.txt").read_text().split("<|endoftext|>")
# A story has one window with BOS before it, for the harness and for trine: later windows have BOS only for trine.
texts = [text.strip() for text in texts if 0 < len(text.strip()) < 1200][:LIMIT]
stories.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))

results, answers = evaluate("local-completions", base_url=f"{URL}/v1/completions", max_length=512, num_concurrent=4, max_retries=1)
measure = [TRINE, "eval", "perplexity", str(next(MODEL.glob("*.gguf"))), str(stories), "--no-end", "--json", "--quiet"]
own = json.loads(subprocess.run(measure, check=True, capture_output=True).stdout)
# The harness counts words and bytes, not tokens: their number is trine's.
perplexity = math.exp(-sum(leaves(answers["stories"])) / own["sums"]["tokens"])
for name, found, expected in (
    ("perplexity", perplexity, own["perplexity"]["value"]),
    ("bits_per_byte", results["stories"]["bits_per_byte,none"], own["bits_per_byte"]["value"]),
):
    assert math.isclose(found, expected, rel_tol=1e-6), f"{name}: lm-eval has {found}, trine eval {expected}"
print(f"ok      lm-eval {lm_eval.__version__}: perplexity {perplexity:.6f} of {own['sums']['tokens']} tokens, as trine eval")

try:
    import torch
    from transformers import AutoTokenizer
except ImportError:
    print("skipped: no torch and transformers, whose log-likelihoods lm-eval has on its own")
else:
    torch.set_num_threads(1)
    folder = work / "model"
    AutoTokenizer.from_pretrained(MODEL, gguf_file=next(MODEL.glob("*.gguf")).name).save_pretrained(folder)
    shutil.copy(MODEL / "config.json", folder)
    shutil.copy(next(MODEL.glob("*.safetensors")), folder / "model.safetensors")
    other, expected = evaluate("hf", pretrained=str(folder), dtype="float32", device="cpu", batch_size=8, add_bos_token=False)
    for name in answers:
        pairs = list(zip(leaves(answers[name]), leaves(expected[name]), strict=True))
        most = max(difference(*pair) for pair in pairs)
        different = [pair for pair in pairs if difference(*pair) > 1e-3]
        assert not different, f"{name}: {len(different)} of {len(pairs)} responses are not those of transformers: {different[:3]}"
        metrics = {key.split(",")[0]: round(value, 4) for key, value in results[name].items() if isinstance(value, float)}
        print(f"ok      lm-eval {name}: {len(pairs)} responses as transformers' (to {most:.1e}), {metrics}")
shutil.rmtree(work)
