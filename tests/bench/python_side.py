"""NumPy and PyTorch: a contender like those in C++, see worker.hpp."""

import io
import os
import sys
import time
import warnings

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset, TensorDataset


def seconds(count, call):
    start = time.perf_counter()
    for _ in range(count):
        call()
    return (time.perf_counter() - start) / count


def total(array):
    """The sum of all words of 32 bits, as in worker.hpp."""
    return int(np.ravel(array, order="K").view(np.uint32).sum(dtype=np.uint64))


class Kept:
    """What the last of several calls gave. One is let go before the next, as a variable would not do by itself."""

    def __init__(self, make):
        self.make = make
        self.value = None

    def __call__(self):
        self.value = None
        self.value = self.make()


def load_swapped(path):
    array = np.load(path)  # torch.from_numpy() takes the machine's own byte order alone
    return array.byteswap(inplace=True).view(array.dtype.newbyteorder())


HOW = {
    "": np.load,
    "swapped": load_swapped,
    "float64": lambda path: np.load(path).astype(np.float64),
    "mapped": lambda path: np.load(path, mmap_mode="c"),
}


def load(path, count, how=""):
    to_array = HOW[how]
    tensor = Kept(lambda: torch.from_numpy(to_array(path)))
    spent = seconds(int(count), tensor)
    array = tensor.value.numpy()
    return spent, array.nbytes if how == "mapped" else total(array)


def load_npz(path):
    def all_of_it():
        with np.load(path) as archive:
            return {name: torch.from_numpy(archive[name]) for name in archive.files}

    tensors = Kept(all_of_it)
    spent = seconds(1, tensors)
    return spent, sum(total(tensor.numpy()) for tensor in tensors.value.values()) % 2**64


def load_member(path, name):
    def one():
        with np.load(path) as archive:
            return torch.from_numpy(archive[name])

    tensor = Kept(one)
    return seconds(1, tensor), total(tensor.value.numpy())


def parse(path, count):
    with open(path, "rb") as file:
        stream = io.BytesIO(file.read(1024))

    def header():
        stream.seek(0)
        np.lib.format.read_magic(stream)
        return np.lib.format.read_array_header_1_0(stream)

    shape = Kept(header)
    spent = seconds(int(count), shape)
    return spent, int(count) * int(np.prod(shape.value[0]))


arrays = {}


def save(source, path):
    if source not in arrays:
        arrays[source] = np.load(source)

    def to_disk():
        with open(path, "wb") as file:
            np.save(file, arrays[source])
            file.flush()
            os.fsync(file.fileno())

    if os.path.exists(path):
        os.unlink(path)
    os.sync()
    return seconds(1, to_disk), os.path.getsize(path)


def list_folder(folder):
    names = Kept(lambda: sorted(os.listdir(folder)))
    return seconds(1, names), len(names.value)


class Files(Dataset):
    def __init__(self, folder):
        self.paths = [os.path.join(folder, name) for name in sorted(os.listdir(folder))]

    def __len__(self):
        return len(self.paths)

    def __getitem__(self, index):
        return torch.from_numpy(np.load(self.paths[index]))


class Rows(Dataset):
    def __init__(self, path):
        self.rows = np.load(path, mmap_mode="r")

    def __len__(self):
        return len(self.rows)

    def __getitem__(self, index):
        return torch.from_numpy(self.rows[index].copy())  # of read-only memory it warns


def tensors(data, target, batch_size, workers, sums=""):
    return epoch(lambda _: TensorDataset(torch.from_numpy(np.load(data)), torch.from_numpy(np.load(target))), "tensors",
                 batch_size, workers, sums)


class Archives(Files):
    def __getitem__(self, index):
        with np.load(self.paths[index]) as archive:
            return torch.from_numpy(archive["image"]), int(archive["label"])


class Patches(Files):
    edge = 64

    def __getitem__(self, index):
        volume = np.load(self.paths[index], mmap_mode="r")
        z, y, x = (int(torch.randint(size - self.edge + 1, ())) for size in volume.shape)
        return torch.from_numpy(volume[z:z + self.edge, y:y + self.edge, x:x + self.edge].copy())


def padded(samples):
    return torch.nn.utils.rnn.pad_sequence(samples, batch_first=True)


