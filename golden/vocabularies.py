"""Small tokenizers of every kind, and the tokens that their own libraries give, from PyPI.

    pip install sentencepiece==0.2.3 tokenizers==0.23.3 tiktoken==0.14.0
    python golden/vocabularies.py golden/tokenizers [../shared/data/tokenizers]

Writes the files of the tokenizers and golden.json: for each of them texts, ids and the text of the ids. With the folder of published tokenizers, theirs too, under `shared/...`; these files are not copied.
"""

import base64
import json
import pathlib
import sys
import tempfile

import sentencepiece
import tiktoken
from sentencepiece import sentencepiece_model_pb2
from tokenizers import (AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors,
                        trainers)

import text

HERE = pathlib.Path(__file__).resolve().parent

TEXTS = text.TEXTS + [
    "",
    "ﬁne ½ ① \u212b ｆｕｌｌｗｉｄｔｈ ㌔ ﷺ",
    "a<sep>b <sep> c<sep><sep>",
    " <sep> x",
    "▁already▁ escaped ▁",
    "xxxxxxxxxx ###### aaaa bbbbbbb      y",
    "Zażółć gęślą jaźń. Ünïcödé!",
    "\ue000 \U000f0000 \ufffd \u0378 \ufffe \u200d",
    "I don't, you won't ; it 's (fine) , ok ?! a.b",
    "<mask>masked <mask> word<mask>!",
    "extra<x>extra <x>  tail",
    "the " * 40,
    "supercalifragilistic" * 8,
]
CORPUS = (TEXTS + [line for line in (HERE / "text.py").read_text(encoding="utf-8").splitlines() if line]) * 3

# A few of the rules of NFKC, by which a file stays small.
RULES = {"ﬁ": "fi", "½": "1⁄2", "①": "1", "\u212b": "\u00c5", "ｆ": "f", "ｕ": "u", "ｌ": "l", "e\u0301": "é", "\u3000": " ", "\u00a0": " ",
         "\t": " ", "\n": " ", "\r": "", "㌔": "キロ", "\u200b": "", "…": "..."}


def sentencepiece_files(folder):
    options = {
        "spm-bpe": {"model_type": "bpe", "byte_fallback": True, "normalization_rule_name": "identity",
                    "remove_extra_whitespaces": False, "allow_whitespace_only_pieces": True},
        "spm-bpe-rules": {"model_type": "bpe", "user_defined_symbols": ["<sep>", "▁▁", "aaa"]},
        "spm-unigram": {"model_type": "unigram", "user_defined_symbols": ["<sep>"]},
        "spm-unigram-bytes": {"model_type": "unigram", "byte_fallback": True, "normalization_rule_name": "identity",
                              "remove_extra_whitespaces": False, "add_dummy_prefix": False, "split_by_whitespace": False},
    }
    with tempfile.TemporaryDirectory() as temporary:
        rules = pathlib.Path(temporary) / "rules.tsv"
        code = lambda s: " ".join(f"{ord(c):X}" for c in s)
        rules.write_text("".join(f"{code(a)}\t{code(b)}\n" for a, b in RULES.items()))
        for name, more in options.items():
            if "normalization_rule_name" not in more:
                more = more | {"normalization_rule_tsv": str(rules)}
            sentencepiece.SentencePieceTrainer.train(
                sentence_iterator=iter(CORPUS), model_prefix=str(folder / name), vocab_size=700, hard_vocab_limit=False,
                minloglevel=2, num_threads=1, character_coverage=0.98, **more)
            (folder / f"{name}.vocab").unlink()


def wordpiece(lowercase, strip_accents):
    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=lowercase, strip_accents=strip_accents)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece()
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    tokenizer.train_from_iterator(CORPUS, trainers.WordPieceTrainer(vocab_size=600, special_tokens=special))
    tokenizer.post_processor = processors.TemplateProcessing("[CLS] $0 [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)])
    return tokenizer


def unigram():
    tokenizer = Tokenizer(models.Unigram())
    tokenizer.normalizer = normalizers.Sequence([normalizers.Nmt(), normalizers.NFKC(), normalizers.Replace(Regex(" {2,}"), " ")])
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Metaspace()
    trainer = trainers.UnigramTrainer(vocab_size=500, unk_token="<unk>", special_tokens=["<pad>", "</s>", "<unk>"])
    tokenizer.train_from_iterator(CORPUS, trainer)
    tokenizer.add_special_tokens([AddedToken("<mask>", lstrip=True, special=True)])
    tokenizer.post_processor = processors.TemplateProcessing("$0 </s>", special_tokens=[("</s>", 1)])
    return tokenizer


def unigram_of(path):
    """As transformers makes the tokenizer.json of a file of SentencePiece."""
    model = sentencepiece_model_pb2.ModelProto.FromString(path.read_bytes())
    vocab = [(piece.piece, piece.score) for piece in model.pieces]
    tokenizer = Tokenizer(models.Unigram(vocab, model.trainer_spec.unk_id, byte_fallback=False))
    tokenizer.normalizer = normalizers.Precompiled(model.normalizer_spec.precompiled_charsmap)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Metaspace()])
    tokenizer.decoder = decoders.Metaspace()
    tokenizer.add_special_tokens(["<unk>", "<s>", "</s>"])
    tokenizer.add_tokens([AddedToken("<sep>", normalized=False)])
    tokenizer.post_processor = processors.TemplateProcessing("$0 </s>", special_tokens=[("</s>", 2)])
    return tokenizer


