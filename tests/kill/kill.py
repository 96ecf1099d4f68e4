"""Kills processes that save, at random moments, and lets NumPy read the files that are left.

    python3 kill.py SAVER KILLS [SEED]    KILLS for each of save, save_npz, update_npz and Appender, in the midst of it
"""

import os
import pathlib
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time

import numpy as np


def number_of(array):
    """The number that a whole version has in each element."""
    number = int(array.flat[0])
    assert array.shape == (number % 50 * number % 50 + 1, 1000), f"shape {array.shape} of version {number}"
    assert (array == number).all(), f"not all of it is version {number}"
    return number


def check_save(path, _):
    return number_of(np.load(path))


def check_save_npz(path, _):
    with np.load(path) as archive:
        assert archive.files == ["a", "b"]
        number = number_of(archive["a"])
        assert number_of(archive["b"]) == number + 1
    return number


def check_update_npz(path, _):
    with np.load(path) as archive:
        number = number_of(archive["a"])
        assert number_of(archive["b"]) == number + 1
        assert number_of(archive["kept"]) == 777
        assert set(archive.files) == {"kept", "a", "b"} | ({"odd"} if number % 2 else set()), archive.files
        assert number % 2 == 0 or number_of(archive["odd"]) == number
    return number


def check_append(path, before):
    rows = np.load(path)
    assert rows.shape[1:] == (3,) and (rows.ravel() == np.arange(rows.size)).all(), "not the rows that were appended"
    assert len(rows) >= (before or 0), f"{before} rows were there, {len(rows)} are left"
    told = pathlib.Path(f"{path}.rows")
    flushed = int.from_bytes(told.read_bytes(), "little") if told.exists() else 0
    assert len(rows) >= flushed, f"{flushed} rows were flushed, {len(rows)} are left"
    return len(rows)


def main(saver, kills, seed):
    print(f"seed {seed}, NumPy {np.__version__}", flush=True)
    rng = random.Random(seed)
    process = subprocess.Popen([saver], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    ways = [("save", check_save), ("save_npz", check_save_npz), ("update_npz", check_update_npz), ("append", check_append)]
    for how, check in ways:
        # A kill before anything was saved does not count. A slow machine may have many of them.
        begun = tries = leftovers = 0
        with tempfile.TemporaryDirectory(prefix="torch_npy_") as folder:
            folder = pathlib.Path(folder)
            while begun < kills:
                if begun % 25 == 0:  # the first kill of a file may come before it is there
                    path, before = folder / f"{begun}.npy", None
                print(how, path, file=process.stdin, flush=True)
                child = int(process.stdout.readline())
                time.sleep(0.008 * rng.random())
                os.kill(child, signal.SIGKILL)
                while pathlib.Path(f"/proc/{child}").exists():
                    time.sleep(0.0001)
                temporary = list(folder.glob(".torch_npy-*.tmp"))
                assert len(temporary) <= 1 and {*folder.iterdir()} <= {*temporary, *folder.glob("[0-9]*.npy*")}
                for file in temporary:
                    file.unlink()
                assert path.exists() or before is None, "the old file is gone"
                try:
                    after = check(path, before) if path.exists() else None
                except Exception as error:
                    kept = shutil.copy(path, tempfile.mkdtemp(prefix="torch_npy_torn_"))
                    raise SystemExit(f"{how}, kill {tries} of seed {seed}: {error!r}; the file is kept as {kept}")
                begun += after != before or len(temporary)
                leftovers += len(temporary)
                tries += 1
                before = after
        print(f"{how}: {begun} kills at work, {tries - begun} too early, {leftovers} temporary files left; all whole", flush=True)
    process.stdin.close()
    process.wait()


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]) if len(sys.argv) > 3 else random.SystemRandom().randrange(10**9))
