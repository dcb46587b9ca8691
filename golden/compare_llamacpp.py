"""Compares with llama.cpp (and, for KL, with exact arithmetic). Results are JSON on standard output.

pip install xllamacpp==2026.10.11549 gguf==0.19.0 numpy==2.4.6 torch==2.15.0

python golden/compare_llamacpp.py golden
    For every golden/models/NAME/model.gguf that llama.cpp opens: whether its tokenizer gives the golden ids, the
    largest difference of its logits from the golden ones, and how many greedy ids agree. llama.cpp rounds activations
    to F16 or BF16 before it multiplies them with F16 or BF16 weights, and to int8 per 256 before ternary ones.

python golden/compare_llamacpp.py converted --trine TRINE [--formats f32,q8_0] [--models NAME,...]
    Every folder of golden/models as `trine convert` makes a GGUF file of it, in each format that its rows can have:
    what llama.cpp says if it does not open it, else whether the tokenizer gives the golden ids, the largest difference
    of its logits from the golden ones, and how many greedy ids are those of `trine run`, of how many.

python golden/compare_llamacpp.py greedy --gguf FILE --prompts PROMPTS.json [--n 64]
    PROMPTS.json: a list of texts. Prints for each the prompt's ids and the n greedy ids, float32 key/value cache.

python golden/compare_llamacpp.py tokens --gguf FILE --text TEXT [--windows 16] [--tokens 256] > IDS.json
    A list of windows of token ids of a text (each begins with the beginning of sequence), the input of `kl`.

python golden/compare_llamacpp.py quantize --gguf F32.gguf --kind Q4_K --out FILE
    Every matrix of an F32 file in one type, by llama.cpp's quantiser.

python golden/compare_llamacpp.py kl --gguf FILE --tokens IDS.json [--trine LOGITS.f32]
    FILE: architecture `llama`, any type that PyPI gguf can dequantise. The exact logits are a float64 forward pass over
    the dequantised weights. LOGITS.f32: raw float32 little-endian [positions, vocab], the windows one after another,
    a row for every id. Prints over all positions the mean of KL(exact || other) in nats per token with its standard
    error over windows, the largest KL, and the share of positions whose best token is the same, for llama.cpp and Trine.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import gguf
import numpy as np
import torch

import llama
import llamacpp

GOLDEN = Path(__file__).parent / "models"


def golden(_args):
    report = {}
    for folder in sorted(GOLDEN.iterdir()):
        path = folder / "model.gguf"
        if not path.exists():
            continue
        facts = json.loads((folder / "golden.json").read_text())
        expected = np.fromfile(folder / "logits.f32", dtype="<f4").reshape(-1, facts["vocab"])
        try:
            model = llamacpp.Model(path)
        except RuntimeError as error:
            report[folder.name] = str(error)
            continue
        rows, agreeing, tokenizer = [], 0, True
        for prompt in facts["prompts"]:
            tokenizer &= model.tokenize(prompt["text"]) == prompt["ids"]
            model.clear()
            rows.append(model.decode(prompt["ids"]))
            greedy = model.greedy(prompt["ids"], len(prompt["greedy"]))
            agreeing += next((i for i, (a, b) in enumerate(zip(greedy, prompt["greedy"])) if a != b), len(greedy))
        difference = np.abs(np.concatenate(rows) - expected).max()
        report[folder.name] = dict(
            same_ids=tokenizer,
            largest_difference=float(difference),
            logits_std=float(expected.std()),
            greedy_agreeing=agreeing,
        )
        model.close()
    return report


def converted(args):
    report = {}
    for folder in sorted(GOLDEN.iterdir()):
        if args.models and folder.name not in args.models.split(","):
            continue
        facts = json.loads((folder / "golden.json").read_text())
        for kind in args.formats.split(","):
            with tempfile.TemporaryDirectory() as out:
                path = f"{out}/model.gguf"
                report.setdefault(folder.name, {})[kind] = one_converted(args.trine, folder, facts, kind, path)
        print(folder.name, json.dumps(report[folder.name]), file=sys.stderr)
    return report


def one_converted(trine, folder, facts, kind, path):
    ran = subprocess.run([trine, "convert", folder, path, "--format", kind, "--really"], capture_output=True, text=True)
    if ran.returncode:
        return "not converted: " + ran.stderr.strip().splitlines()[0]
    try:
        model = llamacpp.Model(path)
    except RuntimeError as error:
        return str(error)
    expected = np.fromfile(folder / "logits.f32", dtype="<f4").reshape(-1, facts["vocab"])
    rows, agreeing, asked, tokenizer = [], 0, 0, True
    for prompt in facts["prompts"]:
        n = len(prompt["greedy"])
        tokenizer &= model.tokenize(prompt["text"]) == prompt["ids"]
        model.clear()
        rows.append(model.decode(prompt["ids"]))
        theirs = model.greedy(prompt["ids"], n)
        command = [trine, "run", path, prompt["text"], "--raw", "--json", "--temperature", "0", "--max-tokens", str(n)]
        ran = subprocess.run(command, capture_output=True, text=True)
        if ran.returncode:
            return "not run: " + ran.stderr.strip().splitlines()[0]
        ours = json.loads(ran.stdout)["ids"]
        agreeing += next((i for i, (a, b) in enumerate(zip(theirs, ours)) if a != b), len(ours))
        asked += len(ours)
    model.close()
    difference = float(np.abs(np.concatenate(rows) - expected).max())
    return dict(same_ids=tokenizer, largest_difference=difference, greedy_agreeing=[agreeing, asked])


def greedy(args):
    model = llamacpp.Model(args.gguf, n_ctx=1024)
    report = []
    for text in json.loads(Path(args.prompts).read_text()):
        ids = model.tokenize(text)
        report.append(dict(prompt=text, prompt_ids=ids, greedy_ids=model.greedy(ids, args.n)))
    return report


def tokens(args):
    model = llamacpp.Model(args.gguf)
    bos, *ids = model.tokenize(Path(args.text).read_text(encoding="utf-8")[: args.windows * args.tokens * 20])
    step = args.tokens - 1
    windows = [[bos, *ids[i * step : (i + 1) * step]] for i in range(args.windows)]
    assert len(windows[-1]) == args.tokens, "the text is too short"
    return windows


def quantize(args):
    kind = gguf.GGMLQuantizationType[args.kind]
    reader = gguf.GGUFReader(args.gguf)
    writer = gguf.GGUFWriter(args.out, reader.fields["general.architecture"].contents())
    llama.copy_metadata(writer, args.gguf, ("general.name", "llama.", "tokenizer."))
    writer.add_quantization_version(gguf.GGML_QUANT_VERSION)
    for tensor in reader.tensors:
        if tensor.data.ndim == 2:
            writer.add_tensor(tensor.name, llamacpp.quantize(tensor.data, kind), raw_dtype=kind)
        else:
            writer.add_tensor(tensor.name, tensor.data)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return dict(out=args.out)


def log_probabilities(logits):
    return torch.log_softmax(torch.as_tensor(logits).double(), dim=-1)


def divergence(exact, others):
    """What `kl` prints of one program: `others` are logits [tokens, vocab] per window, as `exact` are."""
    kl, same = [], []
    for p, q in zip(map(log_probabilities, exact), map(log_probabilities, others)):
        kl.append((p.exp() * (p - q)).sum(-1))
        same.append((p.argmax(-1) == q.argmax(-1)).double())
    means = torch.stack([window.mean() for window in kl])
    return dict(
        kl=means.mean().item(),
        standard_error=(means.std() / len(means) ** 0.5).item(),
        largest=torch.cat(kl).max().item(),
        same_best=torch.cat(same).mean().item(),
    )


def kl(args):
    windows = json.loads(Path(args.tokens).read_text())
    spec, weights = llama.read(args.gguf)
    with torch.no_grad():
        exact = [llama.forward(spec, weights, torch.tensor(ids)) for ids in windows]
    model = llamacpp.Model(args.gguf, n_ctx=max(map(len, windows)))
    theirs = []
    for ids in windows:
        model.clear()
        theirs.append(model.decode(ids))
    report = dict(gguf=args.gguf, positions=sum(map(len, windows)), llama_cpp=divergence(exact, theirs))
    if args.trine:
        ours = np.fromfile(args.trine, dtype="<f4").reshape(-1, model.n_vocab)
        if len(ours) != report["positions"]:
            sys.exit(f"{args.trine}: {len(ours)} rows of {model.n_vocab} logits, expected {report['positions']}")
        report["trine"] = divergence(exact, np.split(ours, np.cumsum([len(ids) for ids in windows])[:-1]))
    return report


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(required=True)
    for command, options in {
        golden: {},
        converted: {
            "--trine": {},
            "--formats": dict(default="f32"),
            "--models": dict(default=None),
        },
        greedy: {"--gguf": {}, "--prompts": {}, "--n": dict(type=int, default=64)},
        tokens: {
            "--gguf": {},
            "--text": {},
            "--windows": dict(type=int, default=16),
            "--tokens": dict(type=int, default=256),
        },
        quantize: {"--gguf": {}, "--kind": {}, "--out": {}},
        kl: {"--gguf": {}, "--tokens": {}, "--trine": dict(default=None)},
    }.items():
        sub = commands.add_parser(command.__name__)
        sub.set_defaults(run=command)
        for name, option in options.items():
            sub.add_argument(name, **(option or dict(required=True)))
    args = parser.parse_args()
    print(json.dumps(args.run(args), indent=1 if args.run in (golden, converted, kl) else None))


if __name__ == "__main__":
    main()
