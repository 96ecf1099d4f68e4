"""Texts that name a dtype, or might: all short ones, and the long ones that NumPy's parser has rules for."""

import collections
import itertools
import re
import string

import numpy as np

ORDERS = ["", "<", ">", "=", "|"]
LETTERS = "?bBhHiIlLqQpPnNefdgFDGOSaUVMmc"
# Names of NumPy 1 and of NumPy 2.
NAMES = sorted({name for name in np.sctypeDict if isinstance(name, str) and len(name) > 1} | set("""
    bool bool_ bool8 byte ubyte short ushort intc uintc int int_ int0 uint uint0 intp uintp long ulong longlong ulonglong int8 int16
    int32 int64 uint8 uint16 uint32 uint64 half single double float float_ longdouble longfloat float16 float32 float64 float128
    csingle singlecomplex cdouble cfloat complex complex_ clongdouble clongfloat longcomplex complex64 complex128 complex256 object
    object_ object0 str str_ str0 unicode unicode_ bytes bytes_ bytes0 string_ void void0 datetime64 timedelta64""".split()))
OTHER_WORDS = """float8 float96 float256 int128 uint128 complex32 complex192 complex512 bfloat16 float8_e5m2 string string0 character
    datetime timedelta number generic integer inexact record recarray buffer None none Float32 Int64 Object0""".split()
SIZES = [*map(str, range(65)), "00", "01", "02", "04", "08", "016", "0008", "+1", "+4", "+8", " 1", " 4", " 8", "  8", "\t8", "\n8",
         "\v8", "\f8", "\r8", "-0", "-1", "-8", "- 8", "+ 8", " +8", "++8", "8 ", "8\n", "0x8", "8.", "8.0", "1e1", "1_6", "65536",
         "536870911", "536870912", "2147483647", "2147483648", "4294967296", "4294967304", "9223372036854775808",
         "99999999999999999999", "\u0664", "\uff18", "\u00b2"]
UNITS = ["Y", "M", "W", "D", "h", "m", "s", "ms", "us", "ns", "ps", "fs", "as", "generic", "\u03bcs", "\u00b5s", "B", "S", "H", "min", ""]
COUNTS = ["", "0", "1", "2", "3", "7", "25", "00", "01", "010", "+5", "-1", "-0", " 1", "1 ", " ", "\t3", "2147483647", "2147483648",
          "4294967297", "1.5", "0x2"]
DIVISORS = ["", "/", *(f"/{n}" for n in (1, 2, 3, 4, 5, 7, 8, 10, 12, 24, 30, 52, 60, 61, 100, 168, 365, 720, 1000, 1440, 3600, 10080,
                                         60000, 86400, 500000, 1000000, 1000001, 2147483647, 2147483648, 4294967298)),
            "/-1", "/-2", "/-1000", " /2", "/ 2", "/2 ", "/+2", "/02", "/1000/2", "//2", "/s", "/2s"]
ALPHABET = string.ascii_letters + string.digits + "<>=|?[]() +-_,./:*\t\n\v\f\r\0\1\7\x10\x17\x18\x7f\x80\xe9"


def texts():
    """Each text once."""
    seen = set()
    for text in all_texts():
        if text not in seen:
            seen.add(text)
            yield text


