"""Garage on one node with one bucket: the S3 server of the benchmark."""

import os
import pathlib
import secrets

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from installation import Process, free_port, until


class Garage:
    bucket = "bench"

    def __init__(self, folder, region):
        program = pathlib.Path(os.environ.get("TRACELIFT_GARAGE", ""))
        if not program.is_file():
            raise SystemExit("Garage is not installed: run `make servers`")
        port, rpc = free_port(), free_port()
        self.url, self.region = f"http://127.0.0.1:{port}", region
        self.key, self.secret = f"GK{secrets.token_hex(12)}", secrets.token_hex(32)
        (folder / "garage.toml").write_text(
            f"""
            metadata_dir = "{folder}/meta"
            data_dir = "{folder}/data"
            db_engine = "sqlite"
            replication_factor = 1
            rpc_bind_addr = "127.0.0.1:{rpc}"
            rpc_secret = "{secrets.token_hex(32)}"
            [s3_api]
            api_bind_addr = "127.0.0.1:{port}"
            s3_region = "{region}"
            root_domain = ".s3.localhost"
            """
        )
        keys = {"GARAGE_DEFAULT_ACCESS_KEY": self.key, "GARAGE_DEFAULT_SECRET_KEY": self.secret, "GARAGE_DEFAULT_BUCKET": self.bucket}
        words = [program, "-c", folder / "garage.toml", "server", "--single-node", "--default-bucket"]
        self.process = Process("garage", words, folder, RUST_LOG="garage=warn", **keys).listening(port)
        session = {"aws_access_key_id": self.key, "aws_secret_access_key": self.secret, "region_name": region}
        self.client = boto3.client("s3", endpoint_url=self.url, config=Config(s3={"addressing_style": "path"}), **session)
        until("the bucket", self.is_there)

    def is_there(self):
        try:
            self.client.head_bucket(Bucket=self.bucket)
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
