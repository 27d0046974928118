#!/usr/bin/env python3
"""The benchmark: Tracelift against what a user would do instead, on the same rows, the same S3 server, the same codec, in turns.

  inline     one exporter against ClickHouse's own writer and against a pyarrow pipeline (peers.py)
  offloaded  inputs and outputs in objects: objects a second, against a bare loop of GETs of the same objects
  growth     more rows: seconds and peak memory; several exporters; a day planned as one run and as several
  control_plane  many simulated exporters: assignments a second, and how soon slots and cancels are answered
  stages     the hot pure parts by criterion: filter to SQL, decoding pointers, filling in objects, encoding

Everything is started here on free ports and stopped in the end. Writes FOLDER/report.json and FOLDER/report.md (with charts).
"""

import argparse
import datetime
import importlib.metadata
import json
import os
import pathlib
import re
import shutil
import statistics
import subprocess
import sys
import time

from control_plane import on_postgres, on_sqlite
from installation import ROOT, ClickHouse, Installation, NoShare
from minio_server import Minio
from report import write

HERE = pathlib.Path(__file__).resolve().parent
RANGE = ("2024-01-01", "2024-01-04")
DAY = ("2024-01-02", "2024-01-03")
SIX_HOURS = [f"2024-01-0{day}T{hour:02}:00:00Z" for day in (1, 2, 3) for hour in (0, 6, 12, 18)] + ["2024-01-04T00:00:00Z"]
TARGET = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
QUARTERS = list(zip(SIX_HOURS, SIX_HOURS[1:]))


def said(text):
    print(f"[{time.strftime('%H:%M:%S')}] {text}", flush=True)


def settle():
    """Waits until the disk has written, and forgotten, what came before: no turn pays for the files of another."""
    os.sync()


