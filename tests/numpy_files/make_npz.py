"""Writes .npz archives with NumPy and Python's zipfile, and checks those that C++ wrote.

    python3 make_npz.py write ARRAYS FOLDER    archives of the files in ARRAYS, and expected.txt
    python3 make_npz.py check ARRAYS FOLDER    every archive in FOLDER, against ARRAYS

expected.txt has one line an array, its columns parted by tabs: archive, name, the file in ARRAYS that
is the same array, and whether it is deflated. keys.txt, which C++ writes, has the last three's first
two. Nothing is random from run to run.
"""

import io
import pathlib
import shutil
import subprocess
import sys
import zipfile

import numpy as np

NAMES = ["little_f4_C", "little_f4_F", "big_f8_C", "little_b1_C", "little_c16_F", "little_M8_ns_C", "little_u1_C",
         "v1_scalar_C", "v1_0x3_C", "v2_2x3_C", "v1_rank32_C"]


class Pipe(io.RawIOBase):
    """A stream that cannot seek: sizes and CRC are then after the data."""

    def __init__(self):
        self.bytes = b""

    def writable(self):
        return True

    def write(self, data):
        self.bytes += bytes(data)
        return len(data)


def archives(arrays):
    """Yields a name, the archive's bytes, and (name in it, file, deflated) of each array."""
    loaded = {name: np.load(arrays / f"{name}.npy") for name in NAMES}
    data = {name: (arrays / f"{name}.npy").read_bytes() for name in NAMES}
    for name, save, deflated in [("savez", np.savez, False), ("savez_compressed", np.savez_compressed, True)]:
        out = io.BytesIO()
        save(out, **loaded)
        yield name, out.getvalue(), [(key, key, deflated) for key in NAMES]

    def zipped(out, names, options=None, **kwds):
        with zipfile.ZipFile(out, "w", **kwds) as archive:
            for i, (name, file) in enumerate(names):
                info = zipfile.ZipInfo(name)
                info.compress_type = 8 * (i % 2)
                if options:
                    options(archive, info)
                archive.writestr(info, data[file] if file else b"no array")
        return out.bytes if isinstance(out, Pipe) else out.getvalue()

    def expected(names):
        return [(name.removesuffix(".npy"), file, i % 2 == 1) for i, (name, file) in enumerate(names) if file]

    plain = [(f"{name}.npy", name) for name in NAMES[:6]]
    yield "descriptors", zipped(Pipe(), plain), expected(plain)

    def adorned(archive, info):
        archive.comment = b"a comment that says PK and more" * 20
        info.comment = b"of the member"
        info.extra = b"\x55\x54\x05\x00\x01abcd" + b"\x99\x99\x00\x00"
    backwards = plain[::-1]
    yield "comments_and_extra_fields", zipped(io.BytesIO(), backwards, adorned), expected(backwards)

    mixed = [("readme.txt", None), ("notes", None), ("stored", NAMES[0]), ("deflated", NAMES[1]), ("folder/", None),
             (".npy", NAMES[2]), ("folder/in.it.npy", NAMES[3]), ("empty", None), ("npy", NAMES[4])]
    yield "no_suffix", zipped(io.BytesIO(), mixed), expected(mixed)

    names = [("größe.npy", NAMES[0]), ("日本語.npy", NAMES[1]), ("caf?.npy", NAMES[2])]
    yield ("names", zipped(io.BytesIO(), names).replace(b"caf?", b"caf\x82"),
           [("größe", NAMES[0], False), ("日本語", NAMES[1], True), ("café", NAMES[2], False)])

    limits = zipfile.ZIP64_LIMIT, zipfile.ZIP_FILECOUNT_LIMIT
    zipfile.ZIP64_LIMIT, zipfile.ZIP_FILECOUNT_LIMIT = 100, 2
    try:
        yield "zip64", zipped(io.BytesIO(), plain), expected(plain)
    finally:
        zipfile.ZIP64_LIMIT, zipfile.ZIP_FILECOUNT_LIMIT = limits
    yield "empty", zipped(io.BytesIO(), []), []


def write(arrays, folder):
    folder.mkdir(parents=True, exist_ok=True)
    lines = []
    for name, data, members in archives(arrays):
        (folder / f"{name}.npz").write_bytes(data)
        with np.load(io.BytesIO(data)) as archive:
            for key, file, deflated in members:
                array = np.load(arrays / f"{file}.npy")
                assert archive[key].tobytes("A") == array.tobytes("A") and archive[key].dtype == array.dtype, key
                lines.append("\t".join([f"{name}.npz", key, f"{file}.npy", str(int(deflated))]))
    (folder / "expected.txt").write_text("\n".join(lines) + "\n")
    print(f"{len(lines)} arrays in {folder}, by NumPy {np.__version__} and Python {sys.version.split()[0]}")


def check(arrays, folder):
    keys = [line.split("\t") for line in (folder / "keys.txt").read_text().splitlines()]
    paths = sorted(folder.glob("*.npz"))
    assert len(paths) == 4 and len(keys) > 10, paths
    for path in paths:
        with zipfile.ZipFile(path) as archive:
            assert archive.testzip() is None, path
            assert archive.namelist() == [f"{key}.npy" for key, _ in keys], path
            methods = {info.compress_type for info in archive.infolist()}
            assert methods == ({8} if "compressed" in path.name else {0}), (path, methods)
        with np.load(path) as archive:
            for key, file in keys:
                want = np.load(arrays / file)
                if want.dtype.kind in "mM":  # a tensor has no unit
                    want = want.view(want.dtype.str[0] + "i8")
                want = want.astype(want.dtype.newbyteorder("="))
                got = archive[key]
                assert got.dtype == want.dtype and got.shape == want.shape, (path, key)
                assert got.tobytes() == want.tobytes(), (path, key)
        if shutil.which("unzip"):
            subprocess.run(["unzip", "-tqq", path], check=True)
    print(f"{len(paths)} archives of {len(keys)} arrays: NumPy, zipfile{' and unzip' if shutil.which('unzip') else ''}"
          " accept them")


if __name__ == "__main__":
    {"write": write, "check": check}[sys.argv[1]](pathlib.Path(sys.argv[2]), pathlib.Path(sys.argv[3]))
