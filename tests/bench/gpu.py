"""Measures copies to a GPU, and training loops on it: torch_npy beside LibTorch's loader, PyTorch's DataLoader, and DALI
where it is installed. `bash tests/gpu.sh` builds what this runs.

`measure` writes bench.json into the output folder after each row, so that a run which is stopped leaves what it has.
`report` joins it with steps.tsv, the steps of tests/gpu.sh, to gpu.json and gpu.md.

A training loop does the same work on the GPU for each batch, about 2 ms. The busy time of the GPU is the time of the loop
over batches that are on the GPU already, divided by the time of the loop that is fed from files.
"""

import argparse
import contextlib
import datetime
import importlib.util
import json
import os
import pathlib
import platform
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time

from contenders import Contender, Work, take_turns
from files import MIB, Files
from units import amount, duration, three

HERE = pathlib.Path(__file__).resolve().parent
ROUNDS = 5
EPOCHS = 2
STEP = 2e-3  # seconds of work for a batch

OURS, PREFETCH, PYTORCH, DALI = "torch_npy `Loader`", "LibTorch's loader, `prefetch`", "PyTorch `DataLoader`", "DALI"
COPIES = {
    "limit": "`copy_` from pinned memory to a tensor that exists: the limit",
    "pinned": "`to_device` of a tensor in pinned memory",
    "pageable": "`to_device` of a tensor in other memory",
    "load pinned": "`load` of the file to the device, `pinned_memory(true)`",
    "load": "`load` of the file to the device",
}


def say(text):
    print(text, flush=True)


def spread(values):
    """What is shown of several values: their median, lowest and highest."""
    return {"median": statistics.median(values), "min": min(values), "max": max(values), "all": list(values)}


class Bench:
    def __init__(self, options, folder):
        self.out, self.files = options.out, Files(folder)
        self.cpp = Contender("C++", [options.program])
        self.python = Contender("Python", [sys.executable, "-B", HERE / "gpu_python_side.py"])
        self.results = {"machine": {}, "copies": [], "training": [], "notes": []}
        self.is_gpu = False

    def note(self, text):
        say(f"  {text}")
        self.results["notes"].append(text)

    def save(self):
        (self.out / "bench.json").write_text(json.dumps(self.results, indent=1) + "\n")

    def stop(self):
        """PyTorch's workers can take long to end. The next row needs the processors."""
        for contender in (self.cpp, self.python):
            if contender.process is not None:
                with contextlib.suppress(OSError):  # it died
                    contender.process.stdin.close()
                try:
                    contender.process.wait(5)
                except subprocess.TimeoutExpired:
                    contender.process.kill()
                    contender.process.wait()
            contender.process = None

    def measured(self, works):
        """The works that could be measured. One that fails is noted, and does not end the others."""
        good, checks = [], {}
        for work in works:
            try:
                checks[id(work)] = work.do(*work.checks).check
                good.append(work)
            except SystemExit as error:
                self.note(str(error))
                self.stop()
        if len(set(checks.values())) > 1:
            self.note("The contenders had different data: " + ", ".join(
                f"{work.name} {work.variant}: {checks[id(work)]}" for work in good))
            self.results["failed"] = True
        try:
            take_turns(good, ROUNDS, do=Work.do)
        except SystemExit as error:
            self.note(str(error))
            self.results["failed"] = True
        return [work for work in good if work.answers]


def output_of(*command):
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=30).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return "unknown"


def machine(bench):
    import torch

    lines = pathlib.Path("/proc/cpuinfo").read_text().splitlines()
    bench.is_gpu = bench.cpp.do("device").more.startswith("cuda")
    bench.results["machine"] = {
        "date": datetime.date.today().isoformat(),
        "GPU": torch.cuda.get_device_name() if torch.cuda.is_available() else "none",
        "driver": output_of("nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"),
        "CUDA of PyTorch": str(torch.version.cuda),
        "CPU": next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "unknown"),
        "cores": len(os.sched_getaffinity(0)),
        "kernel": f"{platform.system()} {platform.release()}",
        "compiler": output_of(os.environ.get("CXX", "c++").split()[0], "--version").splitlines()[0],
        "versions": ", ".join([bench.cpp.do("version").more, bench.python.do("version").more]),
    }
    if not bench.is_gpu:
        bench.note("There is no GPU here. The figures only show that the programs work.")
    bench.save()


def copies(bench, quick):
    size = 8 * MIB if quick else 256 * MIB
    path = bench.files.array(size)
    works = [contender("copy", path, 3, how, name=how, variant=variant)
             for how in COPIES for contender, variant in [(bench.cpp, "C++"), (bench.python, "Python")]]
    for work in bench.measured(works):
        row = {"what": work.name, "language": work.variant, "bytes": size,
               "bytes per second": spread([size / seconds for seconds in work.times])}
        bench.results["copies"].append(row)
        say(f"  {work.name}, {work.variant}: {work_speed(row)}")
    bench.save()
    bench.stop()


