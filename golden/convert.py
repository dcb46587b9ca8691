"""A Hugging Face folder to GGUF, as llama.cpp's convert_hf_to_gguf.py and bitnet.cpp's converters write it.

Tensor names are those of PyPI gguf's own map; what architectures differ in is in layouts.py. Matrices keep the type asked
for, norms, biases, routers and learned positions are F32, and a ternary model keeps its embedding and head in F16.

YaRN: llama.cpp multiplies cos and sin by rope.scaling.attn_factor (1 where absent) * (1 + 0.1 ln factor), Hugging Face by
attention_factor where given and by 1 + 0.1 ln factor otherwise. Without attention_factor, as here, the two agree.
"""

import json
from pathlib import Path

import gguf
import numpy as np
import torch
from safetensors.torch import load_file
from transformers import AutoConfig

import layouts
from stored import unpack_mxfp4

I2_S, FILE_I2_S = 36, 40  # bitnet.cpp's own numbers for the tensor type and for general.file_type

FILE_TYPES = {
    "F32": gguf.LlamaFileType.ALL_F32,
    "F16": gguf.LlamaFileType.MOSTLY_F16,
    "BF16": gguf.LlamaFileType.MOSTLY_BF16,
    "TQ2_0": gguf.LlamaFileType.MOSTLY_TQ2_0,
    "MXFP4": gguf.LlamaFileType.MOSTLY_MXFP4_MOE,
    "I2_S": FILE_I2_S,
}
MODEL_ARCHS = {name: arch for arch, name in gguf.MODEL_ARCH_NAMES.items()}
ALWAYS_F32 = ("ffn_gate_inp", "position_embd", "token_types")


def unpack(packed):
    """Ternary [rows, K] of the uint8 [rows / 4, K] in which row block j of four sits in bits 2j, stored plus one."""
    return torch.cat([(packed >> shift & 3).float() - 1 for shift in (0, 2, 4, 6)])


def read_tensors(folder, config):
    """Every tensor of the folder in float32, packed ternary weights dequantised."""
    stored = {}
    for file in sorted(Path(folder).glob("*.safetensors")):
        stored.update(load_file(file))
    tensors = {}
    for name, tensor in stored.items():
        if name.endswith((".weight_scale", "_scales")):
            continue
        if name.endswith("_blocks"):
            name = name.removesuffix("_blocks")
            tensors[name] = unpack_mxfp4(tensor, stored[name + "_scales"])
            continue
        scale = stored.get(name + "_scale")
        if scale is None:
            tensors[name] = tensor.float()
        elif config.quantization_config["linear_class"] == "autobitlinear":
            tensors[name] = unpack(tensor) * scale.float()
        else:
            tensors[name] = unpack(tensor) / scale.float()
    return tensors


def encode_i2_s(weight):
    """Bytes of a ternary matrix: blocks of 128 weights in 32 bytes, first 32 in the top bits, and the scale after them all."""
    scale = weight.abs().max()
    codes = ((weight / scale).round() + 1).to(torch.uint8).numpy().reshape(-1, 4, 32)
    packed = codes[:, 0] << 6 | codes[:, 1] << 4 | codes[:, 2] << 2 | codes[:, 3]
    tail = np.zeros(8, dtype="<f4")
    tail[0] = scale
    return np.concatenate([packed.reshape(-1), tail.view(np.uint8)])


def add_tensor(writer, name, tensor, kind):
    array = tensor.contiguous().numpy()
    if kind == "I2_S":
        data = encode_i2_s(tensor)
        writer.add_tensor_info(name, array.shape, array.dtype, data.nbytes, raw_dtype=I2_S)
        writer.tensors[-1][name].tensor = data
        return
    kind = gguf.GGMLQuantizationType[kind]
    data = gguf.quantize(array, kind)
    assert np.array_equal(gguf.dequantize(data, kind), array), f"{name} is not exact in {kind.name}"
    writer.add_tensor(name, data, raw_dtype=kind)


def add_metadata(writer, arch, config):
    for key, value in layouts.keys(arch, config).items():
        kind = {bool: writer.add_bool, int: writer.add_uint32, float: writer.add_float32, str: writer.add_string}[
            type(value)
        ]
        kind(f"{arch}.{key}", value)


