"""Makes .npy and .npz files: as NumPy writes them, as other writers do, and damaged."""

import ast
import io
import math
import random
import struct
import zipfile

import numpy as np

try:
    import scipy.sparse
except ImportError:
    scipy = None

import spellings

SPELLED = spellings.spelled()
KINDS = ["b1", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "f2", "f4", "f8", "c8", "c16", "M8[ns]", "M8[25s]", "M8",
         "m8[D]", "m8", "S0", "S1", "S3", "U1", "U3", "V1", "V2", "V4", "V8", "V16", "f16", "c32"]
# Parts of headers: what writers emit, what Python accepts, and what is wrong.
TOKENS = [b"'", b'"', b"(", b")", b"[", b"]", b"{", b"}", b",", b":", b" ", b"\n", b"\r", b"\t", b"\f", b"\0", b"#", b"# x\n",
          b"\\", b"\\x41", b"\\n", b"\\u00e9", b"L", b"l", b"0", b"1", b"-", b"+", b"1_0", b"0x1", b"00", b"1.", b"1e1", b"1j",
          b"9223372036854775807", b"9223372036854775808", b"18446744073709551616", b"4294967296", b"True", b"False",
          b"None", b"'descr': ", b"'shape': ", b"'fortran_order': ", b"'<f4'", b"'>f8'", b"'|b1'", b"'|O'", b"'<U2'", b"'|S3'",
          b"'<M8[ns]'", b"'>m8[2D]'", b"'<M8[ns/2]'", b"'float32'", b"'f4,i4'", b"'<f1'", b"'i'", b"'?'", b"'S'", b"'a5'", b"'ubyte'",
          b"'datetime64[s]'", b"[('a', '<f4')]", b"('<f4', {'a': 1})",
          b"('b', '<i2'), ", b"('', '|V4'), ", b"('<f4', (2,))", b"b'", b"r'", b"u'", b"'''", b"\xe9", b"\xc3\xa9", b"\xff",
          b"(2,)", b"(2, 3, )", b"(2,,3)", b"()", b"<", b">", b"|", b"=", b"64", b"2", b"3", b"4", b"8", b"\x0b", b"\x1a"]
FIELDS = ["a", "b", "xy", "a.b", "é", "it's", ""]


def random_dtype(rng, depth=0):
    if depth < 2 and rng.random() < 0.1:
        fields = []
        for name in rng.sample(FIELDS, rng.randint(1, 4)):
            title = (f"title of {name}", name) if name and rng.random() < 0.1 else name
            dtype = random_dtype(rng, depth + 1)
            many = rng.random() < 0.3 and dtype.itemsize != 0
            shape = [tuple(rng.randint(0, 3) for _ in range(rng.randint(1, 2)))] if many else []
            if many and rng.random() < 0.2 and 0 not in shape[0]:
                dtype = np.dtype((dtype, (rng.randint(1, 2),)))
            fields.append((title, dtype, *shape))
        return np.dtype(fields, align=rng.random() < 0.5)
    return np.dtype(rng.choice("<>") + rng.choice(KINDS))


def random_shape(rng, dtype):
    # The axes of sub-arrays are added, and NumPy 1 allows 32 in all.
    rank = rng.choice([0, 1, 1, 1, 2, 2, 3, 4, rng.randint(5, 32 if dtype.names is None else 8)])
    return tuple(1 if rank > 4 and rng.random() < 0.9 else rng.randint(0, 4) for _ in range(rank))


