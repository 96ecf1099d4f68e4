"""Makes the folders that the examples read: make_folders.py FOLDER"""

import pathlib
import sys

import numpy as np

random = np.random.default_rng(0)
for name in ("input_data", "output_data"):
    folder = pathlib.Path(sys.argv[1]) / name
    folder.mkdir(parents=True, exist_ok=True)
    for i in range(70):
        np.save(folder / f"{i:03}.npy", random.integers(0, 256, (8, 6, 3), np.uint8))

particles = np.zeros(4, [("id", "<i8"), ("pos", [("x", "<f4"), ("y", "<f4")])])
particles["id"] = range(4)
particles["pos"]["x"] = [0, 0.5, 1, 1.5]
np.save(pathlib.Path(sys.argv[1]) / "particles.npy", particles)
