"""Measures torch_npy beside the bare limit, NumPy with PyTorch, and xtensor: each row of the table is measured by
all of them in turns. `bash run.sh` builds what this runs, and says more.

The limit is a program of the system calls and the memcpy that the work takes. Files are in the page cache unless a row
says cold; each work is done twice in its turn, and the second time counts. Making what is worked on, and letting go of
the last result, is not timed.
"""

import argparse
import importlib.util
import json
import pathlib
import shlex
import shutil
import signal
import statistics
import sys
import tempfile
import time

import report
from contenders import Compiler, Contender, Work, do_twice, drop_page_cache, libtorch_headers, take_turns, warm_up
from files import GIB, KIB, MIB, Files
from report import Goal, Row
from units import amount, duration

HERE = pathlib.Path(__file__).resolve().parent

# What the table calls the contenders, in its columns.
LIMIT, NUMPY, PYTORCH, XTENSOR = "the limit", "NumPy", "PyTorch", "xtensor"
LIBTORCH = "LibTorch's loader"
SPDL, DALI = "SPDL", "DALI"


def at_least(factor, name):
    """So many times the speed of another."""
    text = f">= {factor}x {name}" if factor > 1 else f">= {factor} of {name}" if factor < 1 else f"as fast as {name}"
    return lambda row: Goal(text, row.speed_against(name), factor, f" of {name}", shown=name in report.IN_COLUMNS)


def at_most(factor, name):
    """So many times the time of another."""
    of = f" the time of {name}"
    return lambda row: Goal(f"<= {factor}x{of}", 1 / row.speed_against(name), factor, of, most=True)


def under(seconds):
    return lambda row: Goal(f"<= {duration(seconds)}", row.ours.median, seconds, most=True, show=duration, shown=True)


def counted(number, noun):
    return f"{number} {noun}" + "s" * (str(number) != "1")


class Bench:
    def __init__(self, options, folder):
        self.quick, self.only = options.quick, options.only
        self.files = Files(folder)
        self.folder = folder
        self.rows, self.growths, self.notes = [], [], []
        self.started = time.monotonic()

        programs = options.build / "tests" / "bench"
        commands = json.loads((options.build / "compile_commands.json").read_text())
        command = shlex.split(next(entry["command"] for entry in commands if entry["file"].endswith("bench/ours.cpp")))
        self.include_folder = HERE.parent.parent / "include"
        self.ours = Contender("ours", [programs / "bench_ours"])
        self.header = Contender("ours", [programs / "bench_header"])
        self.bare = Contender(LIMIT, [programs / "bench_bare"])
        self.xtensor = Contender(XTENSOR, [programs / "bench_xtensor"])
        self.numpy = Contender(NUMPY, [sys.executable, "-B", HERE / "python_side.py"])
        self.compiler = Compiler("the compiler", command[:command.index("-o")], folder)
        self.contenders = [self.ours, self.header, self.bare, self.xtensor, self.numpy]

    def scaled(self, number, quick=16):
        return number // quick if self.quick else number

    def say(self, text):
        print(text, flush=True)

    def say_medians(self, what, works):
        self.say(f"  {what}: " + ", ".join(f"{work.variant or work.name} {duration(work.median)}" for work in works))

    def has_peer(self, module):
        """Peers that Debian does not have come from PyPI, where that is reached."""
        try:
            return importlib.util.find_spec(module) is not None
        except ModuleNotFoundError:
            return False

    def wants(self, title):
        return self.only in title

    def turns(self, works, seconds=5, do=do_twice):
        warm_up(works)
        take_turns(works, 3 if self.quick else 7, 0 if self.quick else seconds, do)

    def stop(self):
        """The next row begins with new processes: what one has done before is none of its business."""
        for contender in self.contenders:
            contender.stop()

    def row(self, title, works, goals=(), per=1, unit="", do=do_twice, extra=lambda row: ()):
        """`extra` gives further goals, of what ours has answered besides the time."""
        row = Row(title, works, per, unit)
        self.turns(works, do=do)
        self.stop()
        self.add(row, [goal(row) for goal in goals] + list(extra(row)))

    def add(self, row, goals):
        row.goals = goals
        self.rows.append(row)
        self.say(f"[{time.monotonic() - self.started:4.0f} s] {row.summary()}")


