"""MinIO on one node with one bucket: the S3 server of the benchmark."""

import os
import pathlib
import secrets

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from installation import Process, free_port, until


class Minio:
    bucket, region = "bench", "us-east-1"

    def __init__(self, folder):
        program = pathlib.Path(os.environ.get("TRACELIFT_MINIO", ""))
        if not program.is_file():
            raise SystemExit("MinIO is not installed: run `make servers`")
        port = free_port()
        self.url, self.key, self.secret = f"http://127.0.0.1:{port}", secrets.token_hex(12), secrets.token_hex(32)
        words = [program, "server", "--quiet", "--address", f"127.0.0.1:{port}", folder / "data"]
        keys = {"MINIO_ROOT_USER": self.key, "MINIO_ROOT_PASSWORD": self.secret, "MINIO_BROWSER": "off"}
        self.process = Process("minio", words, folder, **keys).listening(port)
        session = {"aws_access_key_id": self.key, "aws_secret_access_key": self.secret, "region_name": self.region}
        self.client = boto3.client("s3", endpoint_url=self.url, config=Config(s3={"addressing_style": "path"}), **session)
        until("the bucket", self.made)

    def made(self):
        try:
            self.client.create_bucket(Bucket=self.bucket)
            return True
        except (BotoCoreError, ClientError):
            return None

    def keys_below(self, prefix):
        pages = self.client.get_paginator("list_objects_v2").paginate(Bucket=self.bucket, Prefix=prefix)
        return [found for page in pages for found in page.get("Contents", [])]

    def bytes_below(self, prefix):
        return sum(found["Size"] for found in self.keys_below(prefix))

    def empty(self):
        for prefix in ("ours/", "peer-"):
            for found in self.keys_below(prefix):
                self.client.delete_object(Bucket=self.bucket, Key=found["Key"])

    def stop(self):
        self.process.stop()
