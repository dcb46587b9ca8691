"""What llama.cpp's samplers leave of logits: writes golden/samplers.json.

A case is a chain of samplers in llama.cpp's order, which `options` turn on by the names of `Sampling`; the logits of tokens 0, 1, ... (`zeros`: so many
zeros); the tokens before; and what is left: [id, probability]. Of DRY, whose tokens are those of assets/stories.gguf, the logits that changed.
A case of Mirostat is a sequence of draws, of which each has the tokens that were kept and the one that was drawn.

    python golden/samplers.py
"""

import ctypes
import json
from ctypes import POINTER, Structure, byref, c_bool, c_char_p, c_float, c_int32, c_int64, c_size_t, c_uint32, c_void_p
from pathlib import Path

import numpy as np
import xllamacpp

from llamacpp import LIB, Model

HERE = Path(__file__).parent


class TokenData(Structure):
    _fields_ = [("id", c_int32), ("logit", c_float), ("p", c_float)]


class TokenDataArray(Structure):
    _fields_ = [("data", POINTER(TokenData)), ("size", c_size_t), ("selected", c_int64), ("sorted", c_bool)]


SIGNATURES = {
    "llama_sampler_init_top_n_sigma": [c_float],
    "llama_sampler_init_top_k": [c_int32],
    "llama_sampler_init_typical": [c_float, c_size_t],
    "llama_sampler_init_top_p": [c_float, c_size_t],
    "llama_sampler_init_min_p": [c_float, c_size_t],
    "llama_sampler_init_xtc": [c_float, c_float, c_size_t, c_uint32],
    "llama_sampler_init_temp_ext": [c_float, c_float, c_float],
    "llama_sampler_init_temp": [c_float],
    "llama_sampler_init_mirostat_v2": [c_uint32, c_float, c_float],
    "llama_sampler_init_penalties": [c_int32, c_float, c_float, c_float],
    "llama_sampler_init_dry": [c_void_p, c_float, c_float, c_int32, c_int32, POINTER(c_char_p), c_size_t],
}
for name, argtypes in SIGNATURES.items():
    getattr(LIB, name).restype, getattr(LIB, name).argtypes = c_void_p, argtypes
for name, argtypes in {
    "llama_sampler_apply": [c_void_p, POINTER(TokenDataArray)],
    "llama_sampler_accept": [c_void_p, c_int32],
    "llama_sampler_free": [c_void_p],
}.items():
    getattr(LIB, name).restype, getattr(LIB, name).argtypes = None, argtypes

# What `sampling` gives is a part of it.
PARAMS = xllamacpp.CommonParams()
DEFAULTS = PARAMS.sampling
# `common_params_sampling::dry_sequence_breakers`, which xllamacpp does not show.
BREAKERS = ["\n", ":", '"', "*"]


def samplers(model, options):
    """The samplers that `options` turn on, in the order of `common_sampler_init`."""
    get = lambda name, default: options.get(name, default)
    keep = get("min_keep", 0)
    temperature = (get("temperature", 1.0), get("dynatemp_range", 0.0), get("dynatemp_exponent", 1.0))
    if get("mirostat", 0) == 2:
        eta = get("mirostat_eta", DEFAULTS.mirostat_eta)
        mirostat = LIB.llama_sampler_init_mirostat_v2(1, get("mirostat_tau", DEFAULTS.mirostat_tau), eta)
        return [LIB.llama_sampler_init_temp(temperature[0]), mirostat]
    breakers = [text.encode() for text in get("dry_sequence_breakers", BREAKERS)]
    dry = (
        get("dry_multiplier", 0.0),
        get("dry_base", DEFAULTS.dry_base),
        get("dry_allowed_length", DEFAULTS.dry_allowed_length),
        get("dry_penalty_last_n", DEFAULTS.dry_penalty_last_n),
        (c_char_p * len(breakers))(*breakers),
        len(breakers),
    )
    penalties = (
        get("repeat_last_n", DEFAULTS.penalty_last_n),
        get("repetition_penalty", 1.0),
        get("frequency_penalty", 0.0),
        get("presence_penalty", 0.0),
    )
    xtc = (get("xtc_probability", 0.0), get("xtc_threshold", DEFAULTS.xtc_threshold), keep, 1)
    return [
        LIB.llama_sampler_init_penalties(*penalties),
        LIB.llama_sampler_init_dry(model.vocab, *dry),
        LIB.llama_sampler_init_top_n_sigma(get("top_n_sigma", -1.0)),
        LIB.llama_sampler_init_top_k(get("top_k", 0)),
        LIB.llama_sampler_init_typical(get("typical_p", 1.0), keep),
        LIB.llama_sampler_init_top_p(get("top_p", 1.0), keep),
        LIB.llama_sampler_init_min_p(get("min_p", 0.0), keep),
        LIB.llama_sampler_init_xtc(*xtc),
        LIB.llama_sampler_init_temp_ext(*temperature),
    ]


