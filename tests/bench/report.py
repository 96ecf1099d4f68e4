"""What becomes of the measurements: a table in Markdown, a JSON file with every single time, and plots."""

import datetime
import json
import os
import pathlib
import platform
import subprocess
from dataclasses import dataclass

import matplotlib

matplotlib.use("svg")
import matplotlib.pyplot as plt  # noqa: E402

from units import amount, duration, ratio, three, unit_of  # noqa: E402

# Which contenders a column of the table is about. Others show in the last column alone.
COLUMNS = {
    "the bare limit": ("the limit", "fwrite", "its LibTorch headers", "torch/data.h", ".to(device)"),
    "NumPy/PyTorch": ("NumPy", "PyTorch", "LibTorch", "sorted(os.listdir())", "memmap", "mmap_mode", "pad_sequence"),
    "xtensor": ("xtensor",),
}
IN_COLUMNS = {name for names in COLUMNS.values() for name in names}


@dataclass
class Goal:
    text: str
    value: float
    bound: float
    of: str = ""  # of what the value is
    most: bool = False
    show: object = ratio
    shown: bool = False  # whether another column of the table has the value

    @property
    def met(self):
        return self.value <= self.bound if self.most else self.value >= self.bound

    @property
    def verdict(self):
        value = self.show(self.value) + self.of
        if self.met:
            return value
        percent = 100 * abs(self.value / self.bound - 1)
        return f"{value}, {f'{percent:.0f}' if percent >= 1 else 'less than 1'} % {'too much' if self.most else 'short'}"


class Row:
    """A line of the table: of works, some of them ours; or else `cells` has what its columns say."""

    def __init__(self, title, works, per=1, unit="", cells=None, numbers=None):
        self.title, self.works, self.per, self.unit = title, works, per, unit
        self.cells, self.numbers = cells or {}, numbers or {}
        self.goals = []

    def fastest(self, *names):
        """The works that have one of the names, the fastest first."""
        return sorted((work for work in self.works if work.name in names), key=lambda work: work.median)

    @property
    def ours(self):
        return self.fastest("ours")[0]

    def speed_against(self, name):
        return self.fastest(name)[0].median / self.ours.median

    def time(self):
        if not self.works:
            return self.cells["ours"]
        unit, scale = unit_of(self.ours.median / self.per)
        median, low, high = (three(seconds / self.per * scale)
                             for seconds in (self.ours.median, min(self.ours.times), max(self.ours.times)))
        details = [self.ours.variant] if self.ours.variant else []
        details += [f"{work.variant}: {three(work.median / self.per * scale)}" for work in self.fastest("ours")[1:]]
        return " ".join([median, unit, *([self.unit] if self.unit else []),
                         f"({'; '.join([f'{low} - {high}', *details])})"])

    def against(self, column):
        names = COLUMNS[column]
        if not self.works:
            return next((self.cells[name] for name in names if name in self.cells), "")
        rivals = self.fastest(*names)
        if not rivals:
            return ""
        texts = [" ".join(filter(None, [ratio(work.median / self.ours.median), work.variant])) for work in rivals]
        return "; ".join(texts) if len(texts) > 1 else texts[0]

    def met(self):
        if not self.goals:
            return ""
        missed = [goal.verdict for goal in self.goals if not goal.met]
        if missed:
            return "no: " + "; ".join(missed)
        values = [goal.verdict for goal in self.goals if not goal.shown]
        return f"yes ({'; '.join(values)})" if values else "yes"

    def columns(self):
        return [self.title, self.time(), *map(self.against, COLUMNS), ", ".join(goal.text for goal in self.goals),
                self.met()]

    def summary(self):
        against = [f"{self.against(column)} ({column})" for column in COLUMNS if self.against(column)]
        return "; ".join([f"{self.title}: {self.time()}", *against, f"met: {self.met()}"])

    def as_json(self):
        works = [{"contender": work.contender.name, "name": work.name, "variant": work.variant,
                  "median": work.median, "min": min(work.times), "max": max(work.times), "seconds": work.times,
                  "more": [answer.more for answer in work.answers if answer.more]} for work in self.works]
        goals = [{"text": goal.text, "value": goal.value, "bound": goal.bound, "met": bool(goal.met)}
                 for goal in self.goals]
        return {"work": self.title, "per": self.per, "works": works, "numbers": self.numbers, "goals": goals}


class Growth:
    """How the time of some work grows."""

    def __init__(self, name, title, x_label, x_unit):
        self.name, self.title, self.x_label, self.x_unit = name, title, x_label, x_unit
        self.x = []
        self.times = {}  # of each contender, at each x

    def add(self, x, works):
        self.x.append(x)
        for work in works:
            self.times.setdefault(work.name, []).append(
                {"median": work.median, "min": min(work.times), "max": max(work.times)})

    def as_json(self):
        return {"title": self.title, self.x_label: self.x, "seconds": self.times}


