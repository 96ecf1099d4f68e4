"""Puts arrays of random numbers into a bucket: upload.py SERVER BUCKET FOLDER COUNT ROWS COLUMNS"""
import concurrent.futures
import io
import sys

import boto3
import numpy as np

server, bucket, folder, count, rows, columns = sys.argv[1:4] + [int(number) for number in sys.argv[4:]]
client = boto3.client("s3", endpoint_url=f"http://{server}", region_name="us-east-1")
if bucket not in [known["Name"] for known in client.list_buckets()["Buckets"]]:
    client.create_bucket(Bucket=bucket)


def put(i):
    out = io.BytesIO()
    np.save(out, np.random.default_rng(i).standard_normal((rows, columns), dtype=np.float32))
    client.put_object(Bucket=bucket, Key=f"{folder}/{i:06}.npy", Body=out.getvalue())


with concurrent.futures.ThreadPoolExecutor(8) as pool:
    for done, _ in enumerate(pool.map(put, range(count)), 1):
        if done % 2000 == 0:
            print(f"{done} of {count} objects are there", file=sys.stderr)