# The rows.


def load(bench):
    for size, goals in [(bench.scaled(GIB), [at_least(1.4, NUMPY), at_least(4, XTENSOR), at_least(0.85, LIMIT)]),
                        (10 * MIB, [at_least(1.3, NUMPY), at_least(0.85, LIMIT)]),
                        (12 * KIB, [at_least(10, NUMPY), at_most(1.35, LIMIT)])]:
        title = f"`load`, {amount(size)}"
        if bench.wants(title):
            path, count = bench.files.array(size), max(1, min(2000, 256 * MIB // size))
            works = [contender("load", path, count)
                     for contender in (bench.ours, bench.bare, bench.numpy, bench.xtensor)]
            if size == 12 * KIB and bench.has_peer("spdl"):
                works.append(bench.numpy("load_spdl", path, count, name=SPDL))
                goals = [*goals, at_least(4, SPDL)]
            bench.row(title, works, goals)


def mapping(bench):
    size = bench.scaled(GIB)
    title = f"`mmap`, then read every element, {amount(size)}"
    if bench.wants(title):
        path = bench.files.array(size)
        bench.row(title, [bench.ours("read_map", path), bench.bare("read_map", path)], [at_least(0.95, LIMIT)])
    for size in (MIB, bench.scaled(GIB)):
        title = f"`mmap` alone, {amount(size)}"
        if bench.wants(title):
            path = bench.files.array(size)
            works = [bench.ours("map", path, 1000), bench.bare("map", path, 1000),
                     bench.numpy("load", path, 1000, "mapped")]
            bench.row(title, works, [under(30e-6)])


def parse(bench):
    title = "parse a header"
    if not bench.wants(title):
        return
    path = bench.files.sample((3, 32, 32))

    def allocations(row):
        count = float(row.ours.answers[0].more)
        return [Goal("1 allocation (shape)", count, 1, most=True, show=lambda n: counted(f"{n:g}", "allocation"))]

    bench.row(title, [bench.header("parse", path, 20000), bench.numpy("parse", path, 20000)], [under(250e-9)],
              extra=allocations)


def other_orders(bench):
    size = bench.scaled(GIB)
    title = f"`load`, Fortran order, {amount(size)}"
    if bench.wants(title):
        path = bench.files.array(size, order="F")
        works = [contender("load", path, 1) for contender in (bench.ours, bench.bare, bench.numpy)]
        works.append(bench.ours("load", bench.files.array(size), 1, name="C order"))
        bench.row(title, works, [at_least(0.97, "C order")])
    title = f"`load`, big-endian, {amount(size)}"
    if bench.wants(title):
        path = bench.files.array(size, descr=">f4")
        works = [bench.ours("load", path, 1), bench.bare("load", path, 1, "swapped"),
                 bench.numpy("load", path, 1, "swapped")]
        bench.row(title, works, [at_least(0.8, LIMIT)])


def loaders(bench):
    for count, shape, size, goal in [(20000, (3, 32, 32), 12 * KIB, 15), (6000, (3, 100, 128), 150 * KIB, 10)]:
        count = bench.scaled(count)
        title = f"data loader, {count:,} files of {amount(size)}, batches of 32"
        for cold in (False, True):
            full_title = title + (", cold" if cold else ", warm")
            if not bench.wants(full_title):
                continue
            folder = bench.files.samples(count, shape)

            def epoch(contender, workers, name=None, word="epoch"):
                noun = "thread" if contender is bench.bare else "worker"
                return contender(word, folder, 32, workers, name=name, variant=counted(workers, noun), checks=("sum",))

            if not cold:
                works = [epoch(bench.ours, 2), epoch(bench.ours, 2, LIBTORCH, "libtorch_epoch"), epoch(bench.bare, 2),
                         epoch(bench.numpy, 0, PYTORCH), epoch(bench.numpy, 2, PYTORCH)]
                goals = [at_least(goal, PYTORCH), at_least(0.85, LIMIT), at_least(1, LIBTORCH)]
                if bench.has_peer("nvidia.dali"):
                    works += [bench.numpy("dali", folder, 32, n, name=DALI, variant=counted(n, "thread"), checks=("sum",))
                              for n in (1, 2)]
                    goals.append(at_least(5, DALI))
                bench.row(full_title, works, goals, count, "a file")
            elif drop_page_cache():
                works = [best(bench, [epoch(bench.ours, n) for n in (2, 8, 16, 32)]),
                         best(bench, [epoch(bench.ours, n, LIBTORCH, "libtorch_epoch") for n in (8, 16, 32)]),
                         best(bench, [epoch(bench.bare, n) for n in (2, 8, 16, 32)]),
                         best(bench, [epoch(bench.numpy, n, PYTORCH) for n in (0, 2, 4, 8)])]
                bench.row(full_title, works, [at_least(3, PYTORCH), at_least(0.8, LIMIT), at_least(1, LIBTORCH)],
                          count, "a file", do=do_cold)
            else:
                bench.notes.append(f"Skipped: {full_title}. Dropping the page cache is not allowed here.")
                bench.say(bench.notes[-1])


def do_cold(work):
    drop_page_cache()
    return work.do()


def best(bench, works):
    """The one of several numbers of workers that suits a contender best, cold, in two rounds of their own."""
    warm_up(works)
    take_turns(works, 1 if bench.quick else 2, do=do_cold)
    bench.stop()
    chosen = min(works, key=lambda work: work.median)
    bench.say_medians(f"{chosen.variant} for {chosen.name}", works)
    chosen.answers.clear()
    return chosen


def rows_of_array(bench):
    size = bench.scaled(GIB)
    title = f"`ArrayDataset`, shuffled rows of 4 KiB of {amount(size)}, batches of 256"
    if bench.wants(title):
        path = bench.files.array(size)
        works = [contender(word, path, 256, count, name=name, variant=counted(count, noun), checks=("sum",))
                 for contender, word, name, noun, counts in [(bench.ours, "rows", "ours", "worker", (0, 2)),
                                                             (bench.ours, "libtorch_rows", LIBTORCH, "worker", (0, 2)),
                                                             (bench.bare, "rows", LIMIT, "thread", (1, 2)),
                                                             (bench.numpy, "rows", PYTORCH, "worker", (0, 2))]
                 for count in counts]
        bench.row(title, works, [at_least(10, PYTORCH), at_least(0.8, LIMIT), at_least(1, LIBTORCH)], size // 4096,
                  "a row")


def tensors_in_memory(bench):
    count = bench.scaled(60_000)
    title = f"`ArrayDataset` over tensors, {count:,} images of 28 x 28 bytes, shuffled, batches of 64"
    if bench.wants(title):
        data, target = bench.files.labelled(count, (28, 28))
        works = [contender("tensors", data, target, 64, workers, name=name, variant=counted(workers, "worker"),
                           checks=("sum",))
                 for contender, name in [(bench.ours, "ours"), (bench.numpy, PYTORCH)] for workers in (0, 2)]
        bench.row(title, works, [at_least(20, PYTORCH)], count, "a sample")


def sample_archives(bench):
    count = bench.scaled(20_000)
    for compressed, factor in ((False, 15), (True, 6)):
        title = f"`NpzDataset`, {count:,} {'deflated' if compressed else 'stored'} archives of an image of 12 KiB and a label"
        if not bench.wants(title):
            continue
        folder = bench.files.sample_archives(count, (3, 32, 32), compressed)
        works = [bench.ours("archives", folder, 32, workers, variant=counted(workers, "worker"), checks=("sum",))
                 for workers in (0, 2)]
        works += [bench.numpy("archives", folder, 32, workers, name=PYTORCH, variant=counted(workers, "worker"),
                              checks=("sum",)) for workers in (0, 2)]
        goals = [at_least(factor, PYTORCH)]
        if not compressed:
            begin, size, _, *_ = bench.files.members(folder / "sample_000000.npz")
            works.append(bench.bare("whole", folder, 32, 2, begin + 128, size - 128, variant="2 threads", checks=("sum",)))
            goals.append(at_least(0.75, LIMIT))
        bench.row(title, works, goals, count, "an archive")


def token_windows(bench):
    shards, size, length = 20, bench.scaled(50_000_000), 1024
    title = f"`WindowDataset`, windows of {length + 1:,} uint16 tokens to int64 pairs, {shards} shards of {size // 10**6} MB"
    if bench.wants(title):
        folder = bench.files.tokens(shards, size)
        count = shards * ((size // 2 - 1) // length)
        works = [bench.ours("windows", folder, length, 32, 2, variant="2 workers", checks=("sum",)),
                 bench.bare("windows", folder, length, 32, 2, variant="2 threads", checks=("sum",)),
                 bench.numpy("windows", folder, length, 32, name="memmap", checks=("sum",))]
        bench.row(title, works, [at_least(10, "memmap"), at_least(0.8, LIMIT)], count, "a window")


def volume_patches(bench):
    shape, edge, count = (256, 256, 128), 64, bench.scaled(128, 8)
    title = f"`RandomCrop`, {edge} x {edge} x {edge} of {count} int16 volumes of {' x '.join(map(str, shape))}"
    if bench.wants(title):
        folder = bench.files.volumes(count, shape)
        works = [*(bench.ours("patches", folder, edge, 8, 2, how, variant=f"2 workers, {how}")
                   for how in ("mapped", "read")),
                 bench.bare("patches", folder, *shape, edge, 8, 2, variant="2 threads"),
                 *(bench.numpy("patches", folder, 8, n, name="mmap_mode", variant=counted(n, "worker")) for n in (0, 2))]
        bench.row(title, works, [at_least(5, "mmap_mode"), at_least(0.8, LIMIT)], count, "a patch")
        bench.files.remove(folder)


def ragged_samples(bench):
    count = bench.scaled(4000)
    title = f"`PadStack`, {count:,} arrays (T, 80) of float32, T from 100 to 1,000, batches of 32"
    if not bench.wants(title):
        return
    folder = bench.files.ragged(count, 80)
    works = [bench.ours("ragged", folder, 32, 2, variant="2 workers", checks=("sum",)),
             *(bench.numpy("ragged", folder, 32, n, name="pad_sequence", variant=counted(n, "worker"), checks=("sum",))
               for n in (0, 2))]
    plain, by_length = map(float, bench.ours.do("padding", folder, 32).more.split())
    bench.row(title, works, [at_least(8, "pad_sequence"), lambda _: Goal(
        "`by_length` halves the padding", by_length / plain, 0.5, " of the padding", most=True)], count, "an array")


def many_shards(bench):
    count = 10_000 if not bench.quick else 500
    size = bench.scaled(GIB)
    title = f"`ArrayDataset`, shuffled rows of 4 KiB of {amount(size)} in {count:,} shards"
    if bench.wants(title):
        path = bench.files.array(size)
        folder = bench.files.shards(path, count)
        works = [bench.ours("shards", folder, 256, 2, variant="2 workers", checks=("sum",)),
                 bench.ours("rows", path, 256, 2, name="one file", variant="2 workers", checks=("sum",))]
        bench.row(title, works, [at_least(0.8, "one file")], size // 4096, "a row")
        bench.files.remove(folder)


def cached_samples(bench):
    count = bench.scaled(20_000)
    title = f"`cached`, second epoch of {count:,} files of 12 KiB"
    if bench.wants(title):
        folder = bench.files.samples(count, (3, 32, 32))
        works = [bench.ours("cached", folder, 32, 2, variant="2 workers", checks=("sum",)),
                 bench.ours("stacked_tensor", folder, 32, 2, name="a tensor", variant="2 workers", checks=("sum",))]
        bench.row(title, works, [at_least(0.8, "a tensor")], count, "a sample")


def first_batch(bench):
    title = "first batch of an epoch, 32 files of 150 KiB, 2 workers"
    if bench.wants(title):
        folder = bench.files.samples(bench.scaled(6000), (3, 100, 128))
        works = [bench.ours("first_batch", folder, 32, 2), bench.ours("read_batch", folder, 32, name="the read itself")]
        bench.row(title, works, extra=lambda row: [
            Goal("<= 1 ms after the read itself", row.ours.median - row.fastest("the read itself")[0].median, 1e-3,
                 most=True, show=duration)])


def memory_of_loader(bench):
    title = "peak memory of a loop that is slower than its loader"
    if not bench.wants(title):
        return
    count, batch, ahead, workers = bench.scaled(2000), 32, 4, 2
    folder = bench.files.samples(count, (3, 100, 128))

    def peak(*words):
        bench.ours.do(*words)
        answer = int(bench.ours.do("peak").more)
        bench.ours.stop()
        return answer

    without = peak("slow_epoch", folder, 1, 0, 1)
    beyond = peak("slow_epoch", folder, batch, workers, ahead) - without
    bound = (ahead + workers + 1) * batch * 150 * KIB + 2 * MIB
    row = Row(f"{title}, {workers} workers, ahead({ahead}), batches of 4.7 MiB", [], cells={"ours": amount(beyond)},
              numbers={"ours": beyond})
    bench.add(row, [Goal(f"<= {amount(bound)}: as many batches as ahead() and workers, and that of the loop", beyond,
                         bound, most=True, show=amount, shown=True)])


def transforms(bench):
    count = bench.scaled(256)
    title = f"`RandomHorizontalFlip` and `Normalize`, batch of {count} x 3 x 224 x 224"
    if bench.wants(title):
        works = [bench.ours("flip", count), bench.ours("flip_samples", count, name="LibTorch")]
        bench.row(title, works, [at_least(2, "LibTorch")])


def archives(bench):
    size = bench.scaled(64 * MIB)
    for compressed in (False, True):
        title = f"`load_npz`, 10 {'deflated' if compressed else 'stored'} arrays of {amount(size)}"
        if bench.wants(title):
            path = bench.files.archive(10, size, compressed)
            works = [bench.ours("npz", path), bench.numpy("npz", path),
                     bench.bare("unpack" if compressed else "npz", path, *bench.files.members(path))]
            goals = [at_least(3, NUMPY), at_least(0.85 if compressed else 0.9, LIMIT)]
            if bench.has_peer("spdl"):
                works.append(bench.numpy("npz_spdl", path, name=SPDL))
                goals.append(at_least(2 if compressed else 3, SPDL))
            bench.row(title, works, goals)


def save(bench):
    size = bench.scaled(GIB)
    title = f"`save`, flushed to the disk, {amount(size)}"
    if bench.wants(title):
        source, path = bench.files.array(size), bench.folder / "saved.npy"
        works = [contender("save", source, path) for contender in (bench.ours, bench.bare, bench.numpy)]
        bench.row(title, works, [at_least(1, NUMPY)], do=Work.do)
        bench.files.remove(path)


def append(bench):
    for count in (10_000, bench.scaled(300_000)):
        title = f"`Appender`, {count:,} rows of 1 KiB, not synced"
        if bench.wants(title):
            source, path = bench.files.sample((4096, 256)), bench.folder / "appended.npy"
            works = [bench.ours("append", source, path, count)]
            works += [bench.bare("append", source, path, count, size, name="fwrite", variant=variant)
                      for size, variant in [(0, "its own buffer"), (64 * KIB, "64 KiB"), (256 * KIB, "256 KiB")]]
            bench.row(title, works, per=count, unit="a row", do=Work.do)
            bench.files.remove(path)


def peak_memory(bench):
    """Of new processes, each of which loads one array; less what one has had that loaded a tiny one."""
    title = "peak memory of `load`"
    if not bench.wants(title):
        return
    size, member = bench.scaled(GIB), bench.scaled(64 * MIB)
    tiny, plain = bench.files.sample((3, 32, 32)), bench.files.array(size)
    loads = [
        (f"{amount(size)}, C order", size, ("load", plain, 1)),
        (f"{amount(size)}, Fortran order", size, ("load", bench.files.array(size, order="F"), 1)),
        (f"{amount(size)}, big-endian", size, ("load", bench.files.array(size, descr=">f4"), 1)),
        (f"{amount(size)} to float64", 2 * size, ("load", plain, 1, "float64")),
        (f"a member of {amount(member)} of an .npz", member,
         ("member", bench.files.archive(10, member, False), "layer_3")),
    ]

    def peak(contender, words):
        contender.do(*words)
        answer = int(contender.do("peak").more)
        contender.stop()
        return answer

    rounds = 1 if bench.quick else 3
    empty = {contender: [peak(contender, ("load", tiny, 1)) for _ in range(rounds)]
             for contender in (bench.ours, bench.numpy)}
    for name, payload, words in loads:
        beyond = {}
        for contender in empty:
            here = (*words, "swapped") if contender is bench.numpy and "big-endian" in name else words
            peaks = [peak(contender, here) for _ in range(rounds)]
            beyond[contender.name] = statistics.median(peaks) - statistics.median(empty[contender]) - payload
        cells = {name: amount(size) for name, size in beyond.items()}
        row = Row(f"{title}, {name}, beyond the tensor", [], cells=cells, numbers=beyond)
        bench.add(row, [Goal("<= 2 MiB", beyond["ours"], 2 * MIB, most=True, show=amount, shown=True)])


def listing(bench):
    count = bench.scaled(1_000_000, quick=64)
    title = f"`FolderDataset` of {count:,} files"
    if not bench.wants(title):
        return
    bench.say(f"  making {count:,} files")
    folder = bench.files.empty(count)
    names = len(f"sample_{0:07}.npy") * count

    def memory(row):
        each = (statistics.median(int(answer.more) for answer in row.ours.answers) - names) / count
        return [Goal("<= 40 bytes a file and its name", each, 40, most=True, show=lambda n: f"{n:.1f} bytes")]

    works = [bench.ours("list", folder), bench.bare("list", folder, variant="readdir alone"),
             bench.numpy("list", folder, name="sorted(os.listdir())")]
    bench.row(title, works, [at_least(2, "sorted(os.listdir())")], extra=memory)


def compile_time(bench):
    of_load = libtorch_headers(bench.include_folder, "torch_npy/tensor/load.hpp")
    of_tensor = libtorch_headers(bench.include_folder, "torch_npy/tensor.hpp")
    for lines, against, name, factor in [
            (["torch_npy/tensor/load.hpp"], of_load, "its LibTorch headers", 1.25),
            (["torch_npy/tensor.hpp"], of_tensor, "its LibTorch headers", 1.15),
            (["#define TORCH_NPY_NO_DATA", "torch_npy.hpp"], of_tensor, "its LibTorch headers", 1.15),
            (["torch_npy.hpp"], ["torch/data.h"], "torch/data.h", 1.2)]:
        title = "compile a file that includes " + " after ".join(f"`{line}`" for line in reversed(lines))
        if bench.wants(title):
            works = [bench.compiler(*lines, name="ours"), bench.compiler(*against, name=name)]
            row = Row(title, works)
            take_turns(works, 1 if bench.quick else 7, do=Work.do)
            bench.add(row, [at_most(factor, name)(row)])


def growth_with_size(bench):
    title = "load, by the size of the file"
    if not bench.wants(title):
        return
    bench.say(title)
    series = report.Growth("load_by_size", "load", "size of the file", "bytes")
    for exponent in range(10, 33 - (6 if bench.quick else 0), 2):
        size = 2**exponent
        path = bench.files.array(size)
        count = max(1, min(1000, 16 * MIB // size))
        works = [contender("load", path, count) for contender in (bench.ours, bench.bare, bench.numpy)]
        bench.turns(works, seconds=1)
        series.add(size, works)
        if size != bench.scaled(GIB):
            bench.files.remove(path)
        bench.say_medians(amount(size), works)
    bench.stop()
    bench.growths.append(series)


def growth_with_files(bench):
    title = "list a folder, by the number of files"
    if bench.wants(title):
        bench.say(title)
        series = report.Growth("list_by_files", "list a folder", "files", "")
        for count in (1000, 10_000, 100_000, 1_000_000):
            count = bench.scaled(count, quick=64)
            folder = bench.files.empty(count)  # which stays: ext4 would look for new inodes among those just freed
            works = [bench.ours("list", folder), bench.bare("list", folder, name="readdir alone"),
                     bench.numpy("list", folder, name="sorted(os.listdir())")]
            bench.turns(works, seconds=1)
            series.add(count, works)
            bench.say_medians(f"{count:,} files", works)
        bench.stop()
        bench.growths.append(series)
    title = "read a folder, by the number of files"
    if bench.wants(title):
        bench.say(title)
        series = report.Growth("read_by_files", "read files of 12 KiB", "files", "")
        for count in map(bench.scaled, (1000, 2000, 5000, 10_000, 20_000)):
            folder = bench.files.first_of(bench.files.samples(bench.scaled(20_000), (3, 32, 32)), count)
            works = [contender("epoch", folder, 32, 2, name=name, checks=("sum",)) for contender, name in
                     [(bench.ours, "ours"), (bench.bare, LIMIT), (bench.numpy, PYTORCH)]]
            bench.turns(works, seconds=1)
            series.add(count, works)
            bench.say_medians(f"{count:,} files", works)
        bench.stop()
        bench.growths.append(series)


def gpu(bench):
    title = "to the GPU"
    if not bench.wants(title):
        return
    device = bench.ours.do("device").more
    bench.stop()
    if device != "cuda":
        bench.notes.append("GPU copies: no CUDA device.")
        bench.say(bench.notes[-1])
        return
    size = bench.scaled(GIB)
    path = bench.files.array(size)
    works = [bench.ours("to_gpu", path, 1, "pinned"), bench.ours("to_gpu", path, 1, name=".to(device)"),
             bench.numpy("to_gpu", path, 1)]
    bench.row(f"`load` {title}, {amount(size)}, pinned memory", works)
    count = bench.scaled(6000)
    folder = bench.files.samples(count, (3, 100, 128))
    works = [bench.ours("epoch_on_gpu", folder, 32, 2, "prefetch"),
             bench.ours("epoch_on_gpu", folder, 32, 2, name=".to(device)")]
    bench.row(f"`prefetch` {title}, {count:,} files of {amount(150 * KIB)}", works, per=count, unit="a file")


ROWS = [load, mapping, parse, other_orders, rows_of_array, many_shards, tensors_in_memory, transforms, archives, save,
        append, peak_memory, loaders, cached_samples, sample_archives, token_windows, volume_patches, ragged_samples,
        first_batch, memory_of_loader, listing, growth_with_files, growth_with_size, gpu, compile_time]


def main():
    parser = argparse.ArgumentParser(prog="run.sh")
    parser.add_argument("--build", type=pathlib.Path, required=True, help=argparse.SUPPRESS)
    parser.add_argument("--quick", action="store_true", help="16 to 64 times smaller, 3 rounds: to see that it works")
    parser.add_argument("--only", default="", metavar="WORDS", help="only the rows whose title has these words")
    parser.add_argument("--results", type=pathlib.Path, metavar="FOLDER", help="where the results go")
    parser.add_argument("folder", type=pathlib.Path, nargs="?", metavar="FOLDER", help="where the files go, 12 GB")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # so that the files are removed
    parent = options.folder or options.build
    parent.mkdir(parents=True, exist_ok=True)
    folder = pathlib.Path(tempfile.mkdtemp(prefix="files_", dir=parent))
    bench = Bench(options, folder)
    try:
        versions = [contender.do("version").more for contender in (bench.ours, bench.numpy, bench.xtensor)]
        bench.stop()
        machine = report.machine(folder, bench.compiler.command[0], versions)
        for rows in ROWS:
            rows(bench)
    finally:
        bench.stop()
        bench.say("Removing the files")
        shutil.rmtree(folder)
    results = options.results or options.build / "results"
    report.write(results, bench, machine, "bash tests/bench/run.sh" + (" --quick" if options.quick else ""))
    bench.say(f"Results: {results}")


if __name__ == "__main__":
    main()