def windows(folder, length, batch_size, sums=""):
    """The usual idiom: memory maps of the shards, slices of them, torch.stack()."""
    length, batch_size = int(length), int(batch_size)
    if folder not in arrays:
        arrays[folder] = [np.load(os.path.join(folder, name), mmap_mode="r") for name in sorted(os.listdir(folder))]
    shards = arrays[folder]
    starts = [(shard, at) for shard in shards for at in range(0, len(shard) - length, length)]
    check = 0

    def run():
        nonlocal check
        order = torch.randperm(len(starts)).tolist()
        for first in range(0, len(order), batch_size):
            picked = [starts[i] for i in order[first:first + batch_size]]
            data = torch.stack([torch.from_numpy(shard[at:at + length].astype(np.int64)) for shard, at in picked])
            target = torch.stack([torch.from_numpy(shard[at + 1:at + 1 + length].astype(np.int64))
                                  for shard, at in picked])
            check += total(data.numpy()) if sums else len(target)

    return seconds(1, run), check % 2**64


def load_spdl(path, count):
    import spdl.io
    tensor = Kept(lambda: spdl.io.load_npy(open(path, "rb").read()))
    spent = seconds(int(count), tensor)
    return spent, total(np.asarray(tensor.value))


def npz_spdl(path):
    import spdl.io

    def all_of_it():
        with open(path, "rb") as file:
            archive = spdl.io.load_npz(file.read())
        return {name: archive[name] for name in archive.files}

    tensors = Kept(all_of_it)
    spent = seconds(1, tensors)
    return spent, sum(total(np.asarray(array)) for array in tensors.value.values()) % 2**64


pipelines = {}


def dali(folder, batch_size, threads, sums=""):
    """DALI's reader on the processor, each file once."""
    from nvidia.dali import fn, pipeline_def

    key = folder, batch_size, threads
    if key not in pipelines:
        @pipeline_def(batch_size=int(batch_size), num_threads=int(threads), device_id=None)
        def read():
            return fn.readers.numpy(file_root=folder, file_filter="*.npy", shuffle_after_epoch=True, name="reader",
                                    pad_last_batch=True, prefetch_queue_depth=2, dont_use_mmap=True)

        pipelines[key] = read()
        pipelines[key].build()
    pipeline, check = pipelines[key], 0
    files = pipeline.epoch_size("reader")

    def run():
        nonlocal check
        for begin in range(0, files, int(batch_size)):
            (batch,) = pipeline.run()
            count = min(len(batch), files - begin)  # what follows repeats the last file
            check += total(np.stack([np.asarray(batch.at(i)) for i in range(count)])) if sums else count

    return seconds(1, run), check % 2**64


loaders = {}


def epoch(make_dataset, path, batch_size, workers, sums="", collate=None):
    key = path, batch_size, workers
    if key not in loaders:
        # Workers that stay are PyTorch's best: otherwise each epoch would start them anew.
        loaders[key] = DataLoader(make_dataset(path), batch_size=int(batch_size), shuffle=True, collate_fn=collate,
                                  num_workers=int(workers), persistent_workers=int(workers) > 0)
    check = 0

    def run():
        nonlocal check
        for batch in loaders[key]:
            batch = batch[0] if isinstance(batch, list) else batch
            check += total(batch.numpy()) if sums else len(batch)

    return seconds(1, run), check % 2**64


def to_gpu(path, count):
    def once():
        tensor = torch.from_numpy(np.load(path)).to("cuda")
        torch.cuda.synchronize()
        return tensor

    tensor = Kept(once)
    return seconds(int(count), tensor), total(tensor.value.cpu().numpy())


def peak():
    with open("/proc/self/status") as status:
        line = next(line for line in status if line.startswith("VmHWM:"))
    return 0, 0, int(line.split()[1]) << 10


def version():
    return 0, 0, f"NumPy {np.__version__}, PyTorch {torch.__version__}, Python {sys.version.split()[0]}"


WORKS = {
    "version": version,
    "peak": peak,
    "load": load,
    "npz": load_npz,
    "member": load_member,
    "parse": parse,
    "save": save,
    "list": list_folder,
    "epoch": lambda *words: epoch(Files, *words),
    "rows": lambda *words: epoch(Rows, *words),
    "tensors": tensors,
    "archives": lambda *words: epoch(Archives, *words),
    "patches": lambda *words: epoch(Patches, *words),
    "ragged": lambda *words: epoch(Files, *words, collate=padded),
    "windows": windows,
    "load_spdl": load_spdl,
    "npz_spdl": npz_spdl,
    "dali": dali,
    "to_gpu": to_gpu,
}


def main(works=WORKS):
    warnings.filterwarnings("ignore", "This DataLoader will create")  # more workers than processors: so it is meant
    for line in sys.stdin:
        work, *words = line.rstrip("\n").split("\t")
        try:
            spent, check, *more = works[work](*words)
            print(f"{spent:.9g}\t{check}\t{''.join(map(str, more))}", flush=True)
        except Exception as error:
            print(f"error\t{type(error).__name__}: {error}", flush=True)


if __name__ == "__main__":
    main()