def add_tokenizer(writer, folder, config):
    tokenizer = json.loads((folder / "tokenizer.json").read_text())
    special = {token["content"] for token in tokenizer["added_tokens"]}
    tokens = sorted(tokenizer["model"]["vocab"], key=tokenizer["model"]["vocab"].get)
    assert len(tokens) == config.vocab_size
    types = [gguf.TokenType.CONTROL if token in special else gguf.TokenType.NORMAL for token in tokens]
    if tokenizer["model"]["type"] == "WordPiece":
        writer.add_token_type_count(config.type_vocab_size)
        # Words begin with a phantom space, and what goes on with a word loses its hashes.
        spaced = [token[2:] if token.startswith("##") else "\u2581" + token for token in tokens]
        writer.add_tokenizer_model("bert")
        writer.add_tokenizer_pre("bert-bge")
        writer.add_token_list([token if token in special else other for token, other in zip(tokens, spaced)])
        writer.add_token_types(types)
        named = ("bos", "eos", "unk", "sep", "pad", "mask")
        gguf.SpecialVocab(folder, special_token_types=named).add_to_gguf(writer, quiet=True)
        return
    sequence = [part["SpecialToken"]["id"] for part in tokenizer["post_processor"]["single"] if "SpecialToken" in part]
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list(tokens)
    writer.add_token_types(types)
    writer.add_token_merges([" ".join(pair) for pair in tokenizer["model"]["merges"]])
    writer.add_bos_token_id(config.bos_token_id)
    writer.add_eos_token_id(config.eos_token_id)
    writer.add_add_bos_token(tokens[config.bos_token_id] in sequence)
    if tokens[config.eos_token_id] in sequence:
        writer.add_add_eos_token(True)


def add_modules(writer, arch, folder):
    """Says how sentence-transformers pools, if it does; the matrices of the dense layers that follow."""
    if not (folder / "modules.json").exists():
        return {}
    dense = {}
    for module in json.loads((folder / "modules.json").read_text()):
        path = folder / module["path"]
        if module["type"].endswith("Pooling"):
            pooling = json.loads((path / "config.json").read_text())
            modes = dict(mean_tokens=1, cls_token=2, lasttoken=3)
            kind = next(number for mode, number in modes.items() if pooling[f"pooling_mode_{mode}"])
            writer.add_pooling_type(gguf.PoolingType(kind))
        elif module["type"].endswith("Dense"):
            name = f"dense_{module['idx']}"
            dense[f"{name}.weight"] = matrix = load_file(path / "model.safetensors")["linear.weight"]
            writer.add_dense_features_dims(name, matrix.shape[1], matrix.shape[0])
    return dense


def kind_of(name, tensor, kind):
    """The type of a tensor in a file of matrices of type `kind`."""
    if tensor.dim() == 1 or name.endswith(("_norm.weight", ".bias")) or any(part in name for part in ALWAYS_F32):
        return "F32"
    if kind == "MXFP4":
        return "MXFP4" if "_exps" in name else "F16"
    outside = name.startswith(("token_embd", "output"))
    return "F16" if outside and kind in ("TQ2_0", "I2_S") else kind


def write(folder, arch, kind, out=None, config=None):
    """Writes `model.gguf` in the folder (or `out`), architecture `arch`, matrices of the layers of type `kind`."""
    folder = Path(folder)
    config = config or AutoConfig.from_pretrained(folder)
    head_dim = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    names = gguf.get_tensor_name_map(MODEL_ARCHS.get(arch, gguf.MODEL_ARCH.BITNET), config.num_hidden_layers)
    writer = gguf.GGUFWriter(out or folder / "model.gguf", arch)
    writer.add_name(folder.name)
    writer.add_file_type(FILE_TYPES[kind])
    writer.add_quantization_version(gguf.GGML_QUANT_VERSION)
    add_metadata(writer, arch, config)
    add_tokenizer(writer, folder, config)
    dense = add_modules(writer, arch, folder)
    for name, tensor in layouts.extra_tensors(config, head_dim).items():
        add_tensor(writer, name, tensor, "F32")
    for name, tensor in (layouts.tensors(arch, config, read_tensors(folder, config)) | dense).items():
        name = names.get_name(name, try_suffixes=(".weight", ".bias"))
        add_tensor(writer, name, tensor, kind_of(name, tensor, kind))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
