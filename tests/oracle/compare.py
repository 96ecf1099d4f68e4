"""Compares what this library and NumPy make of files.

    python3 compare.py JUDGE COUNT [SEED]    COUNT files made from SEED, which is printed; before them the kept cases
    python3 compare.py JUDGE 0               the kept cases alone
    python3 compare.py JUDGE spellings       the kept cases, and all texts of spellings.py as the dtype of an array and of a field

Ends with 1 where the two disagree in anything but the list in docs/differences-from-numpy.md, after it has made the file as
small as it can and put it into the folder of kept cases.
"""

import collections
import itertools
import pathlib
import random
import subprocess
import sys
import time

import numpy as np

import files
import spellings
import verdicts

# Damaged archives and matrices are the same to the judge.
LETTERS = {"y": "z", "Y": "Z", "t": "s", "T": "S"}
CASES = pathlib.Path(__file__).parent / "cases"


class Judge:
    """judge.cpp, running."""

    def __init__(self, program):
        self.process = subprocess.Popen([program], stdin=subprocess.PIPE, stdout=subprocess.PIPE)

    def send(self, kind, data):
        self.process.stdin.write(LETTERS.get(kind, kind).encode() + len(data).to_bytes(4, "little") + data)

    def flush(self):
        self.process.stdin.flush()

    def line(self):
        line = self.process.stdout.readline().decode(errors="replace")
        if not line.endswith("\n"):
            raise SystemExit(f"the judge died: {self.process.wait()}")
        return line[:-1]

    def answer(self):
        line = self.line()
        if line != "archive":
            return verdicts.parsed(line)
        arrays = {}
        while (line := self.line()) != "end":
            name, rest = line.split("\t", 1)
            arrays[bytes.fromhex(name).decode()] = verdicts.parsed(rest)
        return arrays

    def ask(self, kind, data):
        self.send(kind, data)
        self.flush()
        return self.answer()


class Comparison:
    def __init__(self, program):
        self.judge = Judge(program)
        two = np.array([2], "<u2")
        line = self.judge.ask("n", files.assembled(1, b"{'descr': '<u2', 'fortran_order': False, 'shape': (1,)}\n", two.tobytes()))
        self.wide_unsigned = line[4] == verdicts.zlib.crc32(two.tobytes())
        self.explained = collections.Counter()
        self.outcomes = collections.Counter()

    def array(self, ours, numpys, data):
        """None if the two agree, or differ for a documented reason; otherwise what is wrong."""
        if ours[0] == "fault":
            return f"no Error: {ours[1]}"
        if isinstance(numpys, Exception):
            if ours[0] == "error":
                self.outcomes["both refuse"] += 1
                return None

            def ask(other):
                return self.judge.ask("n", other), verdicts.of_array(other, self.wide_unsigned)

            reason = verdicts.leniency(ours, data, ask)
        elif ours[0] == "error":
            reason = verdicts.refusal(ours, numpys, data)
        elif verdicts.same(ours, numpys):
            self.outcomes["both load the same"] += 1
            return None
        else:
            return f"loaded otherwise: {ours} here, {numpys} with NumPy"
        if reason is None:
            return f"{ours} here, {numpys!r} with NumPy"
        self.explained[reason] += 1
        return None

    def refused(self, message, is_damaged):
        """Whether an archive, or a member, may be refused that zipfile reads."""
        if not is_damaged or not verdicts.is_contradiction(message):
            return False
        self.explained["an archive that contradicts itself"] += 1
        return True

    def archive(self, ours, numpys, is_damaged):
        if isinstance(ours, dict) and not isinstance(numpys, Exception):
            members = {name.removesuffix(".npy"): verdict for name, verdict in numpys.items()}
            for name, verdict in ours.items():
                if verdict[0] == "error":
                    theirs = members.get(name, ValueError("no such member"))
                    if isinstance(theirs, Exception) or self.refused(verdict[2], is_damaged):
                        continue
                    reason = verdicts.refusal_of_dtype(verdict, theirs)
                    if reason is None:
                        return f"array {name!r}: {verdict} here, {theirs!r} with NumPy"
                    self.explained[reason] += 1
                elif not verdicts.same(verdict, members.get(name, ValueError("no such member"))):
                    return f"array {name!r}: {verdict} here, {members.get(name)!r} with NumPy"
            for name, verdict in members.items():
                if name not in ours and not isinstance(verdict, Exception):
                    return f"array {name!r} is missing here, {verdict!r} with NumPy"
            self.outcomes["both open the archive"] += 1
        elif isinstance(ours, dict):
            return f"opened here, {numpys!r} with zipfile"
        elif ours[0] == "fault":
            return f"no Error: {ours[1]}"
        elif isinstance(numpys, Exception):
            self.outcomes["both refuse the archive"] += 1
        elif not self.refused(ours[2], is_damaged):
            return f"{ours} here, opened with zipfile"
        return None

    def sparse(self, ours, data, is_damaged):
        if ours[0] == "fault":
            return f"no Error: {ours[1]}"
        if ours[0] == "error":
            reason = verdicts.REFUSED_MATRICES.search(ours[2])
            if reason is None and not is_damaged:
                return f"{ours} here, a matrix that SciPy wrote"
            self.explained[f"a matrix: {reason[0] if reason else 'damaged'}"] += 1
            return None
        scipys = verdicts.of_sparse(data, self.wide_unsigned)
        if isinstance(scipys, Exception) and is_damaged:
            self.explained["a damaged matrix that SciPy refuses"] += 1
            return None
        if isinstance(scipys, Exception) or ours[2] != scipys[2] or ours[1] != scipys[1].str or ours[4] != scipys[4]:
            return f"{ours} here, {scipys!r} with SciPy"
        self.outcomes["both load the same matrix"] += 1
        return None

    def verdict(self, kind, data, ours):
        if kind in "st":
            return self.sparse(ours, data, kind == "t")
        if kind != "n":
            return self.archive(ours, verdicts.of_archive(data, self.wide_unsigned), kind == "y")
        return self.array(ours, verdicts.of_array(data, self.wide_unsigned), data)

    def fault(self, kind, data):
        return self.verdict(kind, data, self.judge.ask(kind.upper(), data))

    def spelling(self, text, ours, numpys):
        """As array(), for one dtype: our line about the header, and NumPy's dtype or exception."""
        if isinstance(numpys, Exception):
            if ours[0] == "error":
                self.outcomes["both refuse"] += 1
                return None
            reason = spellings.why_read(text)
        elif ours[0] == "error":
            reason = spellings.why_refused(text)
        elif ours[0] == "header" and verdicts.same_dtype(ours[1], numpys):
            self.outcomes["both read the same"] += 1
            return None
        else:
            return f"{text!r}: {ours} here, {numpys!r} with NumPy"
        if reason is None:
            return f"{text!r}: {ours} here, {numpys!r} with NumPy"
        self.explained[reason] += 1
        return None

    def all_spellings(self):
        """The number of texts, and what is wrong."""
        count, faults, source = 0, [], filter(spellings.are_safe, spellings.texts())
        while batch := list(itertools.islice(source, 500)):
            both = [(text, descr) for text in batch for descr in (repr(text), f"[('a', {text!r}), ('b', '<i2')]")]
            headers = [files.assembled(3, f"{{'descr': {descr}, 'fortran_order': False, 'shape': (0,)}}".encode(), b"") for _, descr in both]
            for header in headers:
                self.judge.send("h", header)
            self.judge.flush()
            for (text, _), header in zip(both, headers):
                count += 1
                if fault := self.spelling(text, self.judge.answer(), verdicts.of_header(header)):
                    faults.append(fault)
        return count, faults

    def shrunk(self, kind, data):
        """A smaller file for which the two disagree."""
        if kind in "st":  # cut anywhere, it is no archive any more
            return data
        explained, outcomes = self.explained.copy(), self.outcomes.copy()
        size = len(data) // 2
        while size:
            at = 0
            while at < len(data):
                for less in (data[:at] + data[at + size :], files.with_length(data[:at] + data[at + size :])):
                    if len(less) < len(data) and self.fault(kind, less):
                        data = less
                        break
                else:
                    at += size
            size //= 2
        self.explained, self.outcomes = explained, outcomes
        return data

    def keep(self, kind, data):
        data = self.shrunk(kind, data)
        CASES.mkdir(exist_ok=True)
        ending = {"n": "npy", "s": "sparse.npz", "t": "damaged.sparse.npz"}.get(kind, "npz")
        path = CASES / f"{verdicts.zlib.crc32(data):08x}.{ending}"
        path.write_bytes(data)
        return path, self.fault(kind, data)

    def report(self, done, disagreements):
        """Prints what was compared; returns the exit status."""
        for what, number in [*self.outcomes.most_common(), *self.explained.most_common()]:
            print(f"{number:9} {what}")
        print(f"{done} and {len(list(CASES.glob('*')))} kept cases, {disagreements} disagreements")
        return 1 if disagreements else 0


