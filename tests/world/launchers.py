"""Runs the example distributed_training under a launcher, and checks what it did.

    python3 launchers.py LAUNCHER PROGRAM DATA [TORCHRUN...]

LAUNCHER: alone, open_mpi, mpich, slurm (its variables, without Slurm), torchrun, restart, agents_static, agents_c10d,
agents_differ (their restart counts do), machines (three of them with two ranks each, as network namespaces of this one).
TORCHRUN is the command of torchrun. What is not there is skipped, with exit status 77.
"""

import collections
import os
import pathlib
import re
import shutil
import socket
import subprocess
import sys
import tempfile

TIMEOUT = 100
LAUNCHER_VARIABLES = re.compile("^(RANK|WORLD_SIZE|LOCAL_.*|MASTER_.*|TORCHELASTIC_.*|OMPI_.*|PMI.*|MPI_.*|SLURM_.*)$")


def skip(why):
    print(f"skipped: {why}")
    sys.exit(77)


def environment(**variables):
    own = {name: value for name, value in os.environ.items() if not LAUNCHER_VARIABLES.match(name)}
    return {**own, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": "", **variables}


def run_all(commands):
    """Runs (command, environment) at the same time, and returns their output."""
    processes = [subprocess.Popen(command, env=variables, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
                 for command, variables in commands]
    outputs = []
    try:
        for process in processes:
            outputs.append(process.communicate(timeout=TIMEOUT)[0])
    finally:
        for process in processes:
            process.kill()
    output = "\n".join(outputs)
    assert all(process.returncode == 0 for process in processes), f"{commands} failed:\n{output}"
    return output


def check_output(output, ranks):
    assert output.count(f"weights: the same on all {ranks} ranks") == 1, output
    assert len(re.findall(r"test accuracy: (?:0\.9[5-9]|1\.00)\n", output)) == 1, output


def check_samples(log, ranks, samples=1438, epochs=20):
    """The ranks share the samples of each epoch: each sample once, but for those that make the ranks' shares equal.

    Batches that a run repeated after its restart must be the same ones.
    """
    repeated = 0
    epoch_samples = collections.defaultdict(list)
    for rank in range(ranks):
        lines = (log / f"{rank}.txt").read_text().splitlines()
        repeated += len(lines) - len(set(lines))
        for line in set(lines):
            epoch, *batch = map(int, line.split())
            epoch_samples[epoch] += batch
    assert sorted(epoch_samples) == list(range(epochs)), sorted(epoch_samples)
    extra = -samples % ranks
    for epoch, indices in epoch_samples.items():
        assert set(indices) == set(range(samples)), f"epoch {epoch} has other samples"
        assert len(indices) == samples + extra, f"epoch {epoch} has {len(indices)} samples"
    print(f"each of {epochs} epochs: {samples} samples, {extra} twice; {repeated} batches repeated after restarts")
    return repeated


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def mpirun(names, *options):
    command = next(filter(None, map(shutil.which, names)), None)
    if command is None:
        skip(f"there is no {' or '.join(names)} here")
    return [command, *options, "-n", "2"]


def slurm_step(program, log):
    """What srun --ntasks=2 sets on one machine."""
    def variables(rank):
        return environment(SLURM_JOB_ID=str(os.getpid()), SLURM_STEP_ID="0", SLURM_PROCID=str(rank), SLURM_LOCALID=str(rank),
                           SLURM_STEP_NUM_TASKS="2", SLURM_STEP_NUM_NODES="1", SLURM_STEP_NODELIST="localhost")
    return [(program, variables(rank)) for rank in range(2)]


class Machines:
    """Network namespaces that a bridge connects, each with an address of its own. They need root."""

    def __init__(self, count):
        self.names = [f"npy{os.getpid()}_{number}" for number in range(count + 1)]  # the last one has the bridge

    def __enter__(self):
        if shutil.which("ip") is None:
            skip("there is no command ip (Debian's iproute2)")
        for name in self.names:
            made = subprocess.run(["ip", "netns", "add", name], capture_output=True, text=True)
            if made.returncode != 0:
                self.__exit__()
                skip(f"network namespaces are not permitted: {made.stderr.strip()}")
        bridge = self.names[-1]
        self.ip(bridge, "link", "add", "bridge", "type", "bridge")
        self.ip(bridge, "link", "set", "bridge", "up")
        for number, name in enumerate(self.names[:-1]):
            self.ip(bridge, "link", "add", f"port{number}", "type", "veth", "peer", "name", "net0", "netns", name)
            self.ip(bridge, "link", "set", f"port{number}", "master", "bridge", "up")
            self.ip(name, "address", "add", f"{self.address(number)}/24", "dev", "net0")
            self.ip(name, "link", "set", "net0", "up")
            self.ip(name, "link", "set", "lo", "up")
            # As Debian does it, the name of a machine is a loopback address on the machine itself.
            hosts = pathlib.Path("/etc/netns", name, "hosts")
            hosts.parent.mkdir(parents=True)
            hosts.write_text(f"127.0.0.1 localhost\n{'127.0.1.1' if number == 0 else self.address(0)} head\n")
        return self

    def __exit__(self, *_):
        for name in self.names:
            subprocess.run(["ip", "netns", "delete", name], capture_output=True)
            shutil.rmtree(f"/etc/netns/{name}", ignore_errors=True)

    @staticmethod
    def ip(name, *arguments):
        subprocess.run(["ip", "-n", name, *arguments], check=True)

    @staticmethod
    def address(number):
        return f"192.168.99.{number + 1}"

    def commands(self, program, per_machine):
        ranks = [(machine, local) for machine in range(len(self.names) - 1) for local in range(per_machine)]
        return [(["ip", "netns", "exec", self.names[machine], *program],
                 environment(RANK=str(rank), LOCAL_RANK=str(local), WORLD_SIZE=str(len(ranks)),
                             LOCAL_WORLD_SIZE=str(per_machine), MASTER_ADDR="head", MASTER_PORT="29400"))
                for rank, (machine, local) in enumerate(ranks)]


def agents(torchrun, counts, program, stays, *rendezvous):
    """Two agents of torchrun with two workers each, as on two machines."""
    script = f'echo "$RANK $TORCHELASTIC_RESTART_COUNT" >> {counts}; '
    # A worker that ends counts as a restart of its agent. One that its agent ends, because the other agent has called
    # for a restart, does not.
    script += '"$@" || { [ "$RANK" -lt 2 ] || exec sleep 100; exit 1; }' if stays else 'exec "$@"'
    return [([*torchrun, "--nnodes=2", f"--node_rank={agent}", "--nproc_per_node=2", "--max_restarts=3", "--monitor_interval=1", *rendezvous,
              "--no_python", "sh", "-c", script, "sh", *program], environment()) for agent in range(2)]


def main(launcher, program, data, *torchrun):
    if not torchrun and launcher in ("torchrun", "restart", "agents_static", "agents_c10d", "agents_differ"):
        skip("no Python here has PyTorch of the release of this LibTorch, and so there is no torchrun")
    with tempfile.TemporaryDirectory(prefix="torch_npy_") as folder:
        log, counts = pathlib.Path(folder) / "log", pathlib.Path(folder) / "counts"
        log.mkdir()
        program = [program, "--data", data, "--samples", str(log)]
        checkpoint = pathlib.Path(folder) / "checkpoint"
        saving = [*program, "--checkpoint", str(checkpoint)]
        restarted = [*saving, "--crash", "1"]
        ranks = 2
        if launcher == "alone":
            ranks = 1
            commands = [(saving, environment())]
        elif launcher == "open_mpi":
            allowed = ["--oversubscribe", *(["--allow-run-as-root"] if os.getuid() == 0 else [])]
            commands = [(mpirun(["mpirun.openmpi"], *allowed) + program, environment())]
        elif launcher == "mpich":
            commands = [(mpirun(["mpirun.mpich", "mpiexec.hydra"]) + program, environment())]
        elif launcher == "slurm":
            commands = slurm_step(program, log)
        elif launcher in ("torchrun", "restart"):
            command = [*torchrun, "--standalone", "--nproc_per_node=2", "--max_restarts=2", "--monitor_interval=1", "--no_python"]
            commands = [(command + (program if launcher == "torchrun" else restarted), environment())]
        elif launcher == "machines":
            ranks = 6
        else:
            ranks = 4
            where = f"127.0.0.1:{free_port()}"
            rendezvous = ["--rdzv_backend=c10d", f"--rdzv_endpoint={where}", "--rdzv_id=test"]
            if launcher == "agents_static":
                rendezvous = ["--master_addr=127.0.0.1", f"--master_port={where.split(':')[1]}"]
            commands = agents(torchrun, counts, restarted, launcher == "agents_differ", *rendezvous)
        if launcher == "machines":
            with Machines(3) as machines:
                commands = machines.commands(program, 2)
                output = run_all(commands)
        else:
            output = run_all(commands)
        check_output(output, ranks)
        repeated = check_samples(log, ranks)
        if launcher == "alone":  # the last checkpoint, and none before it
            assert sorted(file.suffix for file in checkpoint.iterdir()) == [".npy", ".npz", ".pt"], list(checkpoint.iterdir())
        if "--crash" in commands[0][0]:
            assert repeated > 0, f"nothing was repeated: was there a restart?\n{output}"
        if counts.exists():
            starts = collections.defaultdict(list)
            for line in counts.read_text().splitlines():
                rank, count = line.split()
                starts[rank].append(count)
            print("restart counts of each rank's starts:", {rank: " ".join(starts[rank]) for rank in sorted(starts)})
            assert launcher != "agents_differ" or starts["0"] != starts["3"], f"the restart counts are the same\n{output}"
        print(f"{launcher}: the same weights on {ranks} ranks")


if __name__ == "__main__":
    main(*sys.argv[1:])
