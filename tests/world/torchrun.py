"""torchrun of this Python's PyTorch: python3 torchrun.py ARGUMENT...

The torchrun of Debian 12 fails: its Std.from_str() finds no member of an enum that has the value 0, since Python 3.11.
"""

import sys

from torch.distributed.elastic.multiprocessing import api
from torch.distributed.run import main

if sys.version_info >= (3, 11) and api.Std.from_str("0") is None:
    api.Std.from_str = staticmethod(lambda value: api.Std(int(value)))

if __name__ == "__main__":
    main()
