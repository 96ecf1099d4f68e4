"""Kills a training run at random moments, and compares it with one that was not killed: each step has the same batch
and leaves the same weights, whatever the number of workers.

    python3 kill_training.py TRAINER KILLS [SEED]    KILLS in the midst of training
"""

import os
import pathlib
import random
import signal
import subprocess
import sys
import tempfile
import time


def wait_for(child):
    while pathlib.Path(f"/proc/{child}").exists():
        time.sleep(0.0005)


def steps_of(checkpoint):
    """The lines of the log by step; a step that was repeated after a kill must have the same line again."""
    steps = {}
    for line in pathlib.Path(f"{checkpoint}.log").read_text().splitlines():
        step = int(line.split()[0])
        assert steps.setdefault(step, line) == line, f"step {step} was\n{steps[step]}\nand is\n{line}"
    return steps


def main(trainer, kills, seed):
    print(f"seed {seed}", flush=True)
    rng = random.Random(seed)
    process = subprocess.Popen([trainer], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def start(checkpoint):
        print(rng.choice([0, 1, 2, 7]), checkpoint, file=process.stdin, flush=True)
        return int(process.stdout.readline())

    with tempfile.TemporaryDirectory(prefix="torch_npy_") as folder:
        folder = pathlib.Path(folder)
        begin = time.monotonic()
        wait_for(start(folder / "whole.npz"))
        seconds = time.monotonic() - begin
        whole = steps_of(folder / "whole.npz")
        weights = (folder / "whole.npz.weights").read_bytes()
        done = runs = late = 0
        while done < kills:
            runs += 1
            checkpoint = folder / f"killed_{runs}.npz"
            killed = 0
            while not pathlib.Path(f"{checkpoint}.weights").exists():
                child = start(checkpoint)
                if done < kills:
                    time.sleep(seconds * 0.15 * rng.random())
                    try:
                        os.kill(child, signal.SIGKILL)
                        killed += 1
                        done += 1
                    except ProcessLookupError:
                        late += 1
                wait_for(child)
                for file in folder.glob(".torch_npy-*.tmp"):
                    file.unlink()
            steps = steps_of(checkpoint)
            for step, line in steps.items():
                assert whole[step] == line, f"step {step} of the whole run was\n{whole[step]}\nafter kills it is\n{line}"
            assert steps.keys() == whole.keys(), "a step is missing"
            assert pathlib.Path(f"{checkpoint}.weights").read_bytes() == weights, "other weights"
            print(f"run {runs}: {killed} kills, the same {len(whole)} steps and the same weights", flush=True)
    print(f"{done} kills in {runs} runs, {late} too late; a whole run takes {seconds:.1f} s")
    process.stdin.close()
    process.wait()


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]) if len(sys.argv) > 3 else random.SystemRandom().randrange(10**9))
