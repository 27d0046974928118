"""PostgreSQL with its own settings, durable commits included: the other database of the control plane in the benchmark.

The server of the tests (tests/support/postgres) does not force what it writes to the disk, and so would be measured too fast.
"""

import os
import pathlib
import shutil
import subprocess
import tempfile

from installation import Process, free_port, until


class Postgres:
    def __init__(self, folder):
        found = pathlib.Path("/usr/lib/postgresql").glob("*/bin/initdb")
        programs = max((path.parent for path in found), key=lambda path: int(path.parent.name), default=None)
        if programs is None:
            raise SystemExit("PostgreSQL is not installed: run `scripts/needs.sh postgres` (Debian: apt-get install postgresql)")
        self.folder, port = pathlib.Path(tempfile.mkdtemp(prefix="tracelift-bench-postgres-")), free_port()
        user = []
        if os.geteuid() == 0:  # which the server refuses
            shutil.chown(self.folder, "postgres", "postgres")
            user = ["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups"]
        made = ["--username=postgres", "--auth=trust", "--encoding=UTF8", "--locale=C.UTF-8", "--pgdata", self.folder / "data"]
        subprocess.run([*user, programs / "initdb", *made], check=True, stdout=subprocess.DEVNULL, cwd=self.folder)
        words = [*user, programs / "postgres", "-D", self.folder / "data", "-p", port, "-k", "", "-c", "listen_addresses=127.0.0.1"]
        self.process = Process("postgres", words, folder)
        ready = [programs / "pg_isready", "--quiet", "--host=127.0.0.1", f"--port={port}"]
        until("PostgreSQL", lambda: subprocess.run(ready).returncode == 0 or None)
        self.url = f"postgres://postgres@127.0.0.1:{port}/postgres"

    def cpu_seconds(self):
        """Of the server and all its processes, those that have ended included."""
        stats = [stat(pid) for pid in pathlib.Path("/proc").glob("[0-9]*")]
        mine = [fields for pid, fields in stats if pid == self.process.child.pid]
        children = [fields for _, fields in stats if fields and int(fields[1]) == self.process.child.pid]
        ticks = sum(int(tick) for fields in mine for tick in fields[11:15]) + sum(int(tick) for fields in children for tick in fields[11:13])
        return ticks / os.sysconf("SC_CLK_TCK")

    def stop(self):
        self.process.stop()
        shutil.rmtree(self.folder)


def stat(folder):
    """A process and what is told of it, from its state on; nothing when it has just gone."""
    try:
        return int(folder.name), (folder / "stat").read_text().rsplit(")", 1)[1].split()
    except OSError:
        return int(folder.name), []
