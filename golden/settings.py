"""The tokens and chat templates that transformers gives with the small files beside a tokenizer, in every arrangement that it reads, and the keys of
those files.

    pip install transformers==5.24.0 sentencepiece==0.2.3 gguf==0.19.0
    python golden/settings.py golden/tokenizers

settings.json: the tokenizer's file of golden/tokenizers, if it is one, the other files of the folder by name, and texts with their tokens.
chat_templates.json: files, and the prompts of chats without tools, with an empty list of them, with one, and with the template of a name (null: an error);
gguf_templates.json: lists of templates, and the keys that PyPI gguf makes of them. splits.json: pre-tokenizers in place of that of golden/models/qwen2,
normalizers, and texts with their tokens by PyPI tokenizers. keys.json: the keys that transformers writes to, or reads from each file, and
those of GGUF's tokenizer.
"""

import inspect
import json
import pathlib
import re
import sys
import tempfile

import gguf
import transformers
from tokenizers import Regex, Tokenizer, models, pre_tokenizers, trainers
from transformers import AutoTokenizer, GenerationConfig, Qwen2Tokenizer

TEXTS = ["Hi<|im_start|>user the cat<|im_end|>", "a <|x|> b<|im_end|>", " a<s>the", "<|im_start|> the", "the  cat<|im_start|>x", "a<y>b <y> c", ""]


def added(*names, **flags):
    return [dict(content=name, **flags) for name in names]


def decoder(first, *tokens):
    return {"added_tokens_decoder": {str(first + at): token for at, token in enumerate(tokens)}}


CHAT = ["<|im_start|>", "<|im_end|>"]
SPECIAL = added(*CHAT, special=True, normalized=False)
MAP = "special_tokens_map.json"
CONFIG = "tokenizer_config.json"
ADDED = "added_tokens.json"
FAST = {"tokenizer_class": "PreTrainedTokenizerFast"}
LLAMA = {"tokenizer_class": "LlamaTokenizer"}


def folders(n):
    """The folders of a tokenizer with `n` tokens."""
    later = {name: n + at for at, name in enumerate(CHAT)}
    return [
        {CONFIG: {}},
        {CONFIG: decoder(n, *SPECIAL)},
        {CONFIG: decoder(n, *SPECIAL) | {"eos_token": CHAT[1]}},
        {CONFIG: {"eos_token": CHAT[1], "additional_special_tokens": [CHAT[0], "<|x|>"]}},
        {CONFIG: {"extra_special_tokens": CHAT}},
        {CONFIG: {"extra_special_tokens": {"image_token": "<|x|>", "start_token": CHAT[0]}, "end_token": CHAT[1]}},
        {CONFIG: {}, ADDED: later},
        {ADDED: later, MAP: {"eos_token": CHAT[1], "bos_token": {"content": CHAT[0], "lstrip": False, "rstrip": False}}},
        {CONFIG: {"eos_token": "<s>"}, ADDED: later, MAP: {"extra_special_tokens": CHAT, "pad_token": "<|x|>"}},
        {CONFIG: {"eos_token": "<s>"}, MAP: {"additional_special_tokens": CHAT, "pad_token": "<|x|>"}},
        {CONFIG: decoder(n, *SPECIAL), ADDED: {"<|x|>": n}, MAP: {"pad_token": "<y>"}},
        {CONFIG: decoder(n, *added("<y>", special=False, normalized=True))},
    ]


def rows(path):
    for name, classes in [("byte-level.json", FAST), ("byte-fallback.json", FAST), ("unigram.json", FAST), ("spm-bpe.model", LLAMA)]:
        file = "tokenizer" + pathlib.Path(name).suffix
        base = {file: (path / name).read_bytes()}
        n = len(load(base | {CONFIG: classes}))
        tables = folders(n)
        if name.endswith(".model"):
            # LlamaTokenizer of transformers 5 forgets what only the map has.
            tables = [table for table in tables if "additional_special_tokens" not in table.get(MAP, {})]
            tables = [table | {CONFIG: table.get(CONFIG, {}) | {"legacy": legacy}} for table in tables for legacy in (False, True)]
        for table in tables:
            table = table | {CONFIG: classes | table.get(CONFIG, {})}
            tokenizer = load(base | table)
            texts = [[text, tokenizer.encode(text, add_special_tokens=False)] for text in TEXTS]
            yield {"tokenizer": name, "files": table, "texts": texts, "special": sorted(tokenizer.all_special_ids)}