def apply(chain, logits):
    """The candidates that are left, and the token that was selected."""
    data = (TokenData * len(logits))(*(TokenData(i, logit, 0.0) for i, logit in enumerate(logits)))
    candidates = TokenDataArray(ctypes.cast(data, POINTER(TokenData)), len(logits), -1, False)
    for sampler in chain:
        LIB.llama_sampler_apply(sampler, byref(candidates))
    left = [(item.id, item.logit) for item in candidates.data[: candidates.size] if item.logit > -np.inf]
    selected = candidates.data[candidates.selected].id if candidates.selected >= 0 else None
    return sorted(left), selected


def probabilities(left):
    logits = np.array([logit for _, logit in left], dtype=np.float64)
    p = np.exp(logits - logits.max())
    return [[id, float(f"{p:.7g}")] for (id, _), p in zip(left, p / p.sum())]


def case(model, options, logits, tokens=()):
    chain = samplers(model, options)
    for token in tokens:
        for sampler in chain:
            LIB.llama_sampler_accept(sampler, token)
    left, _ = apply(chain, logits)
    for sampler in chain:
        LIB.llama_sampler_free(sampler)
    return left


def logits(seed, n=60):
    """Logits as models have them, to four decimals."""
    return [round(float(x), 4) for x in np.random.default_rng(seed).normal(0, 2.5, n)]


