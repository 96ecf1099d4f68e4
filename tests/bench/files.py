"""The files that are read, with random numbers in them: zeros would be kinder to memory and to compression."""

import os
import shutil
import struct
import zipfile

import numpy as np

KIB, MIB, GIB = 1 << 10, 1 << 20, 1 << 30
RANDOM = np.random.default_rng(0)


def numbers(count, random=RANDOM):
    return random.standard_normal(count, dtype=np.float32)


class Files:
    """Makes each file or folder once, when it is asked for."""

    def __init__(self, folder):
        self.folder = folder

    def _make(self, name, make):
        path = self.folder / name
        if not path.exists():
            make(path)
            os.sync()  # what is left to be written would be written while others are measured
        return path

    def remove(self, path):
        shutil.rmtree(path) if path.is_dir() else path.unlink()

    def array(self, size, order="C", descr="<f4"):
        """A file of `size` bytes of float32, in rows of 4 KiB where they are that many: the same numbers one behind
        another in whatever order and form."""

        def make(path):
            shape = (size // 4096, 1024) if size >= 4096 else (size // 4,)
            random = np.random.default_rng(size)
            header = {"descr": descr, "fortran_order": order == "F", "shape": shape}
            with open(path, "wb") as file:
                np.lib.format.write_array_header_1_0(file, header)
                for begin in range(0, size, 64 * MIB):
                    numbers(min(size - begin, 64 * MIB) // 4, random).astype(descr, copy=False).tofile(file)

        return self._make(f"{size}_{order}_{descr[1:]}{'_swapped' if descr[0] == '>' else ''}.npy", make)

    def labelled(self, count, shape):
        """A file of images of bytes, and one of their labels."""
        random = np.random.default_rng(count)
        images = random.integers(0, 256, (count, *shape), dtype=np.uint8)
        return (self._make(f"images_{count}.npy", lambda path: np.save(path, images)),
                self._make(f"labels_{count}.npy", lambda path: np.save(path, random.integers(0, 10, count))))

    def sample(self, shape):
        return self._make(f"sample_{'x'.join(map(str, shape))}.npy", lambda path: np.save(path, sample(shape)))

    def samples(self, count, shape):
        """A folder of samples."""

        def make(folder):
            folder.mkdir()
            for i in range(count):
                np.save(folder / f"sample_{i:06}.npy", sample(shape))

        return self._make(f"{count}_{'x'.join(map(str, shape))}", make)

    def sample_archives(self, count, shape, compressed):
        """A folder of archives of one image and its label, as np.savez and np.savez_compressed write them."""

        def make(folder):
            folder.mkdir()
            save = np.savez_compressed if compressed else np.savez
            for i in range(count):
                image = np.rint(100 * sample(shape)).astype(np.int32) if compressed else sample(shape)
                save(folder / f"sample_{i:06}.npz", image=image, label=np.int64(i % 10))

        return self._make(f"{count}_archives_{'deflated' if compressed else 'stored'}", make)

    def tokens(self, shards, size):
        """A folder of shards of `size` bytes of uint16 tokens."""

        def make(folder):
            folder.mkdir()
            for i in range(shards):
                np.save(folder / f"shard_{i:03}.npy", RANDOM.integers(0, 50257, size // 2, dtype=np.uint16))

        return self._make(f"{shards}_tokens", make)

    def volumes(self, count, shape):
        """A folder of volumes of int16, with the range of a CT scan."""

        def make(folder):
            folder.mkdir()
            for i in range(count):
                np.save(folder / f"volume_{i:03}.npy", RANDOM.integers(-1024, 3072, shape, dtype=np.int16))

        return self._make(f"{count}_volumes", make)

    def ragged(self, count, columns):
        """A folder of arrays (T, columns) of float32, with T from 100 to 1,000."""

        def make(folder):
            folder.mkdir()
            for i in range(count):
                np.save(folder / f"mel_{i:05}.npy", sample((int(RANDOM.integers(100, 1001)), columns)))

        return self._make(f"{count}_ragged_{columns}", make)

    def shards(self, path, count):
        """A folder of shards with the rows of another file."""

        def make(folder):
            folder.mkdir()
            rows = np.load(path, mmap_mode="r")
            for i, shard in enumerate(np.array_split(rows, count)):
                np.save(folder / f"shard_{i:05}.npy", shard)

        return self._make(f"{path.stem}_{count}_shards", make)

    def first_of(self, folder, count):
        """A folder of the first files of another."""

        def make(path):
            path.mkdir()
            for name in sorted(os.listdir(folder))[:count]:
                os.link(folder / name, path / name)

        return self._make(f"{folder.name}_first_{count}", make)

    def empty(self, count):
        """A folder of empty files."""

        def make(folder):
            folder.mkdir()
            for i in range(count):
                os.close(os.open(folder / f"sample_{i:07}.npy", os.O_CREAT | os.O_WRONLY))

        return self._make(f"{count}_empty", make)

    def archive(self, count, size, compressed):
        """An archive of arrays of `size` bytes: as they are, or deflated and made for that, to about a third."""

        def make(path):
            if compressed:
                arrays = (np.rint(100 * numbers(size // 4)).astype(np.int32) for _ in range(count))
            else:
                arrays = (numbers(size // 4) for _ in range(count))
            save = np.savez_compressed if compressed else np.savez
            save(path, **{f"layer_{i}": array for i, array in enumerate(arrays)})

        return self._make("deflated.npz" if compressed else "stored.npz", make)

    def members(self, path):
        """Where the members of an archive begin, their sizes and checksums, and of deflated ones the packed sizes, one
        number behind another."""
        with zipfile.ZipFile(path) as archive, open(path, "rb") as file:
            for member in archive.infolist():
                file.seek(member.header_offset + 26)
                lengths = struct.unpack("<HH", file.read(4))
                yield from (member.header_offset + 30 + sum(lengths), member.file_size, member.CRC)
                if member.compress_type == zipfile.ZIP_DEFLATED:
                    yield member.compress_size


def sample(shape):
    return numbers(int(np.prod(shape))).reshape(shape)
