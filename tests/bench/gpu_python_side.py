"""PyTorch and DALI on a device: a contender of gpu.py, with the works of gpu.cpp."""

import math

import numpy as np
import torch
from torch.utils.data import DataLoader

import python_side
from python_side import Files, Kept, Rows, seconds, total

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"


def wait_for_device():
    if DEVICE == "cuda":
        torch.cuda.synchronize()


def pinned(tensor):
    return tensor.pin_memory() if DEVICE == "cuda" else tensor


def copy(path, count, how):
    source = torch.from_numpy(np.load(path))
    if how in ("pinned", "limit"):
        source = pinned(source)
    target = torch.empty_like(source, device=DEVICE)

    def once():
        if how == "limit":
            there = target.copy_(source, non_blocking=True)
        elif how == "load":
            there = torch.from_numpy(np.load(path)).to(DEVICE)
        elif how == "load pinned":
            there = pinned(torch.from_numpy(np.load(path))).to(DEVICE, non_blocking=True)
        else:
            there = source.to(DEVICE, non_blocking=True)
        wait_for_device()
        return there

    tensor = Kept(once)
    return seconds(int(count), tensor), total(tensor.value.cpu().numpy())


class Network:
    """As in gpu.cpp."""

    def __init__(self, features, size, products):
        def matrix(rows, columns):
            return torch.randn(rows, columns, device=DEVICE) / math.sqrt(rows)

        self.first, self.other, self.state = matrix(features, size), matrix(size, size), matrix(size, size)
        self.loss = torch.zeros((), device=DEVICE)
        self.products = products

    def use(self, data):
        self.loss += torch.mm(data.flatten(1), self.first).mean()
        for _ in range(self.products):
            self.state = torch.mm(self.state, self.other)


class PyTorchBatches:
    def __init__(self, kind, path, batch_size, workers):
        # Workers that stay are PyTorch's best: otherwise each epoch would start them anew.
        self.loader = DataLoader(Files(path) if kind == "files" else Rows(path), batch_size, shuffle=True,
                                 num_workers=workers, persistent_workers=workers > 0, pin_memory=DEVICE == "cuda")

    def __iter__(self):
        return (batch.to(DEVICE, non_blocking=True) for batch in self.loader)


class DaliBatches:
    """DALI reads on the processor, and its pipeline copies the batches to the GPU."""

    def __init__(self, kind, path, batch_size, workers):
        from nvidia.dali import fn, pipeline_def

        if kind != "files":
            raise ValueError("readers.numpy reads files")

        @pipeline_def(batch_size=batch_size, num_threads=workers, device_id=0 if DEVICE == "cuda" else None)
        def read():
            batch = fn.readers.numpy(file_root=path, file_filter="*.npy", shuffle_after_epoch=True, name="reader",
                                     pad_last_batch=True, prefetch_queue_depth=2, dont_use_mmap=True)
            return batch.gpu() if DEVICE == "cuda" else batch

        self.batch_size = batch_size
        self.pipeline = read()
        self.pipeline.build()
        self.files = self.pipeline.epoch_size("reader")

    def __iter__(self):
        for begin in range(0, self.files, self.batch_size):
            (batch,) = self.pipeline.run()
            # What follows the last file repeats it. The memory belongs to the pipeline.
            yield torch.from_dlpack(batch.as_tensor()).clone()[:self.files - begin]


class Resident(list):
    """Batches that are on the device before an epoch begins."""

    def __init__(self, *words):
        super().__init__(PyTorchBatches(*words))


BATCHES = {"loader": PyTorchBatches, "dali": DaliBatches, "resident": Resident}
made = {}


def train(kind, path, batch_size, workers, how, epochs, size, products, sums=""):
    key = kind, path, batch_size, workers, how, size, products
    if key not in made:
        batches = BATCHES[how](kind, path, int(batch_size), int(workers))
        sample = Files(path)[0] if kind == "files" else Rows(path)[0]
        made[key] = batches, Network(sample.numel(), int(size), int(products))
    batches, network = made[key]
    check = 0

    def run():
        nonlocal check
        for _ in range(int(epochs)):
            for batch in batches:
                network.use(batch)
                check += total(batch.cpu().numpy()) if sums else len(batch)
        wait_for_device()

    return seconds(1, run), check % 2**64


def version():
    return 0, 0, f"PyTorch {torch.__version__}, NumPy {np.__version__}"


if __name__ == "__main__":
    python_side.main({"version": version, "copy": copy, "train": train})
