"""Lists the keys of `quantization_config` that transformers' classes take: golden/quant_keys.json.

    pip install  the packages of models.py
    python golden/quant_keys.py
"""

import inspect
import json
from pathlib import Path

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


lines = ",\n".join(f" {json.dumps(method)}: {json.dumps(keys(kinds))}" for method, kinds in METHODS.items())
(Path(__file__).parent / "quant_keys.json").write_text("{\n" + lines + "\n}\n")
