"""The control plane with a simulated fleet (src/fleet), on SQLite and on PostgreSQL: figures of each phase, with the CPU seconds that it took."""

import json
import os
import subprocess
import uuid

from installation import Installation
from postgres import Postgres

# Each may have 15 exports worked on at once (TRACELIFT_MAX_RUNNING_EXPORTS): together more than the fleet has slots.
WORKSPACES = 100


def on_sqlite(folder, s3, exporters, runs):
    """Figures by phase."""
    return measured(folder, s3, exporters, runs, None)


def on_postgres(folder, s3, exporters, runs):
    server = Postgres(folder)
    try:
        return measured(folder, s3, exporters, runs, server)
    finally:
        server.stop()


def measured(folder, s3, exporters, runs, server):
    ours = Installation(folder, None, s3, exporters=0, database=server and server.url)
    try:
        callers = [ours.workspace(str(uuid.UUID(int=1000 + number)), f"caller {number}") for number in range(WORKSPACES)]
        ours.control_plane.forget_peak()
        figures = phases(ours, exporters, runs, callers, server)
        figures["peak_bytes"] = ours.control_plane.peak_bytes()
        return figures
    finally:
        ours.stop()


def phases(ours, exporters, runs, callers, server):
    """Reads a phase a line, and looks at the processes as each one ends."""
    words = [ours.bin / "fleet", "--exporters", str(exporters), "--runs", str(runs)]
    env = {**os.environ, "TRACELIFT_GRPC": ours.env["TRACELIFT_GRPC"], "TRACELIFT_FLEET_TOKEN": ours.fleet}
    with open(ours.folder / "fleet.log", "w") as log:
        fleet = subprocess.Popen(words, env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, text=True)
    fleet.stdin.write("".join(f"{key} {destination}\n" for key, destination in callers))
    fleet.stdin.close()
    figures, before = {}, cpu(ours, server)
    for line in fleet.stdout:
        after = cpu(ours, server)
        ((phase, told),) = json.loads(line).items()
        print(f"  {line.strip()}", flush=True)
        figures[phase] = {**told, **{name: round(after[name] - before[name], 2) for name in after}}
        before = after
    if fleet.wait():
        raise RuntimeError(f"fleet: {(ours.folder / 'fleet.log').read_text()[-3000:]}")
    return figures


def cpu(ours, server):
    return {"cpu_s": ours.control_plane.cpu_seconds(), **({"database_cpu_s": server.cpu_seconds()} if server else {})}
