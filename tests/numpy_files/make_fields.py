"""Writes structured .npy files with NumPy, and next to them a list of the contents of their fields.

    python3 make_fields.py FOLDER           the few that are committed
    python3 make_fields.py --all FOLDER     every structure x byte order x alignment x shape

expected.txt has one line a field, its columns parted by tabs: file, name with dots, type string,
shape, whether LibTorch's strides can express where the elements lie, strides in elements, offset of
the first element in bytes, and the elements in C order and little endian, in hexadecimal. Strings
count as an axis of characters. Nothing is random from run to run.
"""

import io
import pathlib
import sys

import numpy as np

from make_data import DTYPES, TIMES, file_of, handwritten

SHAPES = [((), "C"), ((3,), "C"), ((0,), "C"), ((0, 2), "C"), ((2, 3), "C"), ((2, 3), "F"), ((3, 2, 2), "F")]
UNSIGNED = ["u2", "u4", "u8"]  # no dtypes of LibTorch before 2.3
PLAIN = [(dtype, dtype) for dtype in DTYPES + TIMES if dtype not in UNSIGNED]
POINT = [("x", "f4"), ("y", "f4"), ("name", "S3")]
STRUCTURES = {
    "plain": PLAIN,
    "backwards": PLAIN[::-1],
    "unsigned": [("i", "i4")] + [(dtype, dtype) for dtype in UNSIGNED],
    "nested": [("id", "i2"), ("pos", POINT), ("box", [("low", POINT), ("high", POINT)]), ("ok", "b1")],
    "sub_arrays": [("id", "i4"), ("m", "f4", (2, 3)), ("one", "i2", (1,)), ("none", "f8", (0, 2)),
                   ("text", "U2", (2,)), ("c", "c8", (2,)), ("points", POINT, (2,)),
                   ("deep", [("n", "i4"), ("in", [("v", "i2", (3,)), ("w", "f4")], (2, 1))], (2,))],
    "even": [("a", "f4"), ("pairs", [("k", "i4"), ("v", "f4", (2,))], (3,)), ("z", "c8", (2,))],
    "strings": [("s", "S5"), ("u", "U3"), ("empty", "S0"), ("t", "S1"), ("v", "U1", (2,))],
    "raw": [("bf16", "V2"), ("more", "V2", (2,)), ("n", "i1")],
    "one": [("x", "f8")],
    "titles": [(("the x axis", "x"), "f4"), (("größe", "y"), "i8")],
    "unicode": [("é", "f4"), ("größe", "i2"), ("日本", [("語", "f8")]), ("tab\\'\"", "i1")],
    "saved": [("id", "i8"), ("pos", [("x", "f4"), ("y", "f4"), ("in", [("k", "i1"), ("m", "f2", (2, 3))])]), ("ok", "b1"),
              ("c", "c8", (1,)), ("none", "f8", (0, 2)), ("größe", "u1")],
}


def dtype_of(structure, byte_order, align):
    fields = []
    for name, kind, *shape in structure:
        kind = dtype_of(kind, byte_order, align) if isinstance(kind, list) else byte_order + kind
        fields.append((name, kind, *shape))
    return np.dtype(fields, align=align)


def leaves(array, prefix=""):
    for name in array.dtype.names:
        field = array[name]
        if field.dtype.names is None:
            yield prefix + name, field
        else:
            yield from leaves(field, prefix + name + ".")


def array_of(dtype, shape, order, seed):
    rng = np.random.default_rng(seed)
    size = int(np.prod(shape, dtype=np.int64)) * dtype.itemsize
    raw = bytearray(rng.integers(0, 256, size, dtype=np.uint8).tobytes())
    array = np.frombuffer(raw, dtype).reshape(shape, order=order)
    for _, field in leaves(array):
        if field.dtype.kind == "b":
            field[...] = field.view("u1") & 1
    return array


def line_of(name, array, path, field):
    dtype = field.dtype
    item = {"S": 1, "U": 4}.get(dtype.kind, dtype.itemsize)
    shape, strides = field.shape, field.strides
    if dtype.kind in "SU":
        shape, strides = shape + (dtype.itemsize // item,), strides + (item,)
    offset = field.__array_interface__["data"][0] - array.__array_interface__["data"][0] if field.size else 0
    view = (field.size != 0 and dtype.itemsize != 0 and dtype.str[0] != ">"
            and all(stride % item == 0 for stride in strides)
            and offset % (item // 2 if dtype.kind == "c" else item) == 0)
    little = field.byteswap() if dtype.str[0] == ">" else field
    columns = [name, path, dtype.str, ",".join(map(str, shape)), int(view),
               ",".join(str(stride // item) for stride in strides), offset, little.tobytes().hex()]
    return "\t".join(map(str, columns))


def cases(every):
    seed = 0
    for kind, structure in STRUCTURES.items():
        for byte_order in "<>":
            for align in (False, True):
                for shape, order in SHAPES:
                    seed += 1
                    name = "_".join([kind, "big" if byte_order == ">" else "little",
                                     "aligned" if align else "packed",
                                     "x".join(map(str, shape)) or "scalar", order])
                    few = (kind == "sub_arrays" and byte_order == "<" or
                           kind in ("plain", "backwards") and not align and shape == (3,) or
                           kind == "saved" and byte_order == "<" and not align and len(shape) < 2 or
                           shape == (2, 3) and order == "F" and align == (byte_order == "<"))
                    if every or few:
                        array = array_of(dtype_of(structure, byte_order, align), shape, order, seed)
                        yield name, file_of(array, (3 if kind == "unicode" else 1, 0))
    for name, descr, size in [
        ("no_name", "[('', '<f4'), ('a', [('', '<i2'), ('b', '<i2')])]", 8),
        ("padding", "[('', '|V3'), ('a', '<i2'), ('', '|V1', (3,)), ('b', '<f4'), ('', [('c', '<i4')], (2,)), ('', '|V1')]", 21),
    ]:
        text = f"{{'descr': {descr}, 'fortran_order': False, 'shape': (2,)}}"
        yield name, handwritten(text, 1, np.arange(1, 1 + 2 * size, dtype=np.uint8), -(len(text) + 11) % 64)


def main():
    every = "--all" in sys.argv
    folder = pathlib.Path(sys.argv[-1])
    folder.mkdir(parents=True, exist_ok=True)
    lines = []
    files = 0
    for name, data in cases(every):
        array = np.load(io.BytesIO(data), allow_pickle=False)
        (folder / f"{name}.npy").write_bytes(data)
        lines += [line_of(f"{name}.npy", array, path, field) for path, field in leaves(array)]
        files += 1
    (folder / "expected.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    print(f"{files} files in {folder}, by NumPy {np.__version__}")


if __name__ == "__main__":
    main()
