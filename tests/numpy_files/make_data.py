"""Writes .npy files with NumPy, and next to them a list of their contents.

    python3 make_data.py FOLDER           the few that are committed
    python3 make_data.py --all FOLDER     every dtype x order x version x rank

expected.txt has one line a file, its columns parted by tabs: name, version, descr, fortran_order,
shape, strides in elements, and the items in C order and little endian, in hexadecimal. "bytes" in the
last column says that np.save writes this very file for this array. Nothing is random from run to run.
"""

import io
import pathlib
import sys

import numpy as np
from numpy.lib import format as npy

DTYPES = ["b1", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "f2", "f4", "f8", "c8", "c16"]
TIMES = ["M8[ns]", "M8[25s]", "M8", "m8[D]"]
SHAPES = [(), (5,), (2, 3), (3, 1, 2), (2, 2, 3, 2), (1, 2, 1, 3, 2)]


def array_of(dtype, shape, order, seed):
    dtype = np.dtype(dtype)
    size = int(np.prod(shape, dtype=np.int64))
    rng = np.random.default_rng(seed)
    raw = rng.integers(0, 256, size * dtype.itemsize, dtype=np.uint8)
    if dtype.kind == "b":
        raw &= 1
    # Any bits, also NaNs: nothing here may change them.
    return np.asarray(np.frombuffer(raw.tobytes(), dtype).reshape(shape), order=order)


def file_of(array, version):
    out = io.BytesIO()
    npy.write_array(out, array, version=version, allow_pickle=False)
    return out.getvalue()


def line_of(name, data, array, version):
    strides = [stride // array.itemsize for stride in array.strides]
    little = array if array.dtype.str[0] != ">" else array.byteswap()
    saved = io.BytesIO()
    np.save(saved, array, allow_pickle=False)
    columns = [name, version, array.dtype.str, int(b"True" in data[:128]),
               ",".join(map(str, array.shape)), ",".join(map(str, strides)),
               little.tobytes().hex(), "bytes" if saved.getvalue() == data else "-"]
    return "\t".join(map(str, columns))


def handwritten(text, version, array, pad=0):
    """A file as another writer may write it."""
    text = text.encode("latin1" if version < 3 else "utf8") + b" " * pad + b"\n"
    length = len(text).to_bytes(2 if version == 1 else 4, "little")
    return b"\x93NUMPY" + bytes([version, 0]) + length + text + array.tobytes("A")


def cases(every):
    seed = 0
    if every:
        for dtype in DTYPES + TIMES:
            for byte_order in "<>":
                if np.dtype(dtype).itemsize == 1 and byte_order == ">":
                    continue
                for shape in SHAPES:
                    for order in "CF":
                        for version in (1, 2, 3):
                            seed += 1
                            array = array_of(byte_order + dtype, shape, order, seed)
                            name = f"{seed:04}_{array.dtype.str[1:].replace('[', '_').replace(']', '')}"
                            yield f"{name}_{order}{len(shape)}v{version}", version, array, None
        return
    for dtype in DTYPES + TIMES:
        for byte_order in "<>" if np.dtype(dtype).itemsize > 1 else "<":
            for order in "CF":
                seed += 1
                array = array_of(byte_order + dtype, (2, 3, 2), order, seed)
                name = dtype.replace("[", "_").replace("]", "")
                yield f"{'big' if byte_order == '>' else 'little'}_{name}_{order}", 1, array, None
    for version in (1, 2, 3):
        for shape in SHAPES + [(0,), (0, 3), (3, 0, 2), (1,) * 32, (2,) * 7]:
            for order in "CF":
                seed += 1
                array = array_of("<f4", shape, order, seed)
                text = "x".join(map(str, shape)) if len(shape) < 8 else f"rank{len(shape)}"
                yield f"v{version}_{text or 'scalar'}_{order}", version, array, None
    array = array_of("<i4", (2, 3), "C", 1000)
    line = array_of("<i4", (6,), "C", 1000)
    head = "{'descr': '<i4', 'fortran_order': False, 'shape': (2, 3)}"
    for name, version, text, pad, value in [
        ("no_trailing_comma", 1, head, 0, array),
        ("blank_tuple_item", 1, head.replace("(2, 3)", "(2, 3, )"), 0, array),
        ("keys_in_another_order", 1, "{'shape': (2, 3), 'descr': '<i4', 'fortran_order': False, }", 3, array),
        ("double_quotes", 1, head.replace("'", '"'), 0, array),
        ("no_blanks", 1, head.replace(" ", ""), 1, array),
        ("many_blanks", 1, "  " + head.replace(" ", "  \t").replace(")", " ) "), 5, array),
        ("line_ends", 1, head.replace(", ", ",\n  "), 0, array),
        ("comment", 1, head.replace("(2, 3)", "( # rows\n 2, 3)") + " # end", 0, array),
        ("escapes", 1, head.replace("descr", r"d\x65s\u0063\162").replace("<i4", r"\074i4"), 0, array),
        ("python2_long", 1, head.replace("(2, 3)", "(2L, 3L)"), 0, array),
        ("python2_long_v2", 2, head.replace("(2, 3)", "(2L, 3)"), 0, array),
        ("native_byte_order", 1, head.replace("<i4", "=i4"), 0, array),
        ("no_byte_order", 1, head.replace("<i4", "i4"), 0, array),
        ("short_v2", 2, head, 2, array),
        ("short_v3", 3, head, 7, array),
        ("long_header", 1, head, 9000, array),
        ("fortran_1d", 1, "{'descr': '<i4', 'fortran_order': True, 'shape': (6,)}", 0, line),
    ]:
        yield name, version, value, handwritten(text, version, value, pad)


def main():
    every = "--all" in sys.argv
    folder = pathlib.Path(sys.argv[-1])
    folder.mkdir(parents=True, exist_ok=True)
    lines = []
    for name, version, array, data in cases(every):
        if data is None:
            data = file_of(array, (version, 0))
        loaded = np.load(io.BytesIO(data), allow_pickle=False)
        assert loaded.tobytes() == array.tobytes() and loaded.shape == array.shape, name
        (folder / f"{name}.npy").write_bytes(data)
        lines.append(line_of(f"{name}.npy", data, loaded, version))
    (folder / "expected.txt").write_text("\n".join(lines) + "\n")
    print(f"{len(lines)} files in {folder}, by NumPy {np.__version__}")


if __name__ == "__main__":
    main()