def slow():
    """Folders without tokenizer.json."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    special = ["<|endoftext|>", "<s>", "</s>", "<unk>", "<pad>", "<mask>"]
    trainer = trainers.BpeTrainer(vocab_size=300, special_tokens=special, initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()))
    tokenizer.train_from_iterator(TEXTS * 3, trainer)
    model = json.loads(tokenizer.to_str())["model"]
    bpe = {"vocab.json": model["vocab"], "merges.txt": "#version: 0.2\n" + "".join(f"{a} {b}\n" for a, b in model["merges"])}
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "the", "cat", "hi", "user", "a", "b", "##t", "H", "Hi", "<", ">", "|"]
    bert = {"vocab.txt": "".join(word + "\n" for word in words)}
    config = {"config.json": {"model_type": "gpt2"}}
    for files, configs in [
        (bpe, [{"tokenizer_class": "GPT2Tokenizer"}, {"tokenizer_class": "GPT2TokenizerFast", "add_prefix_space": True},
               {"tokenizer_class": "GPT2Tokenizer", "add_bos_token": True, "bos_token": "<s>", "additional_special_tokens": CHAT},
               {"tokenizer_class": "Qwen2Tokenizer"}, {"tokenizer_class": "RobertaTokenizer"}]),
        (bert, [{"tokenizer_class": "BertTokenizer"}, {"tokenizer_class": "BertTokenizer", "do_lower_case": False}]),
    ]:
        for table in configs:
            table = files | config | {CONFIG: table}
            tokenizer = load(table)
            texts = [[text, tokenizer.encode(text, add_special_tokens=False)] for text in TEXTS]
            yield {"tokenizer": None, "files": table, "texts": texts, "around": tokenizer.encode(""), "special": []}


def templates(path):
    base = {"tokenizer.json": (path / "byte-level.json").read_bytes()}
    named = lambda *names: [{"name": name, "template": name + ": {{ tools | tojson }}"} for name in names]
    jinja, folder = "chat_template.jinja", "additional_chat_templates/"
    for files in [
        {},
        {CONFIG: {"chat_template": "own"}},
        {CONFIG: {"chat_template": named("rag", "default")}},
        {CONFIG: {"chat_template": {"default": "of an object", "rag": "r"}}},
        {CONFIG: {"chat_template": named("rag", "tool_use")}},
        {CONFIG: {"chat_template": named("default", "tool_use", "rag")}},
        {CONFIG: {"chat_template": named("default")}},
        {CONFIG: {"chat_template": named("rag")}},
        {CONFIG: {"chat_template": named("tool_use")}},
        {CONFIG: {"chat_template": named("tool_use", "default", "default")}},
        {CONFIG: {"chat_template": {"tool_use": "t", "default": "d"}}},
        {CONFIG: {"chat_template": []}},
        {jinja: "jinja"},
        {jinja: "jinja", CONFIG: {"chat_template": "own"}},
        {jinja: "jinja", folder + "rag.jinja": "r"},
        {jinja: "jinja", folder + "tool_use.jinja": "t", folder + "notes.txt": "n"},
        {jinja: "jinja", CONFIG: {"chat_template": named("default", "tool_use")}},
        {folder + "tool_use.jinja": "t"},
        {folder + "tool_use.jinja": "t", folder + "default.jinja": "d", CONFIG: {"chat_template": named("rag", "default")}},
        {folder + "default.jinja": "default"},
        {folder + "default.jinja": "default", jinja: "jinja"},
        {folder + "default.jinja": "default", CONFIG: {"chat_template": "own"}},
        {folder + "rag.jinja": "r", CONFIG: {"chat_template": "own"}},
    ]:
        tokenizer = load(base | files | {CONFIG: FAST | files.get(CONFIG, {})})
        yield [files, *(prompt(tokenizer, **how) for how in [{}, {"tools": []}, {"tools": TOOLS}, {"tools": TOOLS, "chat_template": "rag"}])]


TOOLS = [{"type": "function", "function": {"name": "now"}}]


def prompt(tokenizer, chat_template=None, **how):
    named = isinstance(tokenizer.chat_template, dict) and chat_template in tokenizer.chat_template
    if chat_template and not named:
        # transformers takes it for the source of a template.
        return None
    try:
        return tokenizer.apply_chat_template([{"role": "user", "content": "Hi"}], chat_template=chat_template, tokenize=False, **how)
    except ValueError:
        return None


def gguf_templates():
    """What llama.cpp's converter writes."""
    named = lambda *names: [{"name": name, "template": name} for name in names]
    for templates in ["one", named("default"), named("default", "tool_use", "a-b.c"), named("rag", "tool_use")]:
        with tempfile.TemporaryDirectory() as folder:
            path = pathlib.Path(folder) / "model.gguf"
            writer = gguf.GGUFWriter(path, "llama")
            writer.add_chat_template(templates)
            writer.write_header_to_file()
            writer.write_kv_data_to_file()
            writer.close()
            fields = gguf.GGUFReader(path).fields
            keys = {name: fields[name].contents() for name in fields if "chat_template" in name}
        yield [templates, {key: sorted(value) if isinstance(value, list) else value for key, value in sorted(keys.items())}]