class Bench:
    def __init__(self, options):
        self.options, self.folder = options, options.folder
        self.data = self.folder / "data"
        self.data.mkdir(parents=True, exist_ok=True)
        self.s3 = Minio(self.fresh("minio"))
        self.figures = {"machine": machine(), "options": {name: str(value) for name, value in vars(options).items()}, "ratios": {}}

    def fresh(self, name):
        shutil.rmtree(self.folder / name, ignore_errors=True)
        (self.folder / name).mkdir(parents=True)
        return self.folder / name

    def clickhouse(self, rows, offload):
        """A server over that data set, which is kept between calls of this program."""
        source = ClickHouse(self.fresh("clickhouse"), self.data / f"rows-{rows}-{offload}")
        source.load(rows, offload)
        return source

    # ---- rows inline -------------------------------------------------------------------------------------------------

    def inline(self):
        rows, rounds = self.options.rows, self.options.rounds
        said(f"{rows} rows inline, {rounds} rounds, in turns")
        source = self.clickhouse(rows, 0)
        ours = Installation(self.fresh("tracelift"), source, self.s3)
        turns = {"tracelift": [], "clickhouse": [], "pyarrow": []}
        for number in range(rounds):
            self.s3.empty()
            turns["tracelift"].append(self.ours(ours, source, fields=common_columns()))
            for peer in ("clickhouse", "pyarrow"):
                turns[peer].append(self.peer(peer, rows))
            said(f"  round {number + 1}: " + ", ".join(f"{name} {turn[-1]['wall_s']:.2f} s" for name, turn in turns.items()))
        ours.stop()
        source.process.stop()
        self.figures["inline"] = {"rows": rows, "turns": turns}
        for peer in ("clickhouse", "pyarrow"):
            self.figures["ratios"][peer] = round(median(turns[peer]) / median(turns["tracelift"]), 3)
        self.figures["ratios"]["size_to_clickhouse"] = round(turns["tracelift"][-1]["bytes"] / turns["clickhouse"][-1]["bytes"], 4)

    def ours(self, installation, source, windows=(RANGE,), fields=()):
        """Exports of those windows together: seconds from asked for to the last completed, CPU seconds of exporters and ClickHouse,
        peak memory, sizes, and what each run says of its stages."""
        settle()
        for exporter in installation.exporters:
            exporter.forget_peak()
        working = [*installation.exporters, source.process, self.s3.process]
        before = [process.cpu_seconds() for process in working]
        exports = installation.exports(windows, fields)
        *exporters, clickhouse, s3 = [process.cpu_seconds() - earlier for process, earlier in zip(working, before)]
        runs = [run for export in exports for run in installation.runs(export)]
        done, stages = [run["metadata"]["result"] for run in runs if run["metadata"]["result"]], [run["progress"]["stage_seconds"] for run in runs if run["progress"]]
        progress = [export["progress"] for export in exports]
        return {
            "wall_s": seconds(min(export["created_at"] for export in exports), max(export["finished_at"] for export in exports)),
            "cpu_s": sum(exporters) + clickhouse,
            "exporter_cpu_s": sum(exporters),
            "clickhouse_cpu_s": clickhouse,
            "s3_cpu_s": s3,
            "peak_bytes": max(exporter.peak_bytes() for exporter in installation.exporters),
            "rows": sum(told["rows_written"] for told in progress),
            "bytes": sum(told["bytes_written"] for told in progress),
            "files": sum(told["files_written"] for told in progress),
            "objects": sum(result["hydrated_objects"] for result in done),
            "misses": sum(result["hydration_misses"] for result in done),
            "stage_seconds": {stage: round(sum(run[stage] for run in stages), 3) for stage in stages[0]},
        }

    def peer(self, name, rows):
        settle()
        keys = ["--endpoint", self.s3.url, "--bucket", self.s3.bucket, "--access-key", self.s3.key, "--secret-key", self.s3.secret]
        words = [sys.executable, HERE / "peers.py", "--chdb", self.data / f"peers-{rows}", "--rows", rows, "--runs", 1, "--peer", name, *keys]
        done = subprocess.run([str(word) for word in words], capture_output=True, text=True)
        if done.returncode:
            raise RuntimeError(f"{name}: {done.stderr[-3000:]}")
        told = json.loads(done.stdout.splitlines()[-1])[name]
        return {"wall_s": told["wall_s"][0], "cpu_s": told["cpu_s"][0], "rows": rows, "bytes": self.s3.bytes_below(f"peer-{name}/")}

    # ---- rows offloaded ----------------------------------------------------------------------------------------------

    def offloaded(self):
        rows, rounds = self.options.offloaded_rows, self.options.rounds
        self.figures["offloaded"] = {}
        for mix in ("small", "mixed"):
            said(f"{rows} rows offloaded, {mix} objects, {rounds} rounds, in turns")
            self.s3.stop()
            self.s3 = Minio(self.fresh("minio"))
            source = self.clickhouse(rows, 1)
            objects = blobs(source, mix)
            self.loop("load", objects)
            ours = Installation(self.fresh("tracelift"), source, self.s3)
            turns = {"tracelift": [], "get_ceiling": []}
            for number in range(rounds):
                turn = self.ours(ours, source, fields=common_columns())
                if turn["objects"] != len(objects) or turn["misses"]:
                    raise RuntimeError(f"{turn['objects']} of {len(objects)} objects were filled in, {turn['misses']} missed")
                turns["tracelift"].append(turn)
                turns["get_ceiling"].append(self.loop("get", objects))
                said(f"  round {number + 1}: " + ", ".join(f"{name} {turn[-1]['objects'] / turn[-1]['wall_s']:.0f}/s" for name, turn in turns.items()))
            ours.stop()
            source.process.stop()
            self.figures["offloaded"][mix] = {"rows": rows, "objects": len(objects), "turns": turns}
            name = "get_ceiling" if mix == "small" else f"get_ceiling_{mix}"
            self.figures["ratios"][name] = round(median(turns["get_ceiling"]) / median(turns["tracelift"]), 3)

    def loop(self, what, objects):
        """The bare loop of requests, 64 in flight, over (key, size) pairs."""
        words = [pathlib.Path(os.environ["TRACELIFT_BIN"]) / "blob-loop", what, "--endpoint", self.s3.url, "--bucket", self.s3.bucket]
        words += ["--region", self.s3.region, "--in-flight", "64"]
        settle()
        env = {**os.environ, "S3_ACCESS_KEY_ID": self.s3.key, "S3_SECRET_ACCESS_KEY": self.s3.secret}
        lines = "".join(f"{key} {size}\n" for key, size in objects)
        before = os.times()
        done = subprocess.run([str(word) for word in words], input=lines, capture_output=True, text=True, env=env)
        if done.returncode:
            raise RuntimeError(f"blob-loop {what}: {done.stderr[-3000:]}")
        after = os.times()
        cpu = after.children_user + after.children_system - before.children_user - before.children_system
        return {**json.loads(done.stdout), "cpu_s": round(cpu, 2)}

    # ---- growth ------------------------------------------------------------------------------------------------------

    def growth(self):
        self.figures["growth"] = []
        for rows in self.options.growth:
            source = self.clickhouse(rows, 0)
            first = rows == self.options.growth[0]
            for exporters in (1, 2, 4) if first else (1,):
                self.grown(source, "three days", exporters, (RANGE,))
            if first:
                self.grown(source, "one day, one run", 1, (DAY,))
                self.grown(source, "one day, four runs", 1, [window for window in QUARTERS if window[0].startswith(DAY[0])])
                self.with_processors_to_spare(source)
            source.process.stop()
            if rows > self.options.rows:
                shutil.rmtree(self.data / f"rows-{rows}-0", ignore_errors=True)
        of_three_days = [turn for turn in self.figures["growth"] if turn["what"] == "three days"]
        least, most = of_three_days[0], of_three_days[-1]
        self.figures["ratios"]["time_of_most_to_least_rows"] = round(most["wall_s"] / least["wall_s"], 3)
        two = next(turn for turn in of_three_days if turn["exporters"] == 2)
        self.figures["ratios"]["two_exporters"] = round(least["wall_s"] / two["wall_s"], 3)

    def with_processors_to_spare(self, source):
        """What a second exporter brings where processors are not short: each may have a third of one."""
        try:
            one, two = (self.grown(source, "three days, twelve runs, a third of a processor each", count, QUARTERS, 1 / 3) for count in (1, 2))
        except NoShare as error:
            said(f"  two exporters with processors to spare were not measured: {error}")
            self.figures["ratios"]["two_exporters_with_processors_to_spare"] = f"not measured: {error}"
            return
        self.figures["ratios"]["two_exporters_with_processors_to_spare"] = round(one["wall_s"] / two["wall_s"], 3)

    def grown(self, source, what, exporters, windows, share=None):
        ours = Installation(self.fresh("tracelift"), source, self.s3, exporters=exporters)
        try:
            for exporter in ours.exporters if share else ():
                exporter.hold_to(share)
            turn = self.ours(ours, source, windows)
        finally:
            ours.stop()
        self.figures["growth"].append({"what": what, "exporters": exporters, **turn})
        said(f"{turn['rows']} rows, {what}, {exporters} exporters: {turn['wall_s']:.1f} s, peak {turn['peak_bytes'] >> 20} MiB")
        self.s3.empty()
        return turn

    # ---- the control plane -------------------------------------------------------------------------------------------

    def control_plane(self):
        exporters, runs = self.options.fleet, self.options.fleet_runs
        for name, measure in (("sqlite", on_sqlite), ("postgres", on_postgres)):
            said(f"{exporters} simulated exporters, {runs} runs, {name}")
            try:
                told = measure(self.fresh(f"control-plane-{name}"), self.s3, exporters, runs)
            except RuntimeError as error:
                said(f"  {error}")
                told = {"failed": str(error)}
            self.figures.setdefault("control_plane", {})[name] = told

    # ---- the hot pure parts ------------------------------------------------------------------------------------------

    def stages(self):
        said("micro-benchmarks")
        subprocess.run(["cargo", "bench", "--locked", "-p", "tracelift-bench", "--bench", "stages"], check=True, cwd=ROOT)
        # Where criterion leaves its figures: a folder a benchmark, nanoseconds for all of its elements.
        for told in sorted((TARGET / "criterion").glob("*/*/new/benchmark.json")):
            name = json.loads(told.read_text())
            nanoseconds = json.loads((told.parent / "estimates.json").read_text())["median"]["point_estimate"]
            elements = name["throughput"]["Elements"]
            self.figures.setdefault("stages", {})[name["group_id"]] = {
                "unit": name["function_id"], "elements": elements, "ms": round(nanoseconds / 1e6, 3), "per_s": round(elements / nanoseconds * 1e9),
            }

    def stop(self):
        self.s3.stop()