def byte_fallback(prefix):
    """As the tokenizer.json of Llama 2 (with a space in front) and Gemma (without)."""
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>", fuse_unk=True, byte_fallback=True))
    replace = normalizers.Replace(" ", "▁")
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), replace]) if prefix else replace
    trainer = trainers.BpeTrainer(vocab_size=500, special_tokens=["<unk>", "<s>", "</s>"] + [f"<0x{i:02X}>" for i in range(256)],
                                  limit_alphabet=80)
    tokenizer.pre_tokenizer = pre_tokenizers.Split("▁", "merged_with_next")
    tokenizer.train_from_iterator(CORPUS, trainer)
    tokenizer.pre_tokenizer = None
    state = json.loads(tokenizer.to_str())
    state["added_tokens"] = [token for token in state["added_tokens"] if not token["content"].startswith("<0x")]
    tokenizer = Tokenizer.from_str(json.dumps(state))
    steps = [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()]
    tokenizer.decoder = decoders.Sequence(steps + [decoders.Strip(" ", 1, 0)] if prefix else steps)
    return tokenizer


def byte_level():
    """Byte-level BPE whose added tokens take spaces with them, stand alone, or are looked for in the normalised text."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)])
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(vocab_size=500, special_tokens=["<s>"], initial_alphabet=pre_tokenizers.ByteLevel.alphabet())
    tokenizer.train_from_iterator(CORPUS, trainer)
    tokenizer.add_tokens([AddedToken("<x>", rstrip=True), AddedToken("<sep>", lstrip=True, normalized=False), AddedToken("the", single_word=True)])
    tokenizer.add_special_tokens([AddedToken("<mask>", lstrip=True, rstrip=True, special=True)])
    return tokenizer


def llama_3(path):
    lines = [line.split() for line in path.read_bytes().splitlines()]
    ranks = {base64.b64decode(token): int(rank) for token, rank in lines}
    pattern = text.MODELS["llama-bpe"][0]
    special = {"<|begin_of_text|>": 128000, "<|end_of_text|>": 128001, "<|start_header_id|>": 128006, "<|end_header_id|>": 128007,
               "<|eot_id|>": 128009}
    return tiktoken.Encoding("llama-3", pat_str=pattern, mergeable_ranks=ranks, special_tokens=special)


def rows(encode, decode, unk=None):
    """Unknown tokens are no text to us, and some to SentencePiece; a space and U+2581 are one to it."""
    found = []
    for text in TEXTS:
        ids = encode(text)
        found.append([text, ids, None if unk in ids or "▁" in text else decode(ids)])
    return found


def is_tie(model, text):
    """Whether rounding decides: SentencePiece sums probabilities in float32, so that a word is cut this way or that by where it stands."""
    best = model.nbest_encode(text, nbest_size=2, out_type="proto").nbests
    return len(best) == 2 and abs(best[0].score - best[1].score) < 1e-3


def main(folder, shared):
    folder.mkdir(exist_ok=True)
    sentencepiece_files(folder)
    files = {
        "wordpiece.json": wordpiece(True, None), "wordpiece-cased.json": wordpiece(False, False), "unigram.json": unigram(),
        "unigram-of-spm.json": unigram_of(folder / "spm-unigram.model"),
        "byte-fallback.json": byte_fallback(True), "byte-fallback-bare.json": byte_fallback(False), "byte-level.json": byte_level(),
    }
    for name, tokenizer in files.items():
        tokenizer.save(str(folder / name), pretty=False)
    golden = {}
    models = {path.name: path for path in sorted(folder.glob("*.model"))}
    if shared:
        models |= {f"shared/{name}": shared / name for name in ["llama2/tokenizer.model", "test_model.model", "test_ja_model.model"]}
    for name, path in models.items():
        model = sentencepiece.SentencePieceProcessor(model_file=str(path))
        golden[name] = rows(model.encode, model.decode, model.unk_id())
        if "bpe" not in name and "llama2" not in name:
            golden[name] = [row for row in golden[name] if not is_tie(model, row[0])]
    for name, tokenizer in files.items():
        golden[name] = rows(lambda text: tokenizer.encode(text, add_special_tokens=False).ids, lambda ids: tokenizer.decode(ids, skip_special_tokens=True))
    if shared:
        encoding = llama_3(shared / "llama3/tokenizer.model")
        golden["shared/llama3/tokenizer.model"] = rows(encoding.encode_ordinary, encoding.decode)
    lines = [f"{json.dumps(name)}: [\n" + ",\n".join(json.dumps(row) for row in golden[name]) + "\n]" for name in golden]
    (folder / "golden.json").write_text("{\n" + ",\n".join(lines) + "\n}\n")


main(pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2]) if len(sys.argv) > 2 else None)
