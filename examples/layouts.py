#!/usr/bin/env python3
"""Makes small data sets in layouts in which people keep larger ones, with random numbers in them:

    layouts.py LAYOUT [FOLDER]

medmnist   bloodmnist.npz: one deflated archive, images (N, 28, 28, 3) of uint8 and labels (N, 1), as MedMNIST has them
slices     train_npz/case0005_slice000.npz with image and label (512, 512), and lists/train.txt with their names, as
           TransUNet has made them of Synapse's scans
speech     mels/*.npy of shape (T, 80) and tokens/*.npy of shape (L,), of different length
tokens     tokens_000.npy ... tokens_019.npy: shards of a text as uint16 tokens
recordings a file labels.csv with columns path, label and fold, over scattered files
volumes    imagesTr/*.npy (int16, as of a CT scanner) and labelsTr/*.npy (uint8 masks), of different size
classes    train/<class>/*.npy and validation/<class>/*.npy, one class rare, and absent from validation
frames     frames/frame_1.npy ... frame_40.npy: the frames of a video
"""

import csv
import pathlib
import sys

import numpy as np

random = np.random.default_rng(0)


def save(path, array):
    path.parent.mkdir(parents=True, exist_ok=True)
    np.save(path, array)


def image(*shape):
    return random.integers(0, 256, shape, dtype=np.uint8)


def medmnist(folder):
    parts = {"train": 600, "val": 80, "test": 160}
    arrays = {}
    for part, count in parts.items():
        arrays[f"{part}_images"] = image(count, 28, 28, 3)
        arrays[f"{part}_labels"] = (np.arange(count) % 8).astype(np.uint8).reshape(-1, 1)
    np.savez_compressed(folder / "bloodmnist.npz", **arrays)


def slices(folder):
    names = [f"case{case:04}_slice{number:03}" for case in (5, 6) for number in range(6)]
    (folder / "train_npz").mkdir(exist_ok=True)
    for name in names:
        np.savez(folder / "train_npz" / f"{name}.npz", image=random.random((512, 512), dtype=np.float32),
                 label=random.integers(0, 9, (512, 512)).astype(np.float32))
    (folder / "lists").mkdir(exist_ok=True)
    (folder / "lists" / "train.txt").write_text("".join(f"{name}\n" for name in names[:10]))


def speech(folder):
    for i in range(1, 41):
        length = int(random.integers(100, 900))
        save(folder / "mels" / f"LJ001-{i:04}.npy", random.standard_normal((length, 80), dtype=np.float32))
        save(folder / "tokens" / f"LJ001-{i:04}.npy", random.integers(0, 148, length // 8))


def tokens(folder):
    for i in range(20):
        save(folder / f"tokens_{i:03}.npy", random.integers(0, 50257, 5000 + 100 * i, dtype=np.uint16))


def recordings(folder):
    rows = []
    for i in range(20):
        path = pathlib.Path("patients") / f"p{i % 5}" / f"ecg_{i}.npy"
        save(folder / path, random.standard_normal((12, 500), dtype=np.float32))
        rows.append({"path": path.as_posix(), "label": i % 3, "fold": i % 4})
    with open(folder / "labels.csv", "w", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)


def volumes(folder):
    for i in range(6):
        shape = (96 + 8 * i, 128, 128)
        save(folder / "imagesTr" / f"lung_{i:03}.npy", random.integers(-1024, 3072, shape, dtype=np.int16))
        save(folder / "labelsTr" / f"lung_{i:03}.npy", random.integers(0, 2, shape, dtype=np.uint8))


def classes(folder):
    for part, counts in (("train", {"cat": 40, "dog": 8, "emu": 32}), ("validation", {"cat": 6, "emu": 5})):
        for name, count in counts.items():
            for i in range(count):
                save(folder / part / name / f"{i:04}.npy", image(64, 64, 3))


def frames(folder):
    for i in range(1, 41):
        save(folder / "frames" / f"frame_{i}.npy", image(3, 112, 112))


def main():
    layouts = {make.__name__: make for make in (medmnist, slices, speech, tokens, recordings, volumes, classes, frames)}
    if len(sys.argv) not in (2, 3) or sys.argv[1] not in layouts:
        sys.exit(__doc__)
    folder = pathlib.Path(sys.argv[2] if len(sys.argv) == 3 else ".")
    folder.mkdir(parents=True, exist_ok=True)
    layouts[sys.argv[1]](folder)


if __name__ == "__main__":
    main()
