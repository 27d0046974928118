"""The demo: three days of LLM traces travel from ClickHouse, with inputs and outputs pulled back out of S3, into Parquet.

Starts everything (the program `up`), creates a destination and an export through REST, shows the progress, reads the
result with DuckDB from the bucket and compares it with ClickHouse. Exits non-zero on any difference, and stops what it
started. Arguments go to `up`.
"""

import json
import os
import pathlib
import subprocess
import sys
import time
import urllib.error
import urllib.request

from compare import bucket_reader, figures, table

ROOT = pathlib.Path(__file__).resolve().parents[2]
BIN = pathlib.Path(os.environ["TRACELIFT_BIN"])


# Small files, so that one can watch them arrive: with the defaults a day of this size is a single file.
SMALL_FILES = {"TRACELIFT_FILE_BYTES": f"{4 << 20}", "TRACELIFT_ROW_GROUP_BYTES": f"{16 << 20}", "TRACELIFT_PART_BYTES": f"{5 << 20}"}


def start(arguments):
    """`up` as a child process, and the environment that it wrote."""
    up = subprocess.Popen([BIN / "up", *arguments], stdout=subprocess.PIPE, text=True, env={**SMALL_FILES, **os.environ})
    for line in up.stdout:
        if line.startswith("Tracelift is up"):
            break
        if line.strip():
            print(line, end="", flush=True)
    else:
        sys.exit(up.wait() or 1)
    env = (ROOT / "target/dev/env").read_text()
    pairs = (line.removeprefix("export ").split("=", 1) for line in env.splitlines() if line.startswith("export "))
    return up, {name: value.strip("'") for name, value in pairs}


def call(env, method, path, body=None):
    """One REST call; an error of the API ends the demo with its text."""
    request = urllib.request.Request(env["TRACELIFT_URL"] + path, method=method, data=body and json.dumps(body).encode())
    for name, value in (("X-API-Key", env["TRACELIFT_API_KEY"]), ("X-Tenant-Id", env["TRACELIFT_TENANT_ID"]), ("Content-Type", "application/json")):
        request.add_header(name, value)
    print(f"\n{method} {path}")
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            return json.load(answer)
    except urllib.error.HTTPError as error:
        sys.exit(f"error: {error.code} {error.read().decode()}")


def export(env):
    """A destination and an export of the three days, made through REST and watched to its end."""
    destination = call(env, "POST", "/api/v1/bulk-exports/destinations", {
        "destination_type": "s3",
        "display_name": "Demo bucket",
        "config": {"bucket_name": env["DESTINATION_BUCKET"], "prefix": "demo", "endpoint_url": env["S3_ENDPOINT"]},
        "credentials": {"access_key_id": env["S3_ACCESS_KEY_ID"], "secret_access_key": env["S3_SECRET_ACCESS_KEY"]},
    })
    print(f"  destination {destination['id']}, credentials kept: {', '.join(destination['credentials_keys'])}")
    export = call(env, "POST", "/api/v1/bulk-exports", {
        "bulk_export_destination_id": destination["id"],
        "session_id": env["TRACELIFT_PROJECT_ID"],
        "start_time": "2024-01-01T00:00:00Z",
        "end_time": "2024-01-04T00:00:00Z",
    })
    print(f"  export {export['id']}, {export['status']}\n", flush=True)
    watched = subprocess.run([BIN / "tracelift", "export", "watch", export["id"]], env={**os.environ, **env})
    if watched.returncode != 0:
        sys.exit("error: the export did not complete; the logs are in target/dev/log")
    for run in call(env, "GET", f"/api/v1/bulk-exports/{export['id']}/runs"):
        result = run["metadata"]["result"]
        print(f"  {run['start_time'][:10]}  {run['status']}  {result['rows_written']:>8} rows  {len(result['exported_files'])} file(s)")
    return export["id"]


def main():
    up, env = start(sys.argv[1:])
    try:
        began = time.monotonic()
        export_id = export(env)
        seconds = time.monotonic() - began
        connection = bucket_reader(env["S3_ENDPOINT"], env["S3_ACCESS_KEY_ID"], env["S3_SECRET_ACCESS_KEY"])
        rows = figures(env["CLICKHOUSE_URL"], connection, f"s3://{env['DESTINATION_BUCKET']}/demo/export_id={export_id}/**/*.parquet")
    finally:
        up.terminate()
        up.wait()
    print(f"\nThe export took {seconds:.1f} s. What is in the bucket, against ClickHouse:\n\n{table(rows)}\n")
    if any(a != b for _, a, b in rows):
        sys.exit("error: the export differs from its source")
    print("Everything is the same.")


if __name__ == "__main__":
    main()