def training(bench, quick):
    count, size = (64, 64) if quick else (2000, 2048)
    products = max(1, round(STEP / float(bench.cpp.do("product", size, 20).seconds)))
    say(f"  {products} products of {size} x {size} matrices for each batch")
    rows = 4 * MIB if quick else 96 * MIB
    sets = [(f"{count:,} files of 12 KiB, batches of 32", "files", lambda: bench.files.samples(count, (3, 32, 32)), 32),
            (f"{count:,} files of 150 KiB, batches of 32", "files", lambda: bench.files.samples(count, (3, 100, 128)), 32),
            (f"rows of 4 KiB of an array of {amount(rows)}, batches of 256", "rows", lambda: bench.files.array(rows), 256)]
    has_dali = importlib.util.find_spec("nvidia") is not None and importlib.util.find_spec("nvidia.dali") is not None
    if not has_dali:
        bench.note("DALI is not installed here, so it was not measured.")
    for title, kind, make, batch in sets:
        say(f"  {title}")
        path = make()

        def work(contender, how, workers, name):
            return contender("train", kind, path, batch, workers, how, EPOCHS, size, products, name=name,
                             variant=workers, checks=("sum",))

        resident = {contender: work(contender, "resident", 0, "resident") for contender in (bench.cpp, bench.python)}
        works = list(resident.values())
        for workers in (2, 4, 8):
            works += [work(bench.cpp, "loader", workers, OURS), work(bench.cpp, "prefetch", workers, PREFETCH),
                      work(bench.python, "loader", workers, PYTORCH)]
            if has_dali and kind == "files":
                works.append(work(bench.python, "dali", workers, DALI))
        for fed in bench.measured(works):
            if fed.name == "resident" or not resident[fed.contender].answers:
                continue
            whole = resident[fed.contender]
            row = {"data": title, "loop": fed.name, "workers": fed.variant, "epochs": EPOCHS, "products": products,
                   "seconds": spread(fed.times), "seconds of resident batches": spread(whole.times),
                   "busy": spread([whole.median / seconds for seconds in fed.times])}
            bench.results["training"].append(row)
            say(f"    {fed.name}, {fed.variant} workers: GPU busy {busy(row)}, {duration(fed.median / EPOCHS)} an epoch")
        bench.save()
        bench.stop()


def measure(options):
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # so that the files are removed
    folder = pathlib.Path(tempfile.mkdtemp(prefix="torch_npy_gpu_"))
    bench = Bench(options, folder)
    started = time.monotonic()
    try:
        machine(bench)
        quick = options.quick or not bench.is_gpu
        for rows in (copies, training):
            say(f"[{time.monotonic() - started:3.0f} s] {rows.__name__}")
            try:
                rows(bench, quick)
            except Exception as error:
                bench.note(f"{rows.__name__}: {type(error).__name__}: {error}")
                bench.results["failed"] = True
        bench.save()
    finally:
        bench.stop()
        shutil.rmtree(folder, ignore_errors=True)
    return 1 if bench.results.get("failed") else 0


def work_speed(row):
    speed = row["bytes per second"]
    return f"{speed['median'] / 1e9:.2f} GB/s ({speed['min'] / 1e9:.2f} - {speed['max'] / 1e9:.2f})"


def busy(row):
    part = row["busy"]
    return f"{100 * part['median']:.0f} % ({100 * part['min']:.0f} - {100 * part['max']:.0f})"


def table(header, rows):
    return ["", *(f"| {' | '.join(map(str, row))} |" for row in [header, ["---"] * len(header), *rows])]


def page(results, steps):
    lines = ["# A run on a GPU"]
    if results["machine"]:
        lines += ["", "; ".join(f"{key}: {value}" for key, value in results["machine"].items()) + "."]
    for note in results["notes"]:
        lines += ["", note]
    lines += ["", "## Steps", *table(["step", "result", "seconds", "details"],
                                     [[step["step"], step["result"], step["seconds"], step["details"]] for step in steps])]
    if results["copies"]:
        lines += ["", "## Copies to the device",
                  *table(["copy", "size", "from C++", "the same by PyTorch"],
                         [[title, amount(found[0]["bytes"]), *(next((work_speed(row) for row in found
                                                                     if row["language"] == language), "")
                                                               for language in ("C++", "Python"))]
                          for how, title in COPIES.items()
                          if (found := [row for row in results["copies"] if row["what"] == how])])]
    if results["training"]:
        lines += ["", "## Training loops", "",
                  f"Medians (lowest - highest) of {ROUNDS} measurements, each of {EPOCHS} epochs. Busy: the time of the "
                  "same loop with the batches on the device already, divided by the time of this loop.",
                  *table(["data", "loop", "workers", "GPU busy", "an epoch", "an epoch, batches on the device"],
                         [[row["data"], row["loop"], row["workers"], busy(row),
                           *(f"{three(1e3 * row[key]['median'] / row['epochs'])} ms"
                             for key in ("seconds", "seconds of resident batches"))] for row in results["training"]])]
    return "\n".join(lines) + "\n"


def report(options):
    lines = (options.out / "steps.tsv").read_text().splitlines()
    steps = [dict(zip(("step", "result", "seconds", "details"), line.split("\t"))) for line in lines]
    measured = options.out / "bench.json"
    results = (json.loads(measured.read_text()) if measured.exists() else
               {"machine": {}, "copies": [], "training": [], "notes": ["Nothing was measured."]})
    (options.out / "gpu.json").write_text(json.dumps({**results, "steps": steps}, indent=1) + "\n")
    (options.out / "gpu.md").write_text(page(results, steps))
    measured.unlink(missing_ok=True)
    (options.out / "steps.tsv").unlink()
    return 0


def main():
    parser = argparse.ArgumentParser(prog="gpu.py")
    parser.add_argument("what", choices=["measure", "report"])
    parser.add_argument("--out", type=pathlib.Path, required=True, help="the output folder")
    parser.add_argument("--program", type=pathlib.Path, help="bench_gpu")
    parser.add_argument("--quick", action="store_true", help="small data; always so without a GPU")
    options = parser.parse_args()
    sys.exit({"measure": measure, "report": report}[options.what](options))


if __name__ == "__main__":
    main()