SINGLE = [
    {"top_n_sigma": 0.5},
    {"top_n_sigma": 1.0},
    {"top_n_sigma": 2.5},
    {"xtc_probability": 1.0},
    {"xtc_probability": 1.0, "xtc_threshold": 0.03},
    {"xtc_probability": 1.0, "xtc_threshold": 0.3},
    {"xtc_probability": 1.0, "xtc_threshold": 0.6},
    {"xtc_probability": 1.0, "xtc_threshold": 0.03, "min_keep": 57},
    {"xtc_probability": 1.0, "xtc_threshold": 0.03, "min_keep": 50},
    {"dynatemp_range": 0.5},
    {"temperature": 0.3, "dynatemp_range": 0.5},
    {"temperature": 1.5, "dynatemp_range": 1.0, "dynatemp_exponent": 2.0},
    {"temperature": 0.8, "dynatemp_range": 0.8, "dynatemp_exponent": 0.0},
    {"temperature": 0.8, "dynatemp_range": 0.4, "top_k": 1},
    {"top_p": 0.3, "min_keep": 9},
    {"min_p": 0.9, "min_keep": 9},
    {"min_p": 0.05, "min_keep": 2},
    {"typical_p": 0.2, "min_keep": 9},
]
CHAINS = [
    {"top_n_sigma": 1.5, "top_k": 20, "temperature": 2.0},
    {"top_k": 5, "xtc_probability": 1.0, "xtc_threshold": 0.15, "temperature": 0.5},
    {"top_p": 0.9, "min_p": 0.05, "xtc_probability": 1.0, "xtc_threshold": 0.1, "temperature": 1.7, "dynatemp_range": 1.0},
    {"typical_p": 0.9, "xtc_probability": 1.0, "xtc_threshold": 0.05},
    {"repetition_penalty": 1.3, "top_n_sigma": 1.0, "top_p": 0.8},
    {"dry_multiplier": 2.0, "dry_base": 1.2, "top_n_sigma": 1.2, "top_k": 12, "xtc_probability": 1.0, "temperature": 0.7},
    {"repetition_penalty": 1.2, "dry_multiplier": 0.5, "dry_allowed_length": 1, "min_p": 0.02, "dynatemp_range": 0.3},
]
TEXTS = [
    "Once upon a time there was a cat. Once upon a time there was a",
    "the cat sat on the mat, the cat sat on the hat, the cat sat on the",
    "One day, Tim said: the cat is here. The dog said: the cat is",
    'a "b" a "b" a "',
    "no repetition at all",
    "again again again again again again again again again again again again",
    "The sun was hot.\nThe sun was hot.\nThe sun was",
]
DRY = [
    {"dry_multiplier": 0.8},
    {"dry_multiplier": 1.5, "dry_base": 2.5, "dry_allowed_length": 1},
    {"dry_multiplier": 0.8, "dry_allowed_length": 0, "dry_base": 1.0},
    {"dry_multiplier": 0.8, "dry_penalty_last_n": 6},
    {"dry_multiplier": 0.8, "dry_sequence_breakers": []},
    {"dry_multiplier": 0.8, "dry_sequence_breakers": ["cat sat", " the cat", ".\nThe", "there"]},
    {"dry_multiplier": 1.0, "dry_base": 1e30, "dry_sequence_breakers": []},
]
MIROSTAT = [{}, {"mirostat_tau": 1.0}, {"mirostat_tau": 3.0, "mirostat_eta": 0.5, "temperature": 0.6}]


def main():
    model = Model(HERE.parent / "assets/stories.gguf", n_ctx=64)
    cases = []
    for seed, options in enumerate(SINGLE):
        cases.append({"options": options, "logits": logits(seed), "tokens": []})
    for seed, options in enumerate(CHAINS, 100):
        tokens = [3, 7, 1, 3, 7, 1, 3, 7, 12, 5, 3, 7]
        cases.append({"options": options, "logits": logits(seed), "tokens": tokens})
    for case_ in cases:
        case_["probabilities"] = probabilities(case(model, case_["options"], case_["logits"], case_["tokens"]))
    dry = []
    for text in TEXTS:
        tokens = model.tokenize(text)
        for options in DRY:
            left = case(model, options, [0.0] * model.n_vocab, tokens)
            changed = [[id, float(f"{logit:.7g}")] for id, logit in left if logit]
            dry.append({"options": options, "tokens": tokens, "zeros": model.n_vocab, "logits": changed})
    mirostat = []
    for options in MIROSTAT:
        options = {"mirostat": 2, **options}
        chain, draws = samplers(model, options), []
        for seed in range(200, 220):
            left, selected = apply(chain, logits(seed))
            draws.append({"logits": logits(seed), "kept": [id for id, _ in left], "drawn": selected})
        mirostat.append({"options": options, "draws": draws})
    groups = {"chains": cases, "dry": dry, "mirostat": mirostat}
    lines = [f'"{name}": [\n' + ",\n".join(map(json.dumps, rows)) + "\n]" for name, rows in groups.items()]
    names = ["dry_base", "dry_allowed_length", "dry_penalty_last_n", "xtc_threshold", "dynatemp_exponent", "mirostat_tau", "mirostat_eta"]
    defaults = {name: float(f"{getattr(DEFAULTS, name):.6g}") for name in names}
    lines += [f'"defaults": {json.dumps(defaults)}', f'"order": {json.dumps(DEFAULTS.samplers.split(";"))}']
    (HERE / "samplers.json").write_text("{\n" + ",\n".join(lines) + "\n}\n")


if __name__ == "__main__":
    main()
