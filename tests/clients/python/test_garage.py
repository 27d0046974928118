"""Destinations against Garage, a second real server that words its refusals differently.

It is installed by `make servers`. Where it is missing these tests fail instead of being skipped.
"""

import os
import secrets
import socket
import subprocess
import time

import pyarrow.fs
import pytest

from stack import DESTINATIONS, EXPORTS, ONE_DAY, free_port

pytestmark = pytest.mark.garage

FAILED = "Failed to validate S3 destination: "
BUCKET = "archive"
REGION = "garage"


class Server:
    """Garage on one node, with one key and one bucket of its own making."""

    def __init__(self, folder):
        program = os.environ.get("TRACELIFT_GARAGE", "")
        assert os.path.isfile(program), "Garage is not installed: run `make servers`"
        self.port, rpc = free_port(), free_port()
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
            api_bind_addr = "127.0.0.1:{self.port}"
            s3_region = "{REGION}"
            root_domain = ".s3.localhost"
            """
        )
        env = {
            "PATH": os.environ["PATH"],
            "GARAGE_DEFAULT_ACCESS_KEY": self.key,
            "GARAGE_DEFAULT_SECRET_KEY": self.secret,
            "GARAGE_DEFAULT_BUCKET": BUCKET,
        }
        words = [program, "-c", folder / "garage.toml", "server", "--single-node", "--default-bucket"]
        with open(folder / "log", "wb") as log:
            self.process = subprocess.Popen(words, env=env, stdout=log, stderr=log)
        self.wait()

    def wait(self):
        """Until its bucket is there."""
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            assert self.process.poll() is None, "Garage has ended"
            try:
                with socket.create_connection(("127.0.0.1", self.port), timeout=1):
                    self.keys("")
                return
            except OSError:
                time.sleep(0.1)
        raise TimeoutError("Garage did not come up within 60 s")

    def stop(self):
        self.process.terminate()
        self.process.wait(60)

    def keys(self, prefix):
        keys = {"access_key": self.key, "secret_key": self.secret}
        files = pyarrow.fs.S3FileSystem(endpoint_override=f"127.0.0.1:{self.port}", scheme="http", region=REGION, **keys)
        selector = pyarrow.fs.FileSelector(f"{BUCKET}/{prefix}", recursive=True)
        return [found.path for found in files.get_file_info(selector) if found.is_file]

    def destination(self, key=None, secret=None, bucket=BUCKET, host="127.0.0.1", **config):
        config = {"bucket_name": bucket, "region": REGION, "endpoint_url": f"http://{host}:{self.port}", **config}
        credentials = {"access_key_id": key or self.key, "secret_access_key": secret or self.secret}
        return {"display_name": "Garage", "config": config, "credentials": credentials}


@pytest.fixture(scope="module")
def garage(tmp_path_factory):
    server = Server(tmp_path_factory.mktemp("garage"))
    yield server
    server.stop()


@pytest.mark.parametrize("style", ["path", "virtual"])
def test_an_export_is_complete_there(stack, garage, style):
    host = "127.0.0.1" if style == "path" else "s3.localhost"
    body = garage.destination(prefix=f"style/{style}", host=host, config_kwargs_s3={"addressing_style": style})
    destination = stack.ok("POST", DESTINATIONS, body)
    export = stack.ok("POST", EXPORTS, stack.export_body(destination["id"], **ONE_DAY))
    watched = stack.command("export", "watch", export["id"])
    assert watched.returncode == 0, watched.stdout + watched.stderr
    keys = garage.keys(f"style/{style}")
    assert any(key.endswith(".parquet") for key in keys) and any(key.endswith("/_SUCCESS") for key in keys), keys


@pytest.mark.parametrize(
    ("text", "words", "body"),
    [
        ("Key ID you provided does not exist", "No such key", {"key": "GK" + "0" * 24}),
        ("Access denied", "nvalid signature", {"secret": "0" * 64}),
        ("Bucket is not valid", "AuthorizationHeaderMalformed", {"region": "us-east-1"}),
        ("Bucket is not valid", "NoSuchBucket", {"bucket": "no-such-bucket"}),
    ],
    ids=["unknown key", "wrong secret", "wrong region", "missing bucket"],
)
def test_the_check_says_what_is_wrong(stack, garage, text, words, body):
    before = stack.ok("GET", DESTINATIONS)
    status, answer = stack.rest("POST", DESTINATIONS, garage.destination(**body))
    assert (status, stack.ok("GET", DESTINATIONS)) == (400, before), answer
    detail = answer["detail"].removeprefix(FAILED)
    assert detail.startswith(f"{text}: ") and words in detail, detail
