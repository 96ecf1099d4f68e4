"""What NumPy makes of a file, in the format of judge.cpp, and why this library may differ."""

import ast
import io
import re
import tokenize
import warnings
import zipfile
import zlib

import numpy as np

import spellings

try:  # without_longs: NumPy's own way with Python 2's 10L
    from numpy.lib._format_impl import _filter_header as without_longs, _read_array_header as read_header
except ImportError:
    from numpy.lib.format import _filter_header as without_longs, _read_array_header as read_header

warnings.simplefilter("ignore")
NUMPY_RANK = 64 if np.lib.NumpyVersion(np.__version__) >= "2.0.0" else 32
REFUSED = (ValueError, TypeError, EOFError, OSError, KeyError, SyntaxError, MemoryError, OverflowError, RecursionError,
           UnicodeError, tokenize.TokenError, RuntimeError, AttributeError, IndexError, NotImplementedError)
# What zipfile throws for damaged archives.
BROKEN = (*REFUSED, zipfile.BadZipFile, zlib.error)


def native(array):
    """The same bits in this machine's byte order."""
    if array.dtype.byteorder not in "<>" or array.dtype.isnative:
        return array
    return array.byteswap()


def bits(array):
    """The bytes of an array in C order. NumPy changes any true bool that it copies to 1, and empty strings to long ones."""
    if array.size == 0 or array.dtype.itemsize == 0:
        return b""
    return (array.view("u1") if array.dtype.kind == "b" else native(array)).tobytes()


def memory(array):
    """The bytes of an array in the order of memory."""
    in_c_order = array.flags.c_contiguous or not array.flags.f_contiguous
    return bits(array if in_c_order else array.T)


def leaves(array, prefix=""):
    for name in array.dtype.names:
        field = array[name]
        if field.dtype.names is None:
            yield prefix + name, field
        else:
            yield from leaves(field, prefix + name + ".")


def is_long_double(dtype):
    return dtype.kind in "fc" and dtype.itemsize > 8 * (1 + (dtype.kind == "c"))


def comes_as_bytes(dtype):
    """A field that no tensor holds."""
    return dtype.kind == "V" or is_long_double(dtype)


