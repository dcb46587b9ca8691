"""`trine eval tasks` beside lm-evaluation-harness: the same files, models and numbers.

    lm_eval_tasks.py TRINE FOLDER DATA [LIMIT]

FOLDER has a model as transformers reads it, with its tokenizer, and the same weights as a GGUF file; DATA has the tasks. Run with Python packages
`lm-eval[hf]` and `torch`. Each acc, acc_norm, standard error and perplexity must be the harness's; where both differ, so must the model's most likely
answers by less than 1e-4 nats.
"""

import json
import os
import pathlib
import subprocess
import sys
import tempfile

os.environ.update(HF_HUB_OFFLINE="1", HF_DATASETS_OFFLINE="1", TOKENIZERS_PARALLELISM="false")
import lm_eval
import torch

TRINE, FOLDER, DATA = sys.argv[1], pathlib.Path(sys.argv[2]), pathlib.Path(sys.argv[3])
LIMIT = int(sys.argv[4]) if len(sys.argv) > 4 else 50
os.environ["HF_DATASETS_CACHE"] = tempfile.mkdtemp()
torch.set_num_threads(1)


def task(path):
    """The task of a file, as the harness's own YAML would say it."""
    first = json.loads(path.open().readline())
    files = {"task": path.stem, "dataset_path": "json", "dataset_kwargs": {"data_files": {"test": str(path)}}, "test_split": "test"}
    if "choices" in first:
        more = {"output_type": "multiple_choice", "doc_to_text": "{{query}}", "doc_to_choice": "{{choices}}", "doc_to_target": "{{gold}}"}
        return files | more | {"metric_list": [{"metric": "acc"}, {"metric": "acc_norm"}]}
    if "context_options" in first:
        more = {"output_type": "multiple_choice", "doc_to_text": "{{gold}}", "doc_to_choice": "{{context_options}}", "doc_to_target": "{{continuation}}"}
        return files | more | {"metric_list": [{"metric": "acc"}]}
    more = {"output_type": "loglikelihood", "doc_to_text": "{{context}}", "doc_to_target": "{{' ' + continuation}}"}
    return files | more | {"metric_list": [{"metric": "acc"}, {"metric": "perplexity"}]}


paths = sorted(DATA.rglob("*.jsonl"))
model = next(FOLDER.glob("*.gguf"))
command = [TRINE, "eval", "tasks", str(model), "--data", str(DATA), "--limit", str(LIMIT), "--json", "--quiet"]
own = json.loads(subprocess.run(command, check=True, capture_output=True).stdout)["results"]
args = {"pretrained": str(FOLDER), "dtype": "float32", "device": "cpu", "add_bos_token": True}
known = lm_eval.simple_evaluate(model="hf", model_args=args, tasks=[task(path) for path in paths], limit=LIMIT, bootstrap_iters=100)["results"]
different = 0
for path in paths:
    ours, theirs = own[path.stem], known[path.stem]
    row = []
    for key, name in (("acc", "acc,none"), ("stderr", "acc_stderr,none"), ("acc_norm", "acc_norm,none"), ("perplexity", "perplexity,none")):
        if (expected := theirs.get(name)) is None:
            continue
        found = ours[key]
        same = abs(found - expected) <= 1e-4 * max(1, abs(expected))
        different += not same
        row.append(f"{key} {found:.4f}" + ("" if same else f" (lm-eval {expected:.4f})"))
    print(f"{path.stem:28} {', '.join(row)}; {ours['examples']} examples, {ours['truncated']} truncated")
sys.exit(f"{different} numbers differ" if different else 0)
