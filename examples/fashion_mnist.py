#!/usr/bin/env python3
"""Writes Fashion-MNIST as .npy files, in the three layouts that people keep such data in:

    fashion_mnist.py [output folder] [source folder]

    arrays/train_images.npy, train_labels.npy, test_images.npy, ...     everything in big arrays
    paired/train/images/00000.npy, paired/train/labels/00000.npy, ...   a folder each
    classes/train/<class name>/00000.npy, ...                           a folder a class

Images are 28 x 28 bytes, labels are bytes from 0 to 9. The source is Debian's package
dataset-fashion-mnist (by Zalando SE, under the MIT licence).
"""

import gzip
import pathlib
import sys

import numpy as np

CLASSES = ["t-shirt", "trouser", "pullover", "dress", "coat",
           "sandal", "shirt", "sneaker", "bag", "ankle boot"]


def read_idx(path, header_size, item_shape):
    """IDX, the format of the MNIST family: a header of 4-byte numbers, and then bytes."""
    with gzip.open(path) as file:
        return np.frombuffer(file.read(), np.uint8, offset=header_size).reshape(-1, *item_shape)


def main():
    out = pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else "fashion-mnist")
    source = pathlib.Path(sys.argv[2] if len(sys.argv) > 2 else "/usr/share/datasets/fashion-mnist")
    for part, prefix in (("train", "train"), ("test", "t10k")):
        images = read_idx(source / f"{prefix}-images-idx3-ubyte.gz", 16, (28, 28))
        labels = read_idx(source / f"{prefix}-labels-idx1-ubyte.gz", 8, ())

        (out / "arrays").mkdir(parents=True, exist_ok=True)
        np.save(out / "arrays" / f"{part}_images.npy", images)
        np.save(out / "arrays" / f"{part}_labels.npy", labels)

        pairs = out / "paired" / part
        for folder in (pairs / "images", pairs / "labels"):
            folder.mkdir(parents=True, exist_ok=True)
        for name in CLASSES:
            (out / "classes" / part / name).mkdir(parents=True, exist_ok=True)
        for i, (image, label) in enumerate(zip(images, labels)):
            np.save(pairs / "images" / f"{i:05}.npy", image)
            np.save(pairs / "labels" / f"{i:05}.npy", label)
            np.save(out / "classes" / part / CLASSES[label] / f"{i:05}.npy", image)
            if i % 5000 == 4999:
                print(f"{part}: {i + 1} of {len(images)} images", flush=True)


main()