def blobs(source, mix):
    """Keys of the offloaded fields in the order of the rows, and sizes: 2 KB each; mixed with 1 % of 1 MB and 0.1 % of 8 MB."""
    found = []
    for number, (id_,) in enumerate(source.query("SELECT toString(id) FROM runs ORDER BY start_time, toString(id)")):
        for field in ("inputs", "outputs"):
            index = 2 * number + (field == "outputs")
            size = 2048 if mix == "small" else 8 << 20 if index % 1000 == 17 else 1 << 20 if index % 100 == 3 else 2048
            found.append((f"blobs/{id_}/{field}.json", size))
    return found


def common_columns():
    """The columns that every side writes, in the peers' order."""
    sql = re.search(r'COLUMNS = """(.*?)"""', (HERE / "peers.py").read_text(), re.S).group(1)
    split = re.split(r",\s*(?![^(]*\))", sql)
    return [column.rsplit(" ", 1)[-1].strip() for column in split]


def seconds(start, end):
    return (datetime.datetime.fromisoformat(end) - datetime.datetime.fromisoformat(start)).total_seconds()


def median(turns):
    return statistics.median(turn["wall_s"] for turn in turns)


def machine():
    model = re.search(r"model name\s*: (.*)", pathlib.Path("/proc/cpuinfo").read_text())
    memory = re.search(r"MemTotal:\s*(\d+)", pathlib.Path("/proc/meminfo").read_text())

    def said_by(*words):
        return subprocess.run([str(word) for word in words], cwd=ROOT, capture_output=True, text=True).stdout.strip()

    versions = {
        "commit": said_by("git", "rev-parse", "--short", "HEAD"),
        "rustc": said_by("rustc", "--version").split()[1],
        "chdb-core": importlib.metadata.version("chdb-core"),
        "pyarrow": importlib.metadata.version("pyarrow"),
        "MinIO": re.search(r"MINIO_VERSION := (\S+)", (ROOT / "Makefile").read_text()).group(1),
    }
    told = {"cpu": model and model.group(1), "cores": os.cpu_count(), "memory_gib": round(int(memory.group(1)) / 2**20, 1)}
    return {**told, "versions": versions}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", help="inline, offloaded, growth, control_plane, stages; all of them without a word")
    parser.add_argument("--folder", type=pathlib.Path, default=ROOT / "target/bench")
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--offloaded-rows", type=int, default=50_000)
    parser.add_argument("--growth", type=lambda text: [int(word) for word in text.split(",")], default=[1_000_000, 3_000_000, 10_000_000])
    parser.add_argument("--fleet", type=int, default=1000, help="simulated exporters")
    parser.add_argument("--fleet-runs", type=int, default=20_000)
    options = parser.parse_args()
    bench = Bench(options)
    try:
        for part in options.parts or ["inline", "offloaded", "growth", "control_plane", "stages"]:
            getattr(bench, part)()
    finally:
        bench.stop()
        write(bench.figures, options.folder)
    print(json.dumps(bench.figures["ratios"], indent=2))
    return 1 if any("failed" in told for told in bench.figures.get("control_plane", {}).values()) else 0


if __name__ == "__main__":
    sys.exit(main())