def main(program, count, seed):
    comparison = Comparison(program)
    disagreements = 0
    for path in sorted(CASES.glob("*")):
        if path.name.endswith(".sparse.npz") and files.scipy is None:
            continue
        kind = "t" if "damaged" in path.name else "s" if path.name.endswith(".sparse.npz") else "n" if path.suffix == ".npy" else "y"
        if fault := comparison.fault(kind, path.read_bytes()):
            print(f"{path.name}: {fault}")
            disagreements += 1
    if count == "spellings":
        count, faults = comparison.all_spellings()
        disagreements += len(faults)
        print(*faults[:50], sep="\n")
        return comparison.report(f"{count} spellings", disagreements)
    begin = told = time.monotonic()
    source = files.files(seed)
    done = 0
    while done < count:
        batch = [next(source) for _ in range(min(100, count - done))]
        for i, (kind, data) in enumerate(batch):
            comparison.judge.send(kind.upper() if i % 8 == 0 else kind, data)
        comparison.judge.flush()
        answers = [comparison.judge.answer() for _ in batch]
        for (kind, data), ours in zip(batch, answers):
            if comparison.verdict(kind, data, ours):
                path, fault = comparison.keep(kind, data)
                print(f"{path}: {fault}", flush=True)
                disagreements += 1
                if disagreements >= 50:
                    raise SystemExit("50 disagreements are enough")
        done += len(batch)
        if time.monotonic() - told > 10:
            told = time.monotonic()
            print(f"{done} of {count} files, {done / (told - begin):.0f} a second", flush=True)
    return comparison.report(f"{done} files", disagreements)


if __name__ == "__main__":
    seed = int(sys.argv[3]) if len(sys.argv) > 3 else random.SystemRandom().randrange(10**9)
    scipys = f"SciPy {files.scipy.__version__}" if files.scipy else "no SciPy, so no sparse matrices"
    print(f"seed {seed}, NumPy {np.__version__}, {scipys}, Python {sys.version.split()[0]}", flush=True)
    raise SystemExit(main(sys.argv[1], sys.argv[2] if sys.argv[2] == "spellings" else int(sys.argv[2]), seed))
