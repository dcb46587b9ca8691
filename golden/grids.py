"""Writes crates/tensor/src/format/grids.bin: the points of the grids of ggml's IQ formats, as PyPI gguf has them.

    pip install numpy gguf && python golden/grids.py

Each point is two bytes, little-endian, its first coordinate in the lowest bits: eight numbers of 2 bits, or four of 4 bits, that
count the levels of the grid from the lowest. The grids follow each other: IQ2_XXS (256 points), IQ2_XS (512), IQ2_S (1024),
IQ3_XXS (256), IQ3_S (512), IQ1_S (2048).
"""

from pathlib import Path

import numpy as np
from gguf import quants

out = b""
for name in ["IQ2_XXS", "IQ2_XS", "IQ2_S", "IQ3_XXS", "IQ3_S", "IQ1_S"]:
    format = getattr(quants, name)
    format.init_grid()
    points = format.grid.reshape(format.grid_shape)
    levels = np.searchsorted(np.array(format.grid_map, np.float32), points).astype(np.uint32)
    shifts = np.arange(points.shape[1], dtype=np.uint32) * (16 // points.shape[1])
    out += (levels << shifts).sum(axis=1).astype("<u2").tobytes()
(Path(__file__).parent.parent / "crates/tensor/src/format/grids.bin").write_bytes(out)
