"""Tracelift as its callers see it: the program `up` as a child process, and one way to speak through each of its doors.

Everything that it answers is kept in `Stack.said`, so that a test can look for secrets in it.
"""

import json
import os
import pathlib
import socket
import subprocess
import urllib.error
import urllib.request

import pyarrow.fs

ROOT = pathlib.Path(__file__).resolve().parents[3]
BIN = pathlib.Path(os.environ["TRACELIFT_BIN"])

ROWS = 3000
DAYS = {"start_time": "2024-01-01T00:00:00Z", "end_time": "2024-01-04T00:00:00Z"}
ONE_DAY = {"start_time": "2024-01-02T00:00:00Z", "end_time": "2024-01-03T00:00:00Z"}
# So many partitions that an export of them is still under way when the next call comes.
YEAR = {"start_time": "2024-01-01T00:00:00Z", "end_time": "2025-01-01T00:00:00Z"}

EXPORTS = "/api/v1/bulk-exports"
DESTINATIONS = f"{EXPORTS}/destinations"


def free_port():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return taken.getsockname()[1]


class Stack:
    """Everything that `up` starts, and the environment that it wrote."""

    def __init__(self, folder, **environment):
        self.dir = folder / "up"
        self.said = []
        ports = ["--grpc-port", free_port(), "--rest-port", free_port(), "--clickhouse-port", 0, "--s3-port", 0]
        command = [BIN / "up", "--rows", ROWS, "--dir", self.dir, *ports]
        env = {**os.environ, **environment}
        self.process = subprocess.Popen([str(word) for word in command], stdout=subprocess.PIPE, text=True, env=env)
        for line in self.process.stdout:
            if line.startswith("Tracelift is up"):
                break
        else:
            raise RuntimeError(f"up has ended with {self.process.wait()}; its own words stand above")
        pairs = (line.removeprefix("export ").split("=", 1) for line in (self.dir / "env").read_text().splitlines() if line.startswith("export "))
        self.env = {name: value.strip("'") for name, value in pairs}

    def stop(self):
        self.process.terminate()
        self.process.stdout.read()
        return self.process.wait(60)

    # ---- REST --------------------------------------------------------------------------------------------------------

    def rest(self, method, path, body=None, key=None):
        """Status and JSON of one call. `body` is a value, or bytes to send as they are."""
        request = urllib.request.Request(self.env["TRACELIFT_URL"] + path, method=method)
        request.add_header("X-API-Key", key or self.env["TRACELIFT_API_KEY"])
        request.add_header("Content-Type", "application/json")
        if body is not None:
            request.data = body if isinstance(body, bytes) else json.dumps(body).encode()
        try:
            answer = urllib.request.urlopen(request, timeout=60)
        except urllib.error.HTTPError as error:
            answer = error
        with answer:
            text = answer.read().decode()
            self.said.append(f"{answer.headers}{text}")
            return answer.status, json.loads(text) if text else None

    def ok(self, method, path, body=None, **options):
        """The JSON of a call that succeeds."""
        status, answer = self.rest(method, path, body, **options)
        assert status == 200, answer
        return answer

    def destination_body(self, name="Bucket of the tests", prefix="tests", **config):
        return {
            "destination_type": "s3",
            "display_name": name,
            "config": {"bucket_name": self.env["DESTINATION_BUCKET"], "prefix": prefix, "endpoint_url": self.env["S3_ENDPOINT"], **config},
            "credentials": {"access_key_id": self.env["S3_ACCESS_KEY_ID"], "secret_access_key": self.env["S3_SECRET_ACCESS_KEY"]},
        }

    def export_body(self, destination_id, **fields):
        return {"bulk_export_destination_id": destination_id, "session_id": self.env["TRACELIFT_PROJECT_ID"], **DAYS, **fields}

    def exported(self, **fields):
        """A completed export of its own destination."""
        destination = self.ok("POST", DESTINATIONS, self.destination_body())
        export = self.ok("POST", EXPORTS, self.export_body(destination["id"], **fields))
        watched = self.command("export", "watch", export["id"])
        assert watched.returncode == 0, watched.stdout + watched.stderr
        return Exported(self, self.ok("GET", f"{EXPORTS}/{export['id']}"))

    # ---- the command -------------------------------------------------------------------------------------------------

    def command(self, *words, **environment):
        """`tracelift` with these words, run to its end."""
        env = {"PATH": os.environ["PATH"], **self.env, **environment}
        done = subprocess.run([BIN / "tracelift", *words], env=env, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=300)
        self.said.append(done.stdout + done.stderr)
        return done

    # ---- what lies behind --------------------------------------------------------------------------------------------

    def bucket(self):
        """The S3 server, through somebody else's client."""
        scheme, host = self.env["S3_ENDPOINT"].split("://")
        keys = {"access_key": self.env["S3_ACCESS_KEY_ID"], "secret_key": self.env["S3_SECRET_ACCESS_KEY"]}
        return pyarrow.fs.S3FileSystem(endpoint_override=host, scheme=scheme, region="us-east-1", **keys)

    def clickhouse(self, sql):
        """The rows of a query, each a list of values."""
        request = urllib.request.Request(f"{self.env['CLICKHOUSE_URL']}/?default_format=JSONCompact", data=sql.encode())
        try:
            with urllib.request.urlopen(request, timeout=300) as answer:
                text = answer.read().decode()
        except urllib.error.HTTPError as error:
            raise AssertionError(error.read().decode()) from None
        return json.loads(text)["data"] if text else []


class Exported:
    """A completed export and what it left in the bucket."""

    def __init__(self, stack, export):
        self.stack, self.export, self.id = stack, export, export["id"]
        self.bucket = stack.bucket()
        self.root = f"{stack.env['DESTINATION_BUCKET']}/tests"

    def runs(self):
        return self.stack.ok("GET", f"{EXPORTS}/{self.id}/runs")

    def below(self, folder):
        """Every object below a folder, bucket first."""
        found = self.bucket.get_file_info(pyarrow.fs.FileSelector(f"{self.root}/{folder}", recursive=True, allow_not_found=True))
        return sorted(info.path for info in found if info.is_file)

    def files(self):
        """Every data file, by partition."""
        return self.below(f"export_id={self.id}")

    def read(self, path):
        with self.bucket.open_input_file(path) as file:
            return file.read()

    def json(self, path):
        return json.loads(self.read(path))
