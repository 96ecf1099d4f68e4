"""Reads all objects of a folder in S3 once with PyTorch's DataLoader, s3fs and np.load, as stores.cpp does:

    contender.py FOLDER WORKERS [COUNT]       prints the seconds, and the number of samples
"""
import io
import os
import sys
import time

import numpy as np
import s3fs
import torch


def file_system():
    return s3fs.S3FileSystem(key=os.environ["AWS_ACCESS_KEY_ID"], secret=os.environ["AWS_SECRET_ACCESS_KEY"],
                             client_kwargs={"endpoint_url": "http://" + os.environ["S3_PROXY"],
                                            "region_name": "us-east-1"}, skip_instance_cache=True)


class Objects(torch.utils.data.Dataset):
    def __init__(self, folder, count):
        self.paths = sorted(file_system().ls(folder))[:count]
        self.files = None

    def __len__(self):
        return len(self.paths)

    def __getitem__(self, i):
        if self.files is None:  # one in each worker
            self.files = file_system()
        return torch.from_numpy(np.load(io.BytesIO(self.files.cat_file(self.paths[i]))))


def main():
    dataset = Objects(sys.argv[1], int(sys.argv[3]) if len(sys.argv) > 3 else None)
    loader = torch.utils.data.DataLoader(dataset, batch_size=64, shuffle=True, num_workers=int(sys.argv[2]))
    start = time.perf_counter()
    count = sum(len(batch) for batch in loader)
    print("%.6f %d" % (time.perf_counter() - start, count))


if __name__ == "__main__":
    main()
