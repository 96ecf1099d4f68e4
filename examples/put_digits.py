"""Puts the digits into a bucket of the server at S3_SERVER, one object a digit, in a folder for each class, and runs
PROGRAM with the URI of the bucket:

    put_digits.py PROGRAM
"""
import io
import os
import subprocess
import sys

import numpy as np
from pyarrow import fs

server = os.environ["S3_SERVER"]
data = os.path.join(os.path.dirname(os.path.abspath(__file__)), "data")
images, labels = (np.load(os.path.join(data, name + ".npy")) for name in ("images", "labels"))
store = fs.S3FileSystem(access_key=os.environ["AWS_ACCESS_KEY_ID"], secret_key=os.environ["AWS_SECRET_ACCESS_KEY"],
                        endpoint_override=server, scheme="http", region="us-east-1", allow_bucket_creation=True,
                        allow_delayed_open=True)
store.create_dir("digits")
print(f"Putting {len(images)} digits into the store at {server}", file=sys.stderr)
for number, (image, label) in enumerate(zip(images, labels)):
    bytes_of_file = io.BytesIO()
    np.save(bytes_of_file, image)
    with store.open_output_stream(f"digits/train/{label}/{number:04}.npy") as out:
        out.write(bytes_of_file.getvalue())
uri = f"s3://digits/train?region=us-east-1&scheme=http&endpoint_override={server}"
sys.exit(subprocess.run([sys.argv[1], uri], check=False).returncode)
