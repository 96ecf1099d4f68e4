"""Runs include-what-you-use on each header:

    python3 tests/include_what_you_use.py COMPILER_OPTION...

Fails if a header of the library names something and does not include the header that defines it, of the library or of the
standard library. What is not named, such as the type of a function's result, is left to the header of the function.
"""

import concurrent.futures
import os
import pathlib
import re
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
# They include the headers of a floor, and use nothing.
UMBRELLAS = {"format.hpp", "io.hpp", "tensor.hpp", "data.hpp", "data/transforms.hpp"}
# Need what this machine may not have: Arrow, Gloo, Windows.
OTHERS = ("arrow.hpp", "world.hpp", "world/", "io/system_windows.hpp")
# file.hpp includes one of the two for all that the system does.
SYSTEM = "torch_npy/io/system_posix.hpp"
# Names that it gives to another header of libstdc++ than the C++ standard does.
HOMES = {"pair": "utility"}
OPTIONS = ["-Xiwyu", "--no_fwd_decls", "-Xiwyu", "--quoted_includes_first", "-Xiwyu", "--max_line_length=1000"]


def missing(header):
    run = subprocess.run(["include-what-you-use", "-x", "c++", *sys.argv[1:], *OPTIONS, str(header)],
                         cwd=ROOT, capture_output=True, text=True)
    if "error:" in run.stderr:
        return [run.stderr[:2000]]
    found = re.search(r"should add these lines:\n(.*?)\n\n", run.stderr, re.S)
    source = header.read_text()
    text = re.sub(r"#include.*|//.*", "", source)
    lines = []
    for line in found.group(1).splitlines() if found else []:
        include = re.match(r'#include [<"]([a-z_]+|torch_npy/[^">]+)[">]\s*// for (.*)', line)
        if not include or include.group(1) == SYSTEM:
            continue
        names = [name.strip().split("::")[-1] for name in include.group(2).split(",")]
        names = [name for name in names if f"#include <{HOMES.get(name)}>" not in source]
        named = [name for name in names if re.search(rf"\b{re.escape(name)}\b", text) and
                 (include.group(1).startswith("torch_npy/") or re.search(rf"std::(\w+::)?{re.escape(name)}\b", text))]
        if named:
            lines.append(f"{header.relative_to(ROOT)}: #include <{include.group(1)}> for {', '.join(named)}")
    return lines


folder = ROOT / "include" / "torch_npy"
headers = [header for header in sorted(folder.rglob("*.hpp"))
           if str(header.relative_to(folder)) not in UMBRELLAS and
           not str(header.relative_to(folder)).startswith(OTHERS)]
faults = []
with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
    for done, lines in enumerate(pool.map(missing, headers), 1):
        faults += lines
        for line in lines:
            print(line, flush=True)
        if done % 20 == 0:
            print(f"{done} of {len(headers)} headers", flush=True)
print(f"{len(headers)} headers, {len(faults)} missing include lines")
sys.exit(1 if faults or not headers else 0)
