"""Kills programs that read through one cache on disk, at random moments, two at a time:

    python3 kill_cache.py CACHER KILLS [SEED]

Each program compares every object with what the store has.
"""
import os
import random
import subprocess
import sys
import tempfile
import time


def main(cacher, kills, seed):
    print(f"seed {seed}", flush=True)
    rng = random.Random(seed)
    with tempfile.TemporaryDirectory(prefix="torch_npy_cache_") as folder:
        cache = os.path.join(folder, "cache")

        def start():
            limit = rng.choice([8_000_000, 15_000_000, 1_000_000_000])
            process = subprocess.Popen([cacher, cache, str(limit), str(rng.randrange(1 << 30)), "0"],
                                       stdout=subprocess.PIPE, text=True)
            assert process.stdout.readline() == "ready\n"
            return process

        running = [start(), start()]
        for _ in range(kills):
            time.sleep(rng.random() * 0.03)
            one = rng.randrange(2)
            assert running[one].poll() is None, f"ended with exit code {running[one].returncode}"
            running[one].kill()
            running[one].wait()
            running[one].stdout.close()
            running[one] = start()
        for process in running:
            assert process.poll() is None, f"ended with exit code {process.returncode}"
            process.kill()
            process.wait()
            process.stdout.close()
        subprocess.run([cacher, cache, "1000000000", "1", "400"], stdout=subprocess.DEVNULL, check=True)
        kept = [name for name in os.listdir(cache) if name.endswith(".object")]
        assert len(kept) == 200, f"{len(kept)} objects are kept"
        left = sum(name.endswith(".tmp") for name in os.listdir(cache))
    print(f"{kills} kills: every object is what the store has; {left} temporary files were left")


main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]) if len(sys.argv) > 3 else random.randrange(1 << 30))
