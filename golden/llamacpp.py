"""llama.cpp from Python, as far as the comparisons need it: token ids in, every position's logits out.

The C API is called inside the shared library of PyPI `xllamacpp` (2026.10.11549). Its parameter structs travel by value,
so this file knows their layout for that version only, and checks the library's own defaults against it when imported.
The context computes attention in float32 with a float32 key/value cache and without flash attention.
"""

import ctypes
from ctypes import POINTER, c_bool, c_char_p, c_float, c_int, c_int8, c_int32, c_int64, c_size_t, c_uint32, c_void_p
from pathlib import Path

import numpy as np
import xllamacpp

GGML_TYPE_F32 = 0
POOLING_OF_MODEL, POOLING_NONE = 2**32 - 1, 0
FLASH_ATTN_DISABLED = 0


class Params(ctypes.Structure):
    """A parameter struct seen as 32-bit words; longer than any real one, of which the callee reads its own length."""

    _fields_ = [("words", c_uint32 * 256)]


# Words of llama_context_params.
N_CTX, N_BATCH, N_UBATCH, N_SEQ_MAX, N_OUTPUTS_MAX, N_OUTPUTS_PER_SEQ, N_THREADS, N_THREADS_BATCH = 0, 1, 2, 3, 5, 6, 7, 8
POOLING, FLASH_ATTN, TYPE_K, TYPE_V = 11, 13, 26, 27
CONTEXT_DEFAULTS = [512, 2048, 512, 1, 0, 0, 1, 4, 4, 0, *[2**32 - 1] * 4]


class Batch(ctypes.Structure):
    _fields_ = [
        ("n_tokens", c_int32),
        ("token", POINTER(c_int32)),
        ("embd", POINTER(c_float)),
        ("pos", POINTER(c_int32)),
        ("n_seq_id", POINTER(c_int32)),
        ("seq_id", POINTER(POINTER(c_int32))),
        ("logits", POINTER(c_int8)),
    ]


LogCallback = ctypes.CFUNCTYPE(None, c_int, c_char_p, c_void_p)


@LogCallback
def silent(_level, _text, _data):
    pass


def bind():
    lib = ctypes.CDLL(str(Path(xllamacpp.__file__).parent / "xllamacpp.abi3.so"))
    signatures = {
        "llama_model_default_params": (Params, []),
        "llama_context_default_params": (Params, []),
        "llama_model_load_from_file": (c_void_p, [c_char_p, Params]),
        "llama_init_from_model": (c_void_p, [c_void_p, Params]),
        "llama_model_get_vocab": (c_void_p, [c_void_p]),
        "llama_vocab_n_tokens": (c_int32, [c_void_p]),
        "llama_tokenize": (c_int32, [c_void_p, c_char_p, c_int32, POINTER(c_int32), c_int32, c_bool, c_bool]),
        "llama_batch_init": (Batch, [c_int32, c_int32, c_int32]),
        "llama_batch_free": (None, [Batch]),
        "llama_decode": (c_int32, [c_void_p, Batch]),
        "llama_get_logits_ith": (POINTER(c_float), [c_void_p, c_int32]),
        "llama_set_embeddings": (None, [c_void_p, c_bool]),
        "llama_get_embeddings_ith": (POINTER(c_float), [c_void_p, c_int32]),
        "llama_get_embeddings_seq": (POINTER(c_float), [c_void_p, c_int32]),
        "llama_model_n_embd": (c_int32, [c_void_p]),
        "llama_get_memory": (c_void_p, [c_void_p]),
        "llama_memory_clear": (None, [c_void_p, c_bool]),
        "ggml_row_size": (c_size_t, [c_int, c_int64]),
        "ggml_quantize_chunk": (c_size_t, [c_int, c_void_p, c_void_p, c_int64, c_int64, c_int64, c_void_p]),
        "llama_log_set": (None, [LogCallback, c_void_p]),
        "llama_free": (None, [c_void_p]),
        "llama_model_free": (None, [c_void_p]),
    }
    for name, (restype, argtypes) in signatures.items():
        function = getattr(lib, name)
        function.restype, function.argtypes = restype, argtypes
    lib.llama_log_set(silent, None)
    lib.llama_backend_init()
    words = lib.llama_context_default_params().words
    if list(words[: len(CONTEXT_DEFAULTS)]) != CONTEXT_DEFAULTS or (words[TYPE_K], words[TYPE_V]) != (1, 1):
        raise ImportError(f"the context parameters of xllamacpp {xllamacpp.__version__} are laid out differently")
    return lib


LIB = bind()