def visible_shape(field):
    """Strings have an axis of characters, and what no tensor holds one of bytes."""
    width = 1 if comes_as_bytes(field.dtype) else {"S": 1, "U": 4}.get(field.dtype.kind)
    return field.shape + (() if width is None else (field.dtype.itemsize // width,))


def verdict_of(array, wide_unsigned):
    """wide_unsigned: whether the LibTorch has dtypes for u2 to u8; else they come as doubles."""

    def known(leaf):
        return leaf.astype("f8") if leaf.dtype.kind == "u" and leaf.dtype.itemsize > 1 and not wide_unsigned else leaf

    def rounded(array):
        return array.astype("f8" if array.dtype.kind == "f" else "c16") if is_long_double(array.dtype) else array

    def bits_of_field(leaf):
        return leaf.tobytes() if comes_as_bytes(leaf.dtype) else bits(known(leaf))

    if array.dtype.names == ():  # nothing but padding, which NumPy does not read
        return ("array", np.dtype(f"V{array.dtype.itemsize}"), array.shape, array.strides, None)
    if array.dtype.names is not None:
        fields = [(name, visible_shape(leaf), zlib.crc32(bits_of_field(leaf))) for name, leaf in leaves(array)]
        return ("fields", array.dtype, array.shape, fields)
    known_array = rounded(known(array))
    return ("array", array.dtype, array.shape, known_array.strides, zlib.crc32(memory(known_array)))


# NumPy 1 computes the size of such a dtype with an overflow, and then writes where it should not.
OVERFLOWING = re.compile(r"[<>=|]?[a-zA-Z]\s*(\+?\d{10}|-0*[1-9])")


def dtypes_in(text):
    """The texts of dtypes in a header, without the names of fields; every quoted text of a header that is no literal."""
    try:
        return list(dtype_strings(ast.literal_eval(dictionary_of(text))["descr"]))
    except REFUSED:
        return re.findall(r"['\"]([^'\"]*)", text)


def of_array(data, wide_unsigned):
    """What np.load makes of a file, or the exception."""
    text = header_text(data)
    if not spellings.are_safe(text):
        return ValueError("a divisor of 0, with which NumPy divides")
    if any(OVERFLOWING.match(dtype) for dtype in dtypes_in(text)):
        return ValueError("an item of more than 2^31 bytes")
    try:
        array = np.load(io.BytesIO(data), allow_pickle=False)
        if not isinstance(array, np.ndarray):
            return ValueError("an archive")
        return verdict_of(array, wide_unsigned)
    except REFUSED as error:
        return error


def of_header(data):
    """The dtype that NumPy reads from a header of version 3, or the exception."""
    try:
        return read_header(io.BytesIO(data[8:]), (3, 0))[2]
    except REFUSED as error:
        return error


def of_archive(data, wide_unsigned):
    """What zipfile and NumPy make of an archive: {name: verdict or exception}, or the exception."""
    try:
        if data[:4] not in (b"PK\x03\x04", b"PK\x05\x06"):
            return ValueError("np.load takes it for something else")
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            arrays = {}
            for info in archive.infolist():
                try:
                    content = archive.read(info)
                except BROKEN as error:
                    arrays[info.filename] = error
                    continue
                is_array = content.startswith(b"\x93NUMPY")
                arrays[info.filename] = of_array(content, wide_unsigned) if is_array else ValueError("no array")
            return arrays
    except BROKEN as error:
        return error


def of_sparse(data, wide_unsigned):
    """The dense form of a matrix that SciPy loads, or the exception. Indices must be known to be inside: SciPy does not look."""
    import scipy.sparse

    try:
        dense = scipy.sparse.load_npz(io.BytesIO(data)).toarray()
    except BROKEN as error:
        return error
    wide = dense.dtype.kind == "u" and dense.dtype.itemsize > 1 and not wide_unsigned
    return ("array", dense.dtype.newbyteorder("=") if not wide else np.dtype("f8"), dense.shape, dense.strides,
            zlib.crc32(bits(np.ascontiguousarray(dense.astype("f8") if wide else dense))))


# Reasons for which a sparse matrix that SciPy loads is refused.
REFUSED_MATRICES = re.compile(r"a matrix in the format dia|two entries at |\"(data|indices|indptr|row|col|shape)\.npy\"|"
                              r"member \"[a-z]+\.npy\": (expected|element)")


def parsed(line):
    """A line of judge.cpp's about one array."""
    kind, *columns = line.split("\t")

    def text(column):
        return bytes.fromhex(column).decode()

    def numbers(column):
        return tuple(map(int, filter(None, column.split(","))))

    if kind == "array":
        descr, shape, strides, crc = columns
        return (kind, text(descr), numbers(shape), numbers(strides), int(crc))
    if kind == "header":
        return (kind, text(*columns))
    if kind == "fields":
        descr, shape, *fields = columns
        fields = [field.split(":") for field in fields]
        return (kind, text(descr), numbers(shape), [(text(name), numbers(s), int(crc)) for name, s, crc in fields])
    return (kind, *columns)


def layout(dtype, shape=()):
    """What a dtype means: a sub-array of sub-arrays is one sub-array, a count of generic units and an empty title are none."""
    if dtype.subdtype is not None:
        base, axes = dtype.subdtype
        return layout(base, shape + axes)
    if NUMPY_RANK == 32:  # an axis of 1 element, said as a number, is none
        shape = tuple(length for length in shape if length != 1)
    if dtype.names is None:
        return "|O" if dtype.kind == "O" else dtype.str, shape
    fields = [(name, *(part for part in dtype.fields[name][1:] if part != ""), layout(dtype.fields[name][0])) for name in dtype.names]
    return fields, dtype.itemsize, shape


def same_dtype(descr, dtype):
    if dtype.names is None:
        return (descr, ()) == layout(dtype)
    return layout(np.lib.format.descr_to_dtype(ast.literal_eval(descr))) == layout(dtype)


def without_ones(fields):
    """A field of 1 element, said as a number, has an axis from NumPy 2 on."""
    return [(name, tuple(n for n in shape if n != 1), crc) for name, shape, crc in fields] if NUMPY_RANK == 32 else fields


def same(ours, numpys):
    """Whether both loaded the same thing."""
    if isinstance(numpys, Exception) or ours[0] != numpys[0]:
        return False
    if not same_dtype(ours[1], numpys[1]) or ours[2] != numpys[2]:
        return False
    if ours[0] == "fields":
        return without_ones(ours[3]) == without_ones(numpys[3])
    # An axis of length 1, and those of an array without bytes, can have any stride.
    if 0 not in ours[2] and numpys[1].itemsize and any(n != 1 and a != b for n, a, b in zip(ours[2], ours[3], numpys[3])):
        return False
    return numpys[4] in (None, ours[4])


def header_text(data):
    begin = 10 if data[6:7] == b"\1" else 12
    length = int.from_bytes(data[8:begin], "little")
    return data[begin : begin + length].decode("utf8" if data[6:7] == b"\3" else "latin1", "replace")


def dictionary_of(text):
    """The syntax tree of a header that NumPy reads."""
    try:
        return ast.parse(text.strip(), mode="eval").body
    except SyntaxError:  # Python 2's 10L
        return ast.parse(without_longs(text).strip(), mode="eval").body


def parentheses(text):
    try:
        return sum(token.string == "(" for token in tokenize.generate_tokens(io.StringIO(text).readline))
    except (tokenize.TokenError, SyntaxError):
        return 0


def spelled_by_no_writer(text):
    """What in a header that Python reads no writer emits; None where there is no such thing."""
    last = end = None
    try:
        for token in tokenize.generate_tokens(io.StringIO(text).readline):
            kind, string = token.type, token.string
            if kind in (tokenize.NL, tokenize.COMMENT, tokenize.NEWLINE):
                continue
            if kind == tokenize.NUMBER and not re.fullmatch(r"(0|[1-9]\d*)L?", string):
                return "a number no writer emits"
            if kind == tokenize.OP and string in "+-":
                return "a sign"
            if kind == tokenize.STRING:
                if string[0] not in "'\"" or string[:3] in ("'''", '"""'):
                    return "a prefixed or long string"
                if last == tokenize.STRING:
                    return "joined strings"
                if "\\N" in string or "\\\n" in string or "\\\r" in string or re.search(r"\\[^\\'\"abtnvfrxuU0-7]", string):
                    return "an escape no writer emits"
            if kind == tokenize.NAME and string == "L" and (last != tokenize.NUMBER or token.start != end):
                return "an L that is no part of a number"
            last, end = kind, token.end
    except (tokenize.TokenError, SyntaxError, IndentationError):
        return "text that Python's tokenizer does not take"
    if "\\\n" in text or "\\\r" in text:
        return "joined lines"
    return None


def leaf_dtypes(dtype):
    if dtype.subdtype is not None:
        yield from leaf_dtypes(dtype.subdtype[0])
    elif dtype.names is not None:
        for name in dtype.names:
            yield from leaf_dtypes(dtype.fields[name][0])
    else:
        yield dtype


def dtype_strings(descr):
    if isinstance(descr, str):
        yield descr
    elif isinstance(descr, tuple):
        yield from dtype_strings(descr[0])
    elif isinstance(descr, list):
        for field in descr:
            yield from dtype_strings(field[1])


def shapes(descr):
    if isinstance(descr, tuple):
        yield descr[1] if len(descr) == 2 else None
        yield from shapes(descr[0])
    elif isinstance(descr, list):
        for field in descr:
            yield from field[2:]
            yield from shapes(field[1])


def titles(descr):
    if isinstance(descr, tuple):
        yield from titles(descr[0])
    elif isinstance(descr, list):
        for field in descr:
            if isinstance(field[0], tuple):
                yield from field[0]
            yield from titles(field[1])


def is_shape(item):
    return isinstance(item, int) or (isinstance(item, tuple) and all(isinstance(length, int) for length in item))


def depth(descr):
    if isinstance(descr, tuple):
        return 1 + depth(descr[0])
    return 1 + max((depth(field[1]) for field in descr), default=0) if isinstance(descr, list) else 0


def refusal_of_dtype(ours, numpys):
    """Why this library refuses an array for its dtype, by docs/differences-from-numpy.md; None for no reason of these."""
    _, code, message = ours
    dtype = numpys[1]
    if dtype.names is not None:
        if code == "UnsupportedDtype" and "two" in message:
            return "two fields have one name with dots"
    return None


def refusal(ours, numpys, data):
    """Why this library refuses an array that NumPy loads, by docs/differences-from-numpy.md; None for no reason of these."""
    if reason := refusal_of_dtype(ours, numpys):
        return reason
    _, code, message = ours
    text = header_text(data)
    if "\\\n" in text or "\\\r" in text:
        return "joined lines"
    dictionary = dictionary_of(text)
    keys = [ast.literal_eval(key) for key in dictionary.keys]
    if len(keys) != len(set(keys)):
        return "a key twice"
    if parentheses(text) > parentheses(ast.unparse(dictionary)):
        return "parentheses no writer emits"
    spelling = spelled_by_no_writer(text)
    if spelling and code in ("BadHeader", "UnsupportedDtype", "TooLarge"):
        return spelling
    descr = ast.literal_eval(dictionary.values[keys.index("descr")])
    if code == "TooLarge" and numpys[1].itemsize == 0 and 0 in numpys[2]:
        return "no bytes of too many items"
    if code == "UnsupportedDtype" and isinstance(descr, tuple):
        return "a sub-array dtype for the whole array"
    if code == "UnsupportedDtype" and (reasons := list(filter(None, map(spellings.why_refused, dtype_strings(descr))))):
        return reasons[0]
    if code == "BadHeader" and "items of 0 bytes" in message:
        return "a field with a size for a shape"
    if code == "BadHeader" and not all(map(is_shape, shapes(descr))):
        return "a field with something else for a shape"
    if code == "BadHeader" and not all(isinstance(title, str) for title in titles(descr)):
        return "a title that is no string"
    if code == "BadHeader" and depth(descr) > 64:
        return "fields nested more than 64 deep"
    if code == "BadHeader" and "it ends with a carriage return" in message and text.endswith("\r"):
        return "a header that ends with a carriage return"
    if code == "BadHeader" and "escape sequence for an invalid code point" in message and re.search(r"\\[uU][0dD]", text):
        return "half of a surrogate pair"
    return None


def spelled_for_another_numpy(text):
    try:
        descr = ast.literal_eval(without_longs(text).strip())["descr"]
        return next(filter(None, map(spellings.why_read, dtype_strings(descr))), None)
    except (*REFUSED, tokenize.TokenError):
        return None


def leniency(ours, data, ask):
    """Why this library loads an array that NumPy refuses; `ask` gives both verdicts of other bytes."""
    if len(ours[2]) > NUMPY_RANK:
        return "more dimensions than this NumPy has"
    text = header_text(data)
    if reason := spelled_for_another_numpy(text):
        return reason
    begin = 10 if data[6:7] == b"\1" else 12
    stripped = text.strip(" \t\r\n\f")
    if stripped != text:
        raw = stripped.encode("utf8" if data[6:7] == b"\3" else "latin1")
        other = data[:8] + len(raw).to_bytes(begin - 8, "little") + raw + data[begin + int.from_bytes(data[8:begin], "little") :]
        ours_then, numpys_then = ask(other)
        if same(ours_then, numpys_then):
            return "blanks around the dictionary"
    return None


# Reasons for which damaged archives, or their members, are refused.
CONTRADICTIONS = [re.compile(reason) for reason in (
    r"bad archive: two members have the name .*", r"two arrays have the name .*",
    r"bad archive: the name of a member: .*( leads out of its folder| holds a zero byte| is not UTF-8|it is empty)",
    r"bad archive: its comment is cut short", r"bad archive: it is one part of a multi-part archive, which is not supported",
    r"bad archive: its end record declares a directory of .*", r"bad archive: the directory has \d+ members?, its end record declares \d+",
    r"bad archive: the directory has no valid entry at byte \d+", r"bad archive: its two end records .*",
    r"bad archive: no zip64 end record at byte \d+", r"bad archive: it has two end records",
    r"bad archive: the zip64 end record cannot be at byte \d+", r"bad archive: \d+ bytes? before its first member",
    r"bad archive: its end record is missing: ",
    r"(bad archive: )?a record of the archive is cut short", r"an extra field reaches past the end of the extra fields",
    r"it is encrypted, which is not supported",
    r"it has compression method \d+: 0 \(stored\) and 8 \(deflated\) are supported",
    r"no local header at byte \d+", r"its local header at byte \d+ and the directory disagree about .*",
    r"its header and data overlap what starts at byte \d+", r"it has two different names",
    r"\d+ bytes? between it and what follows belong to no member",
    r"its \d+ bytes? start at byte \d+ and overlap what starts at byte \d+",
    r"it is stored, but has two sizes: \d+ and \d+ bytes?",
    r"unpacking it needs version \d+\.\d+ of the zip format", r"deflate cannot unpack \d+ to \d+ bytes?",
    r"it has \d+ packed bytes? for only \d+ bytes?",
    r"the deflate stream is damaged, or does not unpack to the declared \d+ bytes?")]


def is_contradiction(message):
    reason = re.sub(r"^/proc/self/fd/\d+: ", "", message)
    reason = re.sub(r'^member ".*": ', "", reason)
    return any(pattern.fullmatch(reason) for pattern in CONTRADICTIONS)
