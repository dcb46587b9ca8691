"""Dumps what sentence-transformers makes of the golden encoder `bert` when its small files say something else: golden/sentences.json.

    pip install  the packages of models.py, sentence-transformers==6.2.0
    python golden/sentences.py

Each case has the files that are put in place of those of encoders/bert (a list is a tensor file), a text, the prompt that is chosen by its
name, and the embedding, of length 1. `keys` are those of sentence-transformers' own modules.
"""

import json
import shutil
import tempfile
from importlib.metadata import version
from pathlib import Path

import sentence_transformers
import torch
import transformers
from safetensors.torch import save_file
from sentence_transformers.base.modules import Dense, Normalize, Transformer
from sentence_transformers.sentence_transformer.modules import Pooling

HERE = Path(__file__).parent
TEXT = "The miller counted 17 pear trees near the river, then wrote it"
OLD, NEW = "sentence_transformers.models.", "sentence_transformers.base.modules."
OF_NEW = dict(
    Transformer=NEW + "transformer.Transformer",
    Pooling="sentence_transformers.sentence_transformer.modules.pooling.Pooling",
    Dense=NEW + "dense.Dense",
    Normalize=NEW + "normalize.Normalize",
)


def modules(*kinds, new=False):
    paths = ["" if i == 0 else f"{i}_{kind}" for i, kind in enumerate(kinds)]
    types = [OF_NEW[kind] if new else OLD + kind for kind in kinds]
    return [dict(idx=i, name=str(i), path=path, type=kind) for i, (path, kind) in enumerate(zip(paths, types))]


def prompts(default=None, **more):
    return {"config_sentence_transformers.json": dict(prompts=dict(query="query: ", note="A note: "), default_prompt_name=default) | more}


def dense(place, bias, activation):
    generator = torch.Generator().manual_seed(place)
    tensors = {"linear.weight": (torch.randn(8, 32, generator=generator) * 16).round() / 64}
    if bias:
        tensors["linear.bias"] = (torch.randn(8, generator=generator) * 16).round() / 64
    config = dict(in_features=32, out_features=8, bias=bias, activation_function=activation)
    return {
        f"{place}_Dense/config.json": config,
        f"{place}_Dense/model.safetensors": {name: [list(tensor.shape), tensor.flatten().tolist()] for name, tensor in tensors.items()},
    }


