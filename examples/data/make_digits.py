"""Writes images.npy and labels.npy from scikit-learn's copy of the UCI digits.

    python3 make_digits.py [folder]        default: the folder of this script

Needs NumPy and scikit-learn. Nothing here is random: run again, it writes the same bytes.
"""

import pathlib
import sys

import numpy as np
from sklearn.datasets import load_digits


def main():
    here = pathlib.Path(__file__).resolve().parent
    folder = pathlib.Path(sys.argv[1]) if len(sys.argv) > 1 else here

    # load_digits() gives float64, although every pixel is a whole number from 0 to 16.
    digits = load_digits()
    images = digits.images.astype(np.uint8)
    # "<i8" and not int64: the bytes must not depend on the machine that runs this.
    labels = digits.target.astype("<i8")

    if images.shape != (1797, 8, 8) or labels.shape != (1797,):
        sys.exit(f"unexpected shapes: images {images.shape}, labels {labels.shape}")
    if not np.array_equal(images, digits.images) or images.max() != 16:
        sys.exit("unexpected pixels: they are not whole numbers from 0 to 16")

    for name, array in (("images.npy", images), ("labels.npy", labels)):
        # Contiguous, so that the header says C order.
        np.save(folder / name, np.ascontiguousarray(array), allow_pickle=False)
        print(f"{folder / name}: {array.dtype} {array.shape}")


if __name__ == "__main__":
    main()
