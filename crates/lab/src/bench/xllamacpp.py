"""llama.cpp, held ready for tests: one JSON line when the model is loaded, then one for each line of `kind tokens sequences depth`.

The C API is called inside the shared library of PyPI `xllamacpp`. Its parameter structs travel by value, so this script knows their layout,
and refuses a library whose defaults are laid out differently. All but sizes, threads and the type of the KV cache stays at llama.cpp's
defaults.
"""

import ctypes
import json
import sys
import time
from ctypes import POINTER, c_bool, c_char_p, c_int, c_int8, c_int32, c_uint32, c_void_p
from pathlib import Path


def say(**answer):
    print(json.dumps(answer), flush=True)


def fail(problem):
    say(error=problem)
    sys.exit(1)


try:
    import xllamacpp
except ImportError as error:
    fail(f"{error}; `{sys.executable} -m pip install xllamacpp` installs it, --python names another Python")

PATH = sys.argv[1]
THREADS, THREADS_BATCH, CACHE_TYPE_K, CACHE_TYPE_V, SEQUENCES, CONTEXT, DEPTH = map(int, sys.argv[2:9])


class Params(ctypes.Structure):
    """A parameter struct seen as 32-bit words; longer than any real one, of which the callee reads its own length."""

    _fields_ = [("words", c_uint32 * 256)]


# Words of llama_context_params.
N_CTX, N_BATCH, N_SEQ_MAX, N_THREADS, N_THREADS_BATCH, TYPE_K, TYPE_V = 0, 1, 3, 7, 8, 26, 27
F16 = 1
DEFAULTS = [512, 2048, 512, 1, 0, 0, 1, 4, 4, 0, *[2**32 - 1] * 4]


class Batch(ctypes.Structure):
    _fields_ = [
        ("n_tokens", c_int32),
        ("token", POINTER(c_int32)),
        ("embd", c_void_p),
        ("pos", POINTER(c_int32)),
        ("n_seq_id", POINTER(c_int32)),
        ("seq_id", POINTER(POINTER(c_int32))),
        ("logits", POINTER(c_int8)),
    ]


LogCallback = ctypes.CFUNCTYPE(None, c_int, c_char_p, c_void_p)
ERROR = 4
errors = []


@LogCallback
def log(level, text, _data):
    if level == ERROR:
        errors.append(text.decode(errors="replace").strip())


lib = ctypes.CDLL(str(Path(xllamacpp.__file__).parent / "xllamacpp.abi3.so"))
for name, restype, argtypes in [
    ("llama_model_default_params", Params, []),
    ("llama_context_default_params", Params, []),
    ("llama_model_load_from_file", c_void_p, [c_char_p, Params]),
    ("llama_init_from_model", c_void_p, [c_void_p, Params]),
    ("llama_batch_init", Batch, [c_int32, c_int32, c_int32]),
    ("llama_decode", c_int32, [c_void_p, Batch]),
    ("llama_get_memory", c_void_p, [c_void_p]),
    ("llama_memory_seq_rm", c_bool, [c_void_p, c_int32, c_int32, c_int32]),
    ("llama_synchronize", None, [c_void_p]),
    ("llama_log_set", None, [LogCallback, c_void_p]),
]:
    function = getattr(lib, name)
    function.restype, function.argtypes = restype, argtypes
lib.llama_log_set(log, None)
lib.llama_backend_init()
params = lib.llama_context_default_params()
if list(params.words[: len(DEFAULTS)]) != DEFAULTS or [params.words[TYPE_K], params.words[TYPE_V]] != [F16, F16]:
    fail(f"the parameters of xllamacpp {xllamacpp.__version__} are laid out differently from those of 2026.10")

start = time.perf_counter()
model = lib.llama_model_load_from_file(PATH.encode(), lib.llama_model_default_params())
if not model:
    fail(f"it cannot load {PATH}: {errors[0] if errors else 'no reason given'}")
# Contexts are rounded up so that every sequence has its own.
params.words[N_CTX] = (CONTEXT + 255) // 256 * 256 * SEQUENCES
params.words[N_SEQ_MAX] = SEQUENCES
params.words[N_THREADS], params.words[N_THREADS_BATCH] = THREADS, THREADS_BATCH
params.words[TYPE_K], params.words[TYPE_V] = CACHE_TYPE_K, CACHE_TYPE_V
context = lib.llama_init_from_model(model, params)
if not context:
    fail(f"it cannot make a context for {PATH}: {errors[0] if errors else 'no reason given'}")
LOADED = time.perf_counter() - start
BATCH = params.words[N_BATCH]
batch = lib.llama_batch_init(BATCH, 0, 1)
memory = lib.llama_get_memory(context)


def run(rows):
    """Computes rows of (token, position, sequence, whether its logits are wanted)."""
    batch.n_tokens = len(rows)
    for i, (token, position, sequence, wanted) in enumerate(rows):
        batch.token[i], batch.pos[i], batch.logits[i] = token, position, wanted
        batch.n_seq_id[i], batch.seq_id[i][0] = 1, sequence
    status = lib.llama_decode(context, batch)
    if status:
        fail(f"llama_decode: {status}: {errors[-1] if errors else 'no reason given'}")
    lib.llama_synchronize(context)


def prefill(sequence, first, count):
    for at in range(0, count, BATCH):
        end = min(at + BATCH, count)
        run([(3 + i % 200, first + i, sequence, i + 1 == count) for i in range(at, end)])


def test(kind, tokens, sequences, depth):
    start = time.perf_counter()
    if kind == "prefill":
        for sequence in range(sequences):
            prefill(sequence, depth, tokens)
    else:
        for i in range(tokens):
            run([(3 + i % 200, depth + i, sequence, 1) for sequence in range(sequences)])
    seconds = time.perf_counter() - start
    for sequence in range(SEQUENCES):
        lib.llama_memory_seq_rm(memory, sequence, depth, -1)
    return seconds


run([(3, 0, 0, 1)])
FIRST_TOKEN = time.perf_counter() - start
lib.llama_memory_seq_rm(memory, 0, 0, -1)
for sequence in range(SEQUENCES):
    prefill(sequence, 0, DEPTH)
say(version=xllamacpp.__version__, load_seconds=LOADED, first_token_seconds=FIRST_TOKEN)
for line in sys.stdin:
    kind, *sizes = line.split()
    say(seconds=test(kind, *map(int, sizes)))