def machine(folder, compiler, versions):
    """What the figures depend on."""

    def line_of(path, key):
        lines = (line.partition(":") for line in pathlib.Path(path).read_text().splitlines())
        return next((value.strip() for name, _, value in lines if name.strip() == key), "unknown")

    mounts = [line.split() for line in pathlib.Path("/proc/self/mounts").read_text().splitlines()]
    of_folder = [mount for mount in mounts if os.path.commonpath([mount[1], folder.resolve()]) == mount[1]]
    memory = int(line_of("/proc/meminfo", "MemTotal").split()[0]) << 10
    huge_pages = pathlib.Path("/sys/kernel/mm/transparent_hugepage/enabled")
    compiled = subprocess.run([compiler, "--version"], capture_output=True, text=True, check=True).stdout
    return {
        "date": datetime.date.today().isoformat(),
        "CPU": line_of("/proc/cpuinfo", "model name"),
        "cores": len(os.sched_getaffinity(0)),
        "memory": amount(memory),
        "kernel": f"{platform.system()} {platform.release()}, {platform.machine()}",
        "file system": max(of_folder, key=lambda mount: len(mount[1]))[2],
        "huge pages": huge_pages.read_text().strip() if huge_pages.exists() else "none",
        "compiler": compiled.splitlines()[0],
        "versions": ", ".join(versions),
    }


def page(bench, about, command, plots):
    lines = ["# Benchmarks", "", "; ".join(f"{key}: {value}" for key, value in about.items()) + ".", "",
             f"`{command}`"]
    if bench.quick:
        lines += ["", "**A quick run, to see that it works: its figures mean little.**"]
    lines += ["", "Times are medians (lowest - highest). Against others: how many times as fast, or what part of their "
              "speed where less than 1.", ""]
    header = ["work", "torch_npy", *(f"against {column}" for column in COLUMNS), "target", "met"]
    lines += [f"| {' | '.join(columns)} |" for columns in
              [header, ["---"] * len(header), *(row.columns() for row in bench.rows)]]
    for note in bench.notes:
        lines += ["", note]
    for title, file in plots:
        lines += ["", f"![{title}]({file})"]
    return "\n".join(lines) + "\n"


# Colours that stand out on a white page and on a black one, as nothing is painted behind the plots.
GREY = "#7d8794"
PALETTE = ["#e0701a", GREY, "#3b82f6", "#2da44e"]


def style():
    plt.rcParams.update({
        "figure.facecolor": "none", "axes.facecolor": "none", "savefig.facecolor": "none",
        "text.color": GREY, "axes.labelcolor": GREY, "axes.edgecolor": GREY, "xtick.color": GREY, "ytick.color": GREY,
        "legend.frameon": False, "legend.labelcolor": GREY, "axes.spines.top": False, "axes.spines.right": False,
        "font.size": 11, "svg.fonttype": "none", "svg.hashsalt": "torch_npy",
    })


def save_plot(figure, path):
    figure.savefig(path, bbox_inches="tight", metadata={"Date": None, "Creator": None})
    plt.close(figure)


def plot_growth(growth, path):
    figure, axes = plt.subplots(figsize=(7, 4.2))
    for (name, times), colour in zip(growth.times.items(), PALETTE):
        label = "torch_npy" if name == "ours" else name
        axes.plot(growth.x, [time["median"] for time in times], marker="o", markersize=3.5, color=colour, label=label)
        axes.fill_between(growth.x, [time["min"] for time in times], [time["max"] for time in times],
                          color=colour, alpha=0.2, linewidth=0)
    axes.set_xscale("log", base=2 if growth.x_unit == "bytes" else 10)
    axes.set_yscale("log")
    if growth.x_unit == "bytes":
        axes.set_xticks(growth.x[::2], [amount(x) for x in growth.x[::2]])
    axes.yaxis.set_major_formatter(lambda seconds, _: duration(seconds))
    axes.set_xlabel(growth.x_label)
    axes.set_ylabel(f"time to {growth.title}")
    axes.grid(color=GREY, alpha=0.25, linewidth=0.6)
    axes.legend()
    save_plot(figure, path)


def plot_speeds(rows, path):
    """How many times as fast as what people use today; false where no row says so."""
    names = COLUMNS["NumPy/PyTorch"]
    speeds = [(row, row.fastest(*names)[0]) for row in rows if row.works and row.fastest(*names)]
    if not speeds:
        return False
    figure, axes = plt.subplots(figsize=(7, 0.36 * len(speeds) + 1))
    values = [rival.median / row.ours.median for row, rival in speeds]
    labels = [f"{row.title.replace('`', '')}, {rival.name}" for row, rival in speeds]
    axes.barh(labels, [value - 1 for value in values], left=1, color=PALETTE[0], height=0.6)
    for place, value in enumerate(values):
        axes.text(max(value, 1) * 1.04, place, ratio(value), va="center", fontsize=9)
    axes.axvline(1, color=GREY, linewidth=1)
    axes.set_xscale("log")
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}x")
    axes.set_xlabel("times as fast as NumPy, PyTorch and LibTorch alone")
    axes.tick_params(axis="y", labelsize=9, length=0)
    axes.invert_yaxis()
    save_plot(figure, path)
    return True


def write(folder, bench, about, command):
    folder.mkdir(parents=True, exist_ok=True)
    style()
    plots = []
    if plot_speeds(bench.rows, folder / "speeds.svg"):
        plots.append(("how many times as fast", "speeds.svg"))
    for growth in bench.growths:
        plot_growth(growth, folder / f"{growth.name}.svg")
        plots.append((f"time to {growth.title}, by {growth.x_label}", f"{growth.name}.svg"))
    (folder / "README.md").write_text(page(bench, about, command, plots))
    everything = {"machine": about, "command": command, "rows": [row.as_json() for row in bench.rows],
                  "growth": {growth.name: growth.as_json() for growth in bench.growths}, "notes": bench.notes}
    (folder / "results.json").write_text(json.dumps(everything, indent=1) + "\n")