def quantize(matrix, kind):
    """Bytes [rows, row size] of a float32 matrix in the ggml type numbered `kind`, by llama.cpp's quantiser without weighting."""
    matrix = np.ascontiguousarray(matrix, dtype=np.float32)
    rows, width = matrix.shape
    out = np.zeros((rows, LIB.ggml_row_size(kind, width)), dtype=np.uint8)
    written = LIB.ggml_quantize_chunk(kind, matrix.ctypes.data, out.ctypes.data, 0, rows, width, None)
    assert written == out.nbytes
    return out


class Model:
    """A GGUF file opened by llama.cpp with one sequence of at most `n_ctx` tokens; with `pooling`, for its embeddings."""

    def __init__(self, path, n_ctx=512, n_threads=1, pooling=None):
        self.model = LIB.llama_model_load_from_file(str(path).encode(), LIB.llama_model_default_params())
        if not self.model:
            raise RuntimeError(f"llama.cpp cannot load {path}")
        params = LIB.llama_context_default_params()
        for word, value in {
            **dict.fromkeys([N_CTX, N_BATCH, N_UBATCH, N_OUTPUTS_MAX, N_OUTPUTS_PER_SEQ], n_ctx),
            **dict.fromkeys([N_THREADS, N_THREADS_BATCH], n_threads),
            **dict.fromkeys([TYPE_K, TYPE_V], GGML_TYPE_F32),
            FLASH_ATTN: FLASH_ATTN_DISABLED,
            POOLING: POOLING_OF_MODEL if pooling is None else pooling,
        }.items():
            params.words[word] = value
        self.n_ctx = n_ctx
        self.context = LIB.llama_init_from_model(self.model, params)
        if not self.context:
            raise RuntimeError(f"llama.cpp cannot make a context for {path}")
        self.vocab = LIB.llama_model_get_vocab(self.model)
        self.n_vocab = LIB.llama_vocab_n_tokens(self.vocab)
        self.past = 0
        if pooling is not None:
            LIB.llama_set_embeddings(self.context, True)

    def close(self):
        LIB.llama_free(self.context)
        LIB.llama_model_free(self.model)

    def tokenize(self, text, add_special=True, parse_special=False):
        """Token ids of `text`."""
        raw = text.encode()
        ids = (c_int32 * (len(raw) + 8))()
        n = LIB.llama_tokenize(self.vocab, raw, len(raw), ids, len(ids), add_special, parse_special)
        return list(ids[:n])

    def clear(self):
        """Forgets the sequence."""
        memory = LIB.llama_get_memory(self.context)
        if memory:
            LIB.llama_memory_clear(memory, True)
        self.past = 0

    def states(self, ids):
        """The last layer's states [len(ids), width] of a sequence; the model is opened with `POOLING_NONE`."""
        self.clear()
        self.run(ids)
        width = LIB.llama_model_n_embd(self.model)
        rows = [np.ctypeslib.as_array(LIB.llama_get_embeddings_ith(self.context, i), (width,)) for i in range(len(ids))]
        return np.array(rows, dtype=np.float32)

    def embedding(self, ids):
        """The pooled vector of a sequence, as long as it comes; the model is opened with `POOLING_OF_MODEL`."""
        self.clear()
        self.run(ids)
        width = LIB.llama_model_n_embd(self.model)
        return np.array(np.ctypeslib.as_array(LIB.llama_get_embeddings_seq(self.context, 0), (width,)), dtype=np.float32)

    def decode(self, ids):
        """Logits [len(ids), n_vocab] of `ids` appended to the sequence, in one batch."""
        self.run(ids)
        rows = [np.ctypeslib.as_array(LIB.llama_get_logits_ith(self.context, i), (self.n_vocab,)) for i in range(len(ids))]
        return np.array(rows, dtype=np.float32)

    def run(self, ids):
        """Appends `ids` to the sequence in one batch."""
        batch = LIB.llama_batch_init(len(ids), 0, 1)
        batch.n_tokens = len(ids)
        for i, token in enumerate(ids):
            batch.token[i], batch.pos[i] = token, self.past + i
            batch.n_seq_id[i], batch.seq_id[i][0], batch.logits[i] = 1, 0, 1
        status = LIB.llama_decode(self.context, batch)
        LIB.llama_batch_free(batch)
        if status:
            raise RuntimeError(f"llama_decode: {status}")
        self.past += len(ids)

    def greedy(self, ids, n):
        """The `n` most likely ids after `ids`, one at a time; ends of sequence do not stop it."""
        self.clear()
        out = [int(self.decode(ids)[-1].argmax())]
        while len(out) < n:
            out.append(int(self.decode(out[-1:])[-1].argmax()))
        return out