def all_texts():
    for size in range(4):
        yield from map("".join, itertools.product(ALPHABET, repeat=size))
    for name, order in itertools.product([*NAMES, *OTHER_WORDS], [*ORDERS, " ", "\t", "!", "@", "^", "<<"]):
        for changed in (name, name.upper(), name.capitalize(), name.lower(), name + " ", name + "\n", " " + name, name + "_",
                        name + "0", name + "8", name + "64", name + "\0", name + "[s]", name[:-1], name.replace("_", "")):
            yield order + changed
    for order, number, size in itertools.product(ORDERS, range(1, 256), SIZES):
        yield order + chr(number) + size
    for order, name, unit, count in itertools.product(ORDERS, ["M8", "m8", "datetime64", "timedelta64"], UNITS, COUNTS):
        for divisor in DIVISORS if order in ("", ">") and name in ("M8", "timedelta64") else ["", "/1", "/2", "/7", "/60"]:
            yield f"{order}{name}[{count}{unit}{divisor}]"
    for order, name in itertools.product(ORDERS, ["M8", "m8", "datetime64", "timedelta64", "M", "m", "M4", "M16", "m08", "datetime",
                                                  "Datetime64", "M8 ", "m+8", "f8", "S8"]):
        for tail in ["[", "]", "[]", "[s", "s]", "[s]", "[s]]", "[[s]", "[s]x", "[s] ", "(s)", "[s][s]", "[s]s", "[,s]", "[s,]", "[s,2]",
                     "[s, 2, 1]", "x", "8", "64", "_", "[s]/2", "[\0]", "[s\0]"]:
            yield order + name + tail
    for order, repeat, inner in itertools.product(ORDERS, ["()", "(1,)", "(2,)", "1", "2", "0", "( )", " ()", "(1)"], ORDERS):
        for name in ["f4", "i8", "S5", "M8[s]", "float32", "?", "U", "d"]:
            yield from (order + repeat + inner + name, order + name + "," + inner + name, order + name + ",")


def spelled():
    """{descr: texts that this NumPy reads as this descr}."""
    found = collections.defaultdict(list)
    units = [f"[{count}{unit}{divisor}]" for unit, count, divisor in
             itertools.product(UNITS, ["", "1", "2", "25", "010", "+5", " 1"], ["", "/1", "/2", "/12", "/1000"])]
    for text in [*NAMES, *(order + text for order in ORDERS for text in [
            *LETTERS, *(kind + size for kind in "biufcSUVaOMm" for size in SIZES if len(size) < 4),
            *(name + unit for name in ["M8", "m8", "datetime64", "timedelta64"] for unit in ["", *units])])]:
        try:
            found[np.dtype(text).str].append(text)
        except (TypeError, ValueError):
            pass
    return found


def are_safe(text):
    """Whether NumPy survives the texts of dtypes in `text`: it divides by what follows the / of a unit, in 32 bits."""
    return not any(int(number) % 2**32 == 0 for number in re.findall(r"/\s*([-+]?\d+)\s*\]", text))


def miscalculated(text):
    """Whether NumPy computes with numbers that overflow in `text`, or are negative."""
    numbers = [int(number) for number in re.findall(r"-?\d+", text)]
    limit = 2**29 if "U" in text else 2**31
    if any(not 0 <= number < limit for number in numbers):
        return True
    if not (divided := re.search(r"\[\s*[-+]?(\d*)(\w+)/\s*[-+]?(\d+)\]", text)):
        return False
    count, unit, divisor = divided.groups()
    # NumPy looks for four units that are finer than a week. There are three.
    return int(count or 1) * 10**6 >= 2**31 or unit == "W" and 7 % int(divisor) and 168 % int(divisor) and 10080 % int(divisor)


def why_refused(text):
    """Why this library refuses a text that NumPy takes, by docs/differences-from-numpy.md; None for no reason of these."""
    if re.match(r"[<>=|]?\s*[(0-9]", text) or "," in text:
        return "a list of dtypes, or a sub-array, in one string"
    if len(text.lstrip("<>=|")) == 1 and text[-1] < "\x20":
        return "the number of a dtype, as a control character"
    if text.lstrip("<>=|") == "T":
        return "StringDType, of which np.load refuses the data"
    if miscalculated(text):
        return "a size or a unit that NumPy miscalculates"
    return None


def why_read(text):
    """Why this library reads a text that this NumPy refuses; None for no reason of these."""
    if np.lib.NumpyVersion(np.__version__) < "2.0.0":
        return "a dtype of NumPy 2" if text.lstrip("<>=|") in ("n", "N") else None
    if text in ("<a", ">a", "=a", "|a") or text in """bool8 int0 uint0 float_ longfloat singlecomplex cfloat complex_ clongfloat
            longcomplex object0 str0 unicode_ bytes0 string_ void0""".split():
        return "a dtype of NumPy 1"
    return None