def splits(path):
    """What a tokenizer.json of Qwen 2 means by itself: transformers 5 takes split and normalizer of its class instead."""
    file = json.loads((path.parent / "models/qwen2/tokenizer.json").read_text(encoding="utf-8"))
    level = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    qwen = json.loads(Qwen2Tokenizer().backend_tokenizer.to_str())["pre_tokenizer"]["pretokenizers"][0]["pattern"]["Regex"]
    texts = ["the miller's  17 pear trees, near 2023", "The MILLER\n\n counted\t8 pears", "cafe\u0301 caf\u00e9 \u6cb3\u6d41 12345"]
    patterns = [qwen, qwen.replace("\\p{N}|", "\\p{N}{1,3}|"), "[a-z]{1,2}|\\s", "\\S+|\\s+"]
    for pattern, normalizer in [*((pattern, None) for pattern in patterns), (qwen, {"type": "NFC"}), (patterns[2], {"type": "Lowercase"})]:
        split = pre_tokenizers.Split(Regex(pattern), behavior="isolated", invert=False)
        tokenizer = Tokenizer.from_str(json.dumps(file | {"normalizer": normalizer}))
        tokenizer.pre_tokenizer = pre_tokenizers.Sequence([split, level])
        found = json.loads(tokenizer.to_str())
        yield [{key: found[key] for key in ("pre_tokenizer", "normalizer")}, [[text, tokenizer.encode(text, add_special_tokens=False).ids] for text in texts]]


def keys():
    """Arguments of the tokenizers' classes, and what their base class takes from its keyword arguments."""
    source = inspect.getsource(transformers.tokenization_utils_base) + inspect.getsource(transformers.tokenization_utils_tokenizers)
    taken = set(re.findall(r"""kwargs\.(?:pop|get|setdefault)\(\s*"(\w+)\"""", source)) - CALLS
    classes = ["LlamaTokenizer", "GPT2Tokenizer", "Qwen2Tokenizer", "BertTokenizer", "RobertaTokenizer", "GPTNeoXTokenizer", "GemmaTokenizer",
               "CohereTokenizer", "CodeGenTokenizer"]
    classes = [getattr(transformers, name) for name in classes if hasattr(transformers, name)]
    named = {name for kind in classes for name in inspect.signature(kind.__init__).parameters}
    config = taken | named - {"self", "args", "kwargs", "vocab", "merges"}
    tokenizer = {value for name, value in vars(gguf.Keys.Tokenizer).items() if isinstance(value, str) and not name.startswith("_")}
    generation = set(GenerationConfig().to_dict()) | set(GenerationConfig._get_default_generation_params())
    generation |= set(re.findall(r"""kwargs\.pop\(\s*"(\w+)\"""", inspect.getsource(GenerationConfig.__init__)))
    return {
        "generation_config.json": sorted(generation),
        CONFIG: sorted(config),
        "GGUF": sorted(key for key in tokenizer if "{" not in key),
    }


# What these modules take from the arguments of calls, and pass to each other, not from the file.
CALLS = set(
    "_from_auto _from_pipeline _json_padding _json_truncation _spm_precompiled_charsmap commit_message files_loaded force_download gguf_file"
    " max_target_length merges post_processor proxies repo_id revision sanitize_control_tokens save_jinja_files subfolder token tokenizer"
    " tokenizer_object tokenizer_padding tokenizer_truncation unk_id use_source_tokenizer vocab".split()
)


def load(files):
    with tempfile.TemporaryDirectory() as folder:
        for name, content in files.items():
            content = content if isinstance(content, bytes) else content.encode() if isinstance(content, str) else json.dumps(content).encode()
            path = pathlib.Path(folder) / name
            path.parent.mkdir(exist_ok=True)
            path.write_bytes(content)
        return AutoTokenizer.from_pretrained(folder)


def main(path):
    for name, found in [("settings.json", [*rows(path), *slow()]), ("chat_templates.json", templates(path)), ("gguf_templates.json", gguf_templates()),
                        ("splits.json", splits(path))]:
        lines = ",\n".join(json.dumps(row, ensure_ascii=False) for row in found)
        (path / name).write_text(f"[\n{lines}\n]\n", encoding="utf-8")
    lines = ",\n".join(f"{json.dumps(file)}: {json.dumps(list)}" for file, list in keys().items())
    (path / "keys.json").write_text(f"{{\n{lines}\n}}\n", encoding="utf-8")


main(pathlib.Path(sys.argv[1]))
