"""The programs that are measured, and the rounds in which they take turns."""

import contextlib
import os
import random
import re
import resource
import statistics
import subprocess
import time
from dataclasses import dataclass, field


@dataclass
class Answer:
    seconds: float
    check: str
    more: str = ""


@dataclass
class Work:
    """A piece of work of a contender. `name` is what goals call it ("NumPy"), `variant` which of its ways this is
    ("2 workers"), and `checks` are further words for the first round, which have it sum up all of its data."""

    contender: "Contender"
    words: tuple
    name: str
    variant: str = ""
    checks: tuple = ()
    answers: list = field(default_factory=list)

    def do(self, *more):
        return self.contender.do(*self.words, *more)

    @property
    def times(self):
        return [answer.seconds for answer in self.answers]

    @property
    def median(self):
        return statistics.median(self.times)


class Contender:
    """A program that reads works from its input, started when there is one; see worker.hpp."""

    def __init__(self, name, command):
        self.name = name
        self.command = command
        self.process = None

    def __call__(self, *words, name=None, variant="", checks=()):
        return Work(self, words, name or self.name, variant, checks)

    def do(self, *words):
        if self.process is None:
            self.process = subprocess.Popen(self.command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.process.stdin.write("\t".join(map(str, words)) + "\n")
        self.process.stdin.flush()
        seconds, *rest = self.process.stdout.readline().rstrip("\n").split("\t")
        if not rest or seconds == "error":
            raise SystemExit(f"{self.name} failed at {' '.join(map(str, words))}: {' '.join(rest) or 'it died'}")
        return Answer(float(seconds), *rest)

    def stop(self):
        if self.process is not None:
            with contextlib.suppress(BrokenPipeError):  # it died
                self.process.stdin.close()
            self.process.wait()
        self.process = None


class Compiler(Contender):
    """The compiler. Its works are includes, or other lines, and the time is that of the processor."""

    def __init__(self, name, command, folder):
        super().__init__(name, command)
        self.folder = folder

    def do(self, *includes):
        source = self.folder / "includes.cpp"
        lines = [line if line.startswith("#") else f"#include <{line}>" for line in includes]
        source.write_text("".join(line + "\n" for line in lines))

        def spent():
            usage = resource.getrusage(resource.RUSAGE_CHILDREN)
            return usage.ru_utime + usage.ru_stime

        before = spent()
        subprocess.run([*self.command, "-O2", "-c", source, "-o", os.devnull], check=True)
        return Answer(spent() - before, "")


def libtorch_headers(include_folder, header):
    """The headers of LibTorch that a header of the library includes, itself or through others of the library."""
    found, seen, left = [], set(), [header]
    while left:
        text = (include_folder / left.pop()).read_text()
        for included in re.findall(r"^#include <((?:ATen|c10|torch|torch_npy)/.*)>", text, re.MULTILINE):
            if included not in seen:
                seen.add(included)
                (left if included.startswith("torch_npy/") else found).append(included)
    return sorted(found)


def drop_page_cache():
    """False where that is not allowed."""
    os.sync()
    try:
        with open("/proc/sys/vm/drop_caches", "w") as file:
            file.write("3\n")
    except OSError:
        return False
    return True


def in_turns(works, rounds, do):
    """Has each work done once in each round, in an order drawn anew: what one leaves behind in caches and memory is
    not always for the same other."""
    order = list(works)
    shuffle = random.Random(0).shuffle
    for _ in rounds:
        shuffle(order)
        for work in order:
            do(work)


def warm_up(works):
    """A round that does not count, in which the results have to be the same."""
    checks = {}
    in_turns(works, [0], lambda work: checks.update({id(work): work.do(*work.checks).check}))
    if len(set(checks.values())) != 1:
        raise SystemExit("different results: " + ", ".join(
            f"{work.contender.name} {' '.join(map(str, work.words))}: {checks[id(work)]}" for work in works))


def do_twice(work):
    """Only the second time counts. Memory that a process has not used for a while its system may have to fetch first,
    also from the host of a virtual machine, which can take ten times as long as the work; processors have other data
    in their caches by then."""
    work.do()
    return work.do()


def take_turns(works, rounds, seconds=0, do=do_twice):
    """At least `rounds` rounds, and up to three times as many as long as all take less than `seconds`."""
    def enough():
        start = time.monotonic()
        for done in range(3 * rounds):
            if done >= rounds and time.monotonic() - start > seconds:
                return
            yield done

    in_turns(works, enough(), lambda work: work.answers.append(do(work)))
