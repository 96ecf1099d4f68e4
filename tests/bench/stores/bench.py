"""Measures reading from an object store: see run.sh.

    bench.py STORES DELAY_PROXY PYTHON OUT

STORES is the program of stores.cpp, PYTHON has PyTorch and s3fs, or is "none". OUT receives a JSON.
"""
import json
import os
import statistics
import subprocess
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "arrow"))
from with_server import environment, proxy, serving  # noqa: E402

HERE = os.path.dirname(os.path.abspath(__file__))
SETS = {"12 KiB": (20000, 96, 32), "1 MiB": (2000, 512, 512)}
LATENCIES = (0, 5, 30)  # milliseconds
REQUESTS = 64
RUNS = 3
WORKERS = (2, 8, 16)


def main():
    stores, delay, python, out = sys.argv[1:]
    scale = float(os.environ.get("TORCH_NPY_BENCH_SCALE", "1"))
    results = []
    with serving("seaweedfs") as (port, _):
        server = f"127.0.0.1:{port}"
        for number, (name, (count, rows, columns)) in enumerate(SETS.items()):
            count = int(count * scale)
            print(f"putting {count} objects of {name} into the store", file=sys.stderr)
            subprocess.run([sys.executable, os.path.join(HERE, "upload.py"), server, "bench", f"set{number}", str(count),
                            str(rows), str(columns)], env=environment(), check=True)
        for latency in LATENCIES:
            with proxy([delay, str(port), str(latency)]) as proxy_port:
                env = environment(S3_PROXY=f"127.0.0.1:{proxy_port}", OMP_NUM_THREADS="1",
                                  PYTHONPATH=os.environ.get("TORCH_NPY_S3FS", ""))

                def seconds(command, count):
                    # What PyTorch and s3fs say about forked processes is long.
                    run = subprocess.run(command, env=env, capture_output=True, text=True)
                    if run.returncode != 0:
                        sys.exit(f"{command}: {run.stderr}")
                    printed = run.stdout.split()
                    if int(printed[1]) != count:
                        sys.exit(f"{command}: {printed[1]} samples instead of {count}")
                    return float(printed[0])

                for number, (name, (count, _, _)) in enumerate(SETS.items()):
                    count = int(count * scale)
                    folder = f"bench/set{number}"
                    times = {"ours": [], "bare": []}
                    for _ in range(RUNS):
                        for who, all_times in times.items():
                            all_times.append(seconds([stores, who, folder, str(REQUESTS)], count))
                    row = {"objects": name, "count": count, "latency_ms": latency, "requests": REQUESTS, **times}
                    if python != "none":
                        contender = [python, os.path.join(HERE, "contender.py"), folder]
                        few = max(64, count // 10)
                        best = min(WORKERS, key=lambda workers: seconds(contender + [str(workers), str(few)], few))
                        row["contender"] = seconds(contender + [str(best)], count)
                        row["contender_workers"] = best
                    results.append(row)
                    ours, bare = statistics.median(times["ours"]), statistics.median(times["bare"])
                    line = f"{name}, {latency} ms: ours {ours:.2f} s, bare Arrow {bare:.2f} s ({bare / ours:.2f})"
                    if "contender" in row:
                        line += (f", PyTorch with s3fs {row['contender']:.1f} s with {row['contender_workers']} workers "
                                 f"({row['contender'] / ours:.1f})")
                    print(line, flush=True)
    with open(out, "w") as file:
        json.dump(results, file, indent=1)


main()
