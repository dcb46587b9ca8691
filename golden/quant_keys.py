"""Lists the keys of `quantization_config` that the classes of transformers and compressed-tensors take: golden/quant_keys.json.

    pip install  the packages of models.py, compressed-tensors==0.20.1
    python golden/quant_keys.py
"""

import inspect
import json
from pathlib import Path

from compressed_tensors.quantization import QuantizationArgs, QuantizationConfig, QuantizationScheme
from transformers.utils import quantization_config as classes

METHODS = {
    "bitnet": [classes.BitNetQuantConfig],
    "gptq": [classes.GPTQConfig],
    "awq": [classes.AwqConfig, classes.GPTQConfig],
    "fp8": [classes.FineGrainedFP8Config],
    "compressed-tensors": [classes.CompressedTensorsConfig],
    "mxfp4": [classes.Mxfp4Config],
}


def keys(kinds):
    parameters = [inspect.signature(kind.__init__).parameters.values() for kind in kinds]
    named = {one.name for some in parameters for one in some if one.kind is not one.VAR_KEYWORD}
    return sorted(named - {"self"} | {"quant_method"})


found = {method: keys(kinds) for method, kinds in METHODS.items()}
fields = lambda kind: sorted(kind.model_fields)
found["compressed-tensors"] = sorted({*found["compressed-tensors"], *fields(QuantizationConfig)})
found |= {kind.__name__: fields(kind) for kind in (QuantizationScheme, QuantizationArgs)}
lines = ",\n".join(f" {json.dumps(name)}: {json.dumps(keys)}" for name, keys in found.items())
(Path(__file__).parent / "quant_keys.json").write_text("{\n" + lines + "\n}\n")
