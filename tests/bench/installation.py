"""Tracelift as an operator installs it, for the benchmark: the release programs over a ClickHouse and an S3 server that are given.

Owns: the processes, their CPU seconds and their peak memory. Never: what is measured or compared.
"""

import json
import os
import pathlib
import secrets
import socket
import subprocess
import sys
import time
import urllib.request

# Where control groups are, and how long a share of a processor is reckoned over.
GROUPS, PERIOD_US = pathlib.Path("/sys/fs/cgroup"), 20_000
ROOT = pathlib.Path(__file__).resolve().parents[2]
TENANT, PROJECT = "00000000-0000-0000-0000-000000000001", "00000000-0000-0000-0000-000000000002"


def free_port():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return taken.getsockname()[1]


def until(what, attempt, seconds=60):
    """The first answer of `attempt` that is not None and no OSError."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        try:
            if (answer := attempt()) is not None:
                return answer
        except OSError:
            pass
        time.sleep(0.02)
    raise TimeoutError(f"{what} did not come within {seconds} s")


class NoShare(Exception):
    """A process cannot be held to a share of a processor here."""


class Process:
    """A child with its log, its CPU seconds and its peak memory."""

    group = None

    def __init__(self, name, words, folder, **environment):
        self.name, self.log = name, folder / f"{name}.log"
        env = {"PATH": os.environ["PATH"], "HOME": str(folder), **environment}
        with open(self.log, "wb") as log:
            self.child = subprocess.Popen([str(word) for word in words], env=env, stdin=subprocess.DEVNULL, stdout=log, stderr=log)

    def listening(self, port):
        def attempt():
            if self.child.poll() is not None:
                raise RuntimeError(f"{self.name} has ended: {self.log.read_text()[-2000:]}")
            return socket.create_connection(("127.0.0.1", port), timeout=1).close() or True

        until(self.name, attempt)
        return self

    def cpu_seconds(self):
        fields = pathlib.Path(f"/proc/{self.child.pid}/stat").read_text().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def forget_peak(self):
        pathlib.Path(f"/proc/{self.child.pid}/clear_refs").write_text("5")

    def peak_bytes(self):
        status = pathlib.Path(f"/proc/{self.child.pid}/status").read_text()
        return int(next(line for line in status.splitlines() if line.startswith("VmHWM")).split()[1]) * 1024

    def hold_to(self, share):
        """That share of a processor and no more, by a control group, which needs root."""
        of_its_own = (GROUPS / "cpu").is_dir()  # version 1: a tree for processors alone
        self.group = GROUPS / ("cpu" if of_its_own else "") / f"tracelift-bench-{self.child.pid}"
        quota = int(share * PERIOD_US)
        limits = {"cpu.cfs_period_us": PERIOD_US, "cpu.cfs_quota_us": quota} if of_its_own else {"cpu.max": f"{quota} {PERIOD_US}"}
        try:
            self.group.mkdir()
            for name, value in {**limits, "cgroup.procs": self.child.pid}.items():
                (self.group / name).write_text(str(value))
        except OSError as error:
            raise NoShare(f"{self.name} cannot be held to a share of a processor: {error}") from error

    def stop(self):
        self.child.terminate()
        self.child.wait(60)
        if self.group and self.group.is_dir():
            self.group.rmdir()


class ClickHouse:
    """The embedded engine behind ClickHouse's HTTP interface, with the benchmark's rows."""

    def __init__(self, folder, data):
        port = free_port()
        words = [sys.executable, ROOT / "tests/support/clickhouse/server.py", "--path", data, "--port", port, "--die-with-parent"]
        self.url = f"http://127.0.0.1:{port}"
        self.process = Process("clickhouse", words, folder, PYTHONDONTWRITEBYTECODE="1").listening(port)

    def query(self, sql):
        request = urllib.request.Request(f"{self.url}/?default_format=JSONCompact", data=sql.encode())
        with urllib.request.urlopen(request, timeout=3600) as answer:
            text = answer.read().decode()
        return json.loads(text)["data"] if text else []

    def load(self, rows, offload):
        """The data set, once, and at rest: no turn pays for the merges of what was inserted before."""
        for statement in (ROOT / "deploy/clickhouse/schema.sql").read_text().split(";\n"):
            if statement.strip():
                self.query(statement)
        if self.query("SELECT count() FROM runs") != [[str(rows)]] and self.query("SELECT count() FROM runs") != [[rows]]:
            self.query("TRUNCATE TABLE runs")
            sql = (ROOT / "tests/bench/dataset.sql").read_text()
            for name, value in (("table", "runs"), ("rows", str(rows)), ("offload", str(offload))):
                sql = sql.replace("{%s}" % name, value)
            self.query(sql)
        until("the end of merges", lambda: self.merges() == 0 or None, seconds=900)

    def merges(self):
        """Merges that were under way within a second."""
        looks = []
        for _ in range(10):
            looks.append(int(self.query("SELECT count() FROM system.merges")[0][0]))
            time.sleep(0.1)
        return max(looks)


class Installation:
    """A control plane, on SQLite unless another database is given, and exporters; one workspace with one destination."""

    def __init__(self, folder, clickhouse, s3, exporters=1, database=None, **settings):
        self.folder, self.bin, self.s3 = folder, pathlib.Path(os.environ["TRACELIFT_BIN"]), s3
        folder.mkdir(parents=True, exist_ok=True)
        port, fleet, admin = free_port(), secrets.token_urlsafe(32), secrets.token_urlsafe(32)
        grpc, self.fleet = f"http://127.0.0.1:{port}", fleet
        common = {"TRACELIFT_FLEET_TOKEN": fleet, "TRACELIFT_ENDPOINTS_ALLOW": "127.0.0.1"}
        self.control_plane = Process(
            "control-plane", [self.bin / "tracelift-control-plane"], folder, **common, TRACELIFT_LISTEN=f"127.0.0.1:{port}",
            TRACELIFT_DATABASE=database or str(folder / "control-plane.db"), TRACELIFT_ADMIN_TOKEN=admin,
            TRACELIFT_MASTER_KEYS=f"bench:{subprocess.check_output(['openssl', 'rand', '-base64', '32'], text=True).strip()}",
        ).listening(port)  # fmt: skip
        self.exporters = [
            Process(
                f"exporter-{number}", [self.bin / "tracelift-exporter"], folder, **common, TRACELIFT_CONTROL_PLANE=grpc,
                TRACELIFT_EXPORTER_ID=f"exporter-{number}", CLICKHOUSE_URL=clickhouse.url, BLOB_ENDPOINT=s3.url, BLOB_BUCKET=s3.bucket,
                BLOB_REGION=s3.region, BLOB_ACCESS_KEY_ID=s3.key, BLOB_SECRET_ACCESS_KEY=s3.secret, **settings,
            )
            for number in range(exporters)
        ]  # fmt: skip
        self.env = {"TRACELIFT_GRPC": grpc, "TRACELIFT_ADMIN_TOKEN": admin, "S3_ACCESS_KEY_ID": s3.key, "S3_SECRET_ACCESS_KEY": s3.secret}
        _, self.destination = self.workspace(TENANT, "bench")

    def workspace(self, tenant, name):
        """A new workspace, which is the caller from now on: its key and its destination."""
        self.env["TRACELIFT_TENANT_ID"] = tenant
        self.command("tenant", "create", "--id", tenant, "--name", name)
        self.env["TRACELIFT_API_KEY"] = self.command("key", "create", "--name", name)["key"]
        place = ["--bucket", self.s3.bucket, "--prefix", "ours", "--region", self.s3.region, "--endpoint-url", self.s3.url]
        return self.env["TRACELIFT_API_KEY"], self.command("destination", "create", "--name", name, *place)["id"]

    def command(self, *words):
        done = subprocess.run([self.bin / "tracelift", "--json", *map(str, words)], env={**os.environ, **self.env}, capture_output=True, text=True)
        if done.returncode:
            raise RuntimeError(f"tracelift {' '.join(map(str, words))}: {done.stderr}")
        return json.loads(done.stdout)

    def exports(self, windows, fields=()):
        """Completed exports of the project, one a window, all asked for before the first is waited for."""
        chosen = [word for name in fields for word in ("--field", name)]
        words = ["--destination", self.destination, "--project", PROJECT, *chosen]
        made = [self.command("export", "create", *words, "--start", start, "--end", end) for start, end in windows]
        return [self.completed(export["id"]) for export in made]

    def completed(self, id_):
        watched = subprocess.run([self.bin / "tracelift", "export", "watch", id_], env={**os.environ, **self.env}, capture_output=True)
        export = self.command("export", "get", id_)
        if watched.returncode or export["status"] != "Completed":
            raise RuntimeError(f"the export is {export['status']}: {export.get('error')}")
        return export

    def runs(self, export):
        return self.command("export", "runs", export["id"])

    def stop(self):
        for process in [*self.exporters, self.control_plane]:
            process.stop()
