#!/usr/bin/env bash
# The example train_fashion_mnist on a small set of random images, from each layout of files:
#
#   fashion_mnist.sh PROGRAM FOLDER PYTHON
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." >/dev/null && pwd)
rm -rf "$2"
mkdir -p "$2"
"$3" - "$2" <<'END'
import gzip, random, sys
for part, count in (("train", 200), ("t10k", 50)):
    for kind, header, item in (("images-idx3", 16, 28 * 28), ("labels-idx1", 8, 1)):
        data = random.randbytes(count * item) if item > 1 else bytes(i % 10 for i in range(count))
        with gzip.open(f"{sys.argv[1]}/{part}-{kind}-ubyte.gz", "wb") as file:
            file.write(bytes(header) + data)
END
"$3" "$root/examples/fashion_mnist.py" "$2/npy" "$2"
for layout in arrays paired classes; do
  "$1" $layout "$2/npy" 1 | tee "$2/log"
  grep -qE '^epoch  1/1 .*loss [0-9.]+ ' "$2/log"
  grep -qE '^test accuracy: [01]\.[0-9]{3}$' "$2/log"
done
