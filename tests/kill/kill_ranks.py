"""Kills ranks of a training run at random moments, and compares its global batches with those of a run that was not
killed, whatever the number of ranks and workers after each kill.

    python3 kill_ranks.py TRAINER KILLS [SEED]    KILLS in the midst of training

Each kill takes one rank or all. If it takes one, the others have to end by themselves.
"""

import os
import pathlib
import random
import signal
import subprocess
import sys
import tempfile
import time


def wait_for(processes, seconds):
    deadline = time.monotonic() + seconds
    while any(pathlib.Path(f"/proc/{process}").exists() for process in processes):
        if time.monotonic() > deadline:
            for process in processes:
                try:
                    os.kill(process, signal.SIGKILL)
                except ProcessLookupError:
                    pass
            raise SystemExit(f"ranks did not end within {seconds} s")
        time.sleep(0.002)


def written(checkpoint):
    return sum(path.stat().st_size for path in checkpoint.glob("*.log"))


def wait_until_written(checkpoint, size, processes):
    """Waits until the ranks have written that much, or one has ended."""
    while written(checkpoint) < size and all(pathlib.Path(f"/proc/{process}").exists() for process in processes):
        time.sleep(0.0005)


def samples_of(checkpoint):
    """The line of each sample by epoch and position; one that was repeated after a kill must have the same line again."""
    samples = {}
    for path in checkpoint.glob("*.log"):
        for line in path.read_text().splitlines():
            place = tuple(map(int, line.split()[:2]))
            assert samples.setdefault(place, line) == line, f"{samples[place]} was repeated as {line}"
    return samples


def main(trainer, kills, seed):
    print(f"seed {seed}", flush=True)
    rng = random.Random(seed)
    with tempfile.TemporaryDirectory(prefix="torch_npy_") as folder, tempfile.TemporaryFile() as errors:
        folder = pathlib.Path(folder)
        process = subprocess.Popen([trainer, folder / "data"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors,
                                   text=True, env={**os.environ, "CUDA_VISIBLE_DEVICES": "",
                                                   "TMPDIR": str(folder)})  # for what a killed rank 0 leaves

        def start(ranks, workers, checkpoint):
            print(ranks, workers, checkpoint, file=process.stdin, flush=True)
            return [int(text) for text in process.stdout.readline().split()]

        wait_for(start(1, 0, folder / "whole"), 100)
        whole = samples_of(folder / "whole")
        assert len(whole) == 20 * 211, f"{len(whole)} samples"
        weights = (folder / "whole" / "0.weights").read_bytes()
        size = written(folder / "whole")
        done = runs = late = of_one = starts = 0
        while done < kills:
            runs += 1
            checkpoint = folder / f"killed_{runs}"
            used = []
            while not checkpoint.exists() or not any(checkpoint.glob("*.weights")):
                ranks, workers = rng.choice([1, 2, 3, 6]), rng.choice([0, 4])
                used.append(f"{ranks}x{workers}")
                processes = start(ranks, workers, checkpoint)
                starts += 1
                if done < kills:
                    if rng.random() < 0.25:  # perhaps before they have met
                        time.sleep(0.15 * rng.random())
                    else:
                        wait_until_written(checkpoint, written(checkpoint) + 0.5 * size * rng.random(), processes)
                        time.sleep(0.005 * rng.random())
                    takes_one = ranks > 1 and rng.random() < 0.6
                    killed = 0
                    for victim in [rng.choice(processes)] if takes_one else processes:
                        try:
                            os.kill(victim, signal.SIGKILL)
                            killed = 1
                        except ProcessLookupError:
                            pass
                    done += killed
                    of_one += killed and takes_one
                    late += 1 - killed
                wait_for(processes, 100)
                for file in checkpoint.glob(".torch_npy-*.tmp"):
                    file.unlink()
            for place, line in samples_of(checkpoint).items():
                assert whole[place] == line, f"the whole run had {whole[place]}, after kills it is {line}"
            assert samples_of(checkpoint).keys() == whole.keys(), "a sample is missing"
            for path in checkpoint.glob("*.weights"):
                assert path.read_bytes() == weights, f"other weights: {path.name}"
            print(f"run {runs}, ranks x workers {' '.join(used)}: the same global batches and weights", flush=True)
        print(f"{done} kills, {of_one} of one rank and {done - of_one} of all, in {starts} starts and {runs} runs, "
              f"{late} too late")
        process.stdin.close()
        process.wait()
        errors.seek(0)
        told = {line.split(": ", 1)[1].split(" failed")[0] for line in errors.read().decode().splitlines() if " failed: " in line}
        print(f"what the ranks that were left failed at: {sorted(told)}")


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]) if len(sys.argv) > 3 else random.SystemRandom().randrange(10**9))