POOLING = "1_Pooling/config.json"
V6 = {
    "modules.json": modules("Transformer", "Pooling", "Normalize", new=True),
    POOLING: dict(embedding_dimension=32, pooling_mode="mean", include_prompt=True),
    "2_Normalize/config.json": dict(module_input_name="sentence_embedding", module_output_name="sentence_embedding"),
    "sentence_bert_config.json": dict(
        transformer_task="feature-extraction",
        modality_config=dict(text=dict(method="forward", method_output_name="last_hidden_state")),
        module_output_name="token_embeddings",
    ),
    "config_sentence_transformers.json": dict(
        __version__=dict(sentence_transformers="6.2.0"),
        model_type="SentenceTransformer",
        prompts=dict(query="", document=""),
        default_prompt_name=None,
        similarity_fn_name="cosine",
    ),
}
TOKENIZER = json.loads((HERE / "encoders/bert/tokenizer_config.json").read_text())
TANH, IDENTITY = "torch.nn.modules.activation.Tanh", "torch.nn.modules.linear.Identity"
# The files of the model are in a folder within that of `modules.json`, as sentence-transformers saved them for years.
CLASSIC = {"modules.json": [dict(idx=i, name=str(i), path=f"{i}_{kind}", type=OLD + kind) for i, kind in enumerate(["Transformer", "Pooling"])]}
DEEP = {"modules.json": [module | dict(path=module["path"].replace("0_", "parts/0_")) for module in CLASSIC["modules.json"]]}
# Each row: files, and the name of the prompt.
CASES = {
    "as it is": ({}, None),
    "version 6": (V6, None),
    "what changes nothing": (
        {
            "modules.json": [module | dict(idx=7 - i, name=f"m{i}") for i, module in enumerate(modules("Transformer", "Pooling"))],
            POOLING: dict(word_embedding_dimension=999, pooling_mode_cls_token=True, include_prompt=True),
            "sentence_bert_config.json": dict(unpad_inputs=False, max_seq_length=64, do_lower_case=False),
            "config_sentence_transformers.json": dict(similarity_fn_name="dot", __version__=dict(sentence_transformers="2.2.2")),
        },
        None,
    ),
    "default prompt": (prompts("query"), None),
    "prompt by name": (prompts("query"), "note"),
    "prompt without a default": (prompts(), "query"),
    "prompt outside of pooling": (V6 | prompts("query") | {POOLING: dict(embedding_dimension=32, pooling_mode="mean", include_prompt=False)}, None),
    "prompt outside of cls": (V6 | prompts("query") | {POOLING: dict(embedding_dimension=32, pooling_mode="cls", include_prompt=False)}, None),
    "max_seq_length": (V6 | {"sentence_bert_config.json": dict(max_seq_length=9, do_lower_case=True)}, None),
    "model_max_length": (
        V6 | {"tokenizer_config.json": TOKENIZER | dict(model_max_length=7)},
        None,
    ),
    "truncation_side": (
        V6 | {"tokenizer_config.json": TOKENIZER | dict(model_max_length=7, truncation_side="left")},
        None,
    ),
    "truncate_dim": (V6 | prompts(truncate_dim=12), None),
    "last token": (V6 | {POOLING: dict(embedding_dimension=32, pooling_mode="lasttoken")}, None),
    "dense": ({"modules.json": modules("Transformer", "Pooling", "Dense", new=True)} | dense(2, True, TANH), None),
    "root of the length and dense": (
        V6
        | {"modules.json": modules("Transformer", "Pooling", "Dense"), POOLING: dict(embedding_dimension=32, pooling_mode_mean_sqrt_len_tokens=True)}
        | dense(2, True, IDENTITY),
        None,
    ),
    "classic": (CLASSIC, None),
    "classic with limits": (
        CLASSIC
        | {
            "0_Transformer/sentence_bert_config.json": dict(max_seq_length=9),
            "0_Transformer/tokenizer_config.json": TOKENIZER | dict(truncation_side="left"),
            "sentence_bert_config.json": dict(max_seq_length=5),
        },
        None,
    ),
    "classic with the tokenizer's limit": (
        CLASSIC | {"0_Transformer/tokenizer_config.json": TOKENIZER | dict(model_max_length=7), "tokenizer_config.json": TOKENIZER | dict(model_max_length=5)},
        None,
    ),
    "classic of RoBERTa": (CLASSIC | {"0_Transformer/sentence_roberta_config.json": dict(max_seq_length=8)}, None),
    "two folders deep": (DEEP, None),
    "normalized before dense": ({"modules.json": modules("Transformer", "Pooling", "Normalize", "Dense")} | dense(3, True, TANH), None),
}


def write(folder, files):
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.suffix == ".json":
            path.write_text(json.dumps(content))
        else:
            save_file({tensor: torch.tensor(values).view(shape) for tensor, (shape, values) in content.items()}, path)


def move(folder, files):
    """Puts the files of the model where `modules.json` says that they are."""
    place = files.get("modules.json", [dict(path="")])[0]["path"]
    if place:
        (folder / place).mkdir(parents=True)
        for name in ["config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"]:
            (folder / name).rename(folder / place / name)


def main():
    transformers.logging.set_verbosity_error()
    torch.set_num_threads(1)
    cases = []
    for name, (files, prompt) in CASES.items():
        with tempfile.TemporaryDirectory() as scratch:
            folder = Path(scratch) / "bert"
            shutil.copytree(HERE / "encoders/bert", folder)
            move(folder, files)
            write(folder, files)
            model = sentence_transformers.SentenceTransformer(str(folder), device="cpu", model_kwargs=dict(attn_implementation="eager"))
            embedding = model.encode(TEXT, prompt_name=prompt, normalize_embeddings=True, convert_to_tensor=True)
        embedding = [float(f"{x:.8g}") for x in embedding.tolist()]
        cases.append(dict(name=name, files=files, prompt=prompt, embedding=embedding))
    keys = {kind.__name__: kind.config_keys for kind in (Transformer, Pooling, Dense, Normalize)}
    versions = {package: version(package) for package in ("torch", "transformers", "sentence-transformers")}
    lines = ",\n ".join(json.dumps(case) for case in cases)
    rest = json.dumps(dict(versions=versions, keys=keys, text=TEXT))[:-1]
    (HERE / "sentences.json").write_text(f'{rest}, "cases": [\n {lines}\n]}}\n')


if __name__ == "__main__":
    main()