def payload_of(rng, dtype, shape):
    count = math.prod(shape)
    if dtype.kind == "U":  # NumPy takes any bits, but some of its functions do not
        return np.array([rng.randrange(0x110000) for _ in range(count * dtype.itemsize // 4)],
                        dtype.newbyteorder("=").byteorder + "u4").astype(dtype.str[0] + "u4").tobytes()
    return rng.randbytes(count * dtype.itemsize)


def by_numpy(rng):
    """A file as NumPy itself writes it."""
    dtype = random_dtype(rng)
    shape = random_shape(rng, dtype)
    array = np.frombuffer(payload_of(rng, dtype, shape), np.uint8)
    array = (array.view(dtype) if dtype.itemsize else np.empty(math.prod(shape), dtype)).reshape(shape)
    if rng.random() < 0.4:
        array = np.asfortranarray(array)
    out = io.BytesIO()
    version = rng.choice([None, None, (1, 0), (2, 0), (3, 0)])
    try:
        np.lib.format.write_array(out, array, version)
    except (ValueError, UnicodeEncodeError):  # a name that this version has no letters for
        np.lib.format.write_array(out, array, (3, 0))
    return out.getvalue()


def assembled(version, text, data):
    length = struct.pack("<H", len(text) & 0xFFFF) if version == 1 else struct.pack("<I", len(text))
    return b"\x93NUMPY" + bytes([version, 0]) + length + text + data


def respelled(rng, descr):
    """A descr that means the same, with other names for its dtypes."""
    if isinstance(descr, str):
        return rng.choice(SPELLED.get(descr, [descr])) if rng.random() < 0.8 else descr
    if isinstance(descr, tuple):
        return (respelled(rng, descr[0]), *descr[1:])
    return [(field[0], respelled(rng, field[1]), *field[2:]) for field in descr]


def by_another_writer(rng):
    """A file with a header that means the same in another spelling."""
    version = rng.choice([1, 1, 1, 2, 3])
    dtype = random_dtype(rng)
    shape = random_shape(rng, dtype)
    quote = rng.choice(["'", '"'])
    blank = rng.choice(["", " ", "  ", "\n", "\t", " # a remark\n"])
    descr = np.lib.format.dtype_to_descr(dtype)
    is_respelled = rng.random() < 0.4
    if is_respelled:
        descr = respelled(rng, descr)
    descr = repr(descr).replace("'", quote) if dtype.names is None or quote == "'" else repr(descr)
    if dtype.names is None and not is_respelled and rng.random() < 0.1:
        descr = descr.replace("f", "\\x66").replace("i", "\\151")
    if dtype.names is None and not is_respelled and rng.random() < 0.1:
        descr = descr.replace("<", rng.choice(["=", "", "|"]))
    long = "L" if version < 3 and rng.random() < 0.3 else ""
    items = [f"{length}{long}" for length in shape]
    comma = "," if len(items) == 1 or (items and rng.random() < 0.3) else ""
    tuple_ = "(" + ("," + blank).join(items) + comma + (blank if rng.random() < 0.3 else "") + ")"
    pairs = [("descr", descr), ("fortran_order", rng.choice(["True", "False"])), ("shape", tuple_)]
    rng.shuffle(pairs)
    inner = ("," + blank).join(f"{quote}{key}{quote}:{blank}{value}" for key, value in pairs)
    text = "{" + blank + inner + rng.choice(["", ",", ", "]) + "}" + " " * rng.choice([0, 0, 1, 7, 64])
    text += rng.choice(["", "\n", "\n", "\r\n"])
    encoded = text.encode("utf8" if version == 3 else "latin1", "replace")
    return assembled(version, encoded, payload_of(rng, dtype, shape) + rng.randbytes(rng.choice([0, 0, 0, 1, 100])))


def spans(data):
    """The first and last bytes of the prefix, the header text and the data of a file."""
    wide = len(data) > 6 and data[6] != 1
    begin = 12 if wide else 10
    length = int.from_bytes(data[8:begin], "little")
    end = min(len(data), begin + length)
    return [(0, min(begin, len(data))), (min(begin, len(data)), end), (end, len(data))]


def with_length(data):
    """The same file with a corrected length field, after the length of the text was changed."""
    end = data.find(b"}", 10)
    end = data.find(b"\n", end)
    if end < 0 or data[6:7] not in (b"\1", b"\2", b"\3"):
        return data
    begin = 10 if data[6] == 1 else 12
    return assembled(data[6], data[begin : end + 1], data[end + 1 :])


def mutated(rng, data, other, parts=spans):
    for _ in range(rng.choice([1, 1, 1, 1, 2, 3])):
        begin, end = rng.choices(parts(data), [1, 4, 2])[0] if parts is spans else rng.choice(parts(data))
        at = rng.randint(begin, max(begin, end))
        size = rng.choice([1, 1, 1, 2, 4, rng.randint(0, 40)])
        piece = data[at : at + size]
        match rng.randrange(7):
            case 0:  # flip
                if piece:
                    data = data[:at] + bytes([data[at] ^ 1 << rng.randrange(8)]) + data[at + 1 :]
            case 1:  # cut out, or off
                data = data[:at] if rng.random() < 0.1 else data[:at] + data[at + size :]
            case 2:  # insert
                data = data[:at] + rng.choice(TOKENS) + data[at:]
            case 3:  # duplicate
                data = data[:at] + piece + data[at:]
            case 4:  # put something else in its place
                token = rng.choice(TOKENS)
                data = data[:at] + token + data[at + rng.choice([len(token), size]) :]
            case 5:  # splice
                cut = rng.randint(0, len(other))
                data = data[:at] + (other[at:] if rng.random() < 0.5 else other[cut : cut + size] + data[at:])
            case 6:  # another number
                data = data[:at] + rng.randbytes(1) + data[at + 1 :]
    return with_length(data) if parts is spans and rng.random() < 0.5 else data


class Pipe(io.RawIOBase):
    """A stream that cannot seek: zipfile then writes sizes and CRC after the data."""

    def __init__(self):
        self.bytes = b""

    def writable(self):
        return True

    def write(self, data):
        self.bytes += bytes(data)
        return len(data)


def archive(rng):
    """An archive as np.savez, or zipfile in one of its many ways, writes it."""
    out = Pipe() if rng.random() < 0.2 else io.BytesIO()
    with zipfile.ZipFile(out, "w") as zipped:
        if rng.random() < 0.1:
            zipped.comment = rng.choice([b"hello", b"PK\x05\x06", rng.randbytes(30)])
        for name in rng.sample(["a", "b", "weights/1", "é", "日本", "x.npy", "list.txt", "a b"], rng.randint(0, 3)):
            info = zipfile.ZipInfo(name if rng.random() < 0.1 else f"{name}.npy", (1980, 1, 1, 0, 0, 0))
            info.compress_type = rng.choice([zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
            if rng.random() < 0.2:
                info.extra = struct.pack("<HH", rng.choice([0x5455, 0xD935, 0xCAFE]), 4) + rng.randbytes(4)
            if rng.random() < 0.1:
                info.comment = b"a remark"
            content = by_numpy(rng) if rng.random() < 0.9 else by_another_writer(rng) if rng.random() < 0.5 else b"text"
            with zipped.open(info, "w", force_zip64=rng.random() < 0.2) as member:
                member.write(content)
    return out.bytes if isinstance(out, Pipe) else out.getvalue()


def records_of(data):
    """The offsets of the records of an archive, which are few bytes among many of data."""
    spans = []
    for signature, size in [(b"PK\x03\x04", 60), (b"PK\x01\x02", 60), (b"PK\x05\x06", 22), (b"PK\x06\x06", 76)]:
        at = data.find(signature)
        while at != -1:
            spans.append((at, min(len(data), at + size)))
            at = data.find(signature, at + 1)
    return [*spans, *spans, (0, len(data))]


def sparse(rng):
    """A matrix as SciPy writes it: sorted or not, with several entries for one element, or with indices of int64."""
    shape = rng.choice([(0, 0), (1, 1), (4, 6), (6, 4), (12, 12), (rng.randint(1, 40), rng.randint(1, 40))])
    count = rng.randint(0, 3 * max(shape)) if all(shape) else 0
    # Small integers, whose sums are exact.
    dtype = rng.choice(["b1", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "f4", "f8", "c8", "c16"])
    values = np.array([rng.randint(-3 if dtype[0] in "ifc" else 0, 3) for _ in range(count)]).astype(dtype)
    row = np.array([rng.randrange(shape[0]) for _ in range(count)], "i4")
    column = np.array([rng.randrange(shape[1]) for _ in range(count)], "i4")
    matrix = scipy.sparse.coo_matrix((values, (row, column)), shape)
    kind = rng.choice(["csr", "csc", "coo", "bsr", "dia"])
    if kind == "bsr":
        sizes = [[n for n in range(1, length + 1) if length % n == 0] or [1] for length in shape]
        matrix = matrix.tobsr(blocksize=tuple(map(rng.choice, sizes)))
    elif kind != "coo":
        matrix = matrix.asformat(kind)
    if kind in ("csr", "csc") and rng.random() < 0.3:  # unsorted
        for begin, end in zip(matrix.indptr, matrix.indptr[1:]):
            matrix.indices[begin:end] = matrix.indices[begin:end][::-1].copy()
            matrix.data[begin:end] = matrix.data[begin:end][::-1].copy()
        matrix.has_sorted_indices = False
    if rng.random() < 0.2:
        for name in ("indices", "indptr", "row", "col"):
            if hasattr(matrix, name):
                setattr(matrix, name, getattr(matrix, name).astype(rng.choice(["i8", ">i4", "i2"])))
    out = io.BytesIO()
    if rng.random() < 0.2:
        parts = {name: getattr(matrix, name) for name in ("indices", "indptr", "row", "col", "offsets") if hasattr(matrix, name)}
        np.savez(out, format=kind, shape=matrix.shape, data=matrix.data, **parts)
    else:
        scipy.sparse.save_npz(out, matrix, compressed=rng.random() < 0.5)
    return out.getvalue()


def damaged_sparse(rng, data):
    """The same matrix with other numbers in one of its arrays."""
    with np.load(io.BytesIO(data)) as archive:
        parts = dict(archive)
    name = rng.choice([name for name in parts if name != "format"])
    array = parts[name].copy()
    if array.size and rng.random() < 0.8:
        array.flat[rng.randrange(array.size)] = rng.choice([0, 1, 2, 5, 39, 40, 100])
    else:
        array = array[: rng.randint(0, len(array))] if array.ndim else array
    out = io.BytesIO()
    np.savez(out, **{**parts, name: array})
    return out.getvalue()


def files(seed):
    """Endlessly: ('n' for .npy, 'z' for .npz, 's' for a sparse matrix, 'y' and 't' for damaged ones, bytes)."""
    rng = random.Random(seed)
    npy, npz = by_numpy(rng), archive(rng)
    while True:
        last, last_npz = npy, npz
        if scipy is not None and rng.random() < 0.05:
            matrix = sparse(rng)
            yield "s", matrix
            for _ in range(2):
                yield "t", damaged_sparse(rng, matrix)
            continue
        if rng.random() < 0.12:
            npz = archive(rng)
            yield "z", npz
            for _ in range(3):
                yield "y", mutated(rng, npz, last_npz, records_of)
            continue
        npy = by_numpy(rng) if rng.random() < 0.6 else by_another_writer(rng)
        yield "n", npy
        for _ in range(3):
            yield "n", mutated(rng, npy, last)
