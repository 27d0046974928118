"""The manifests say what is in the bucket, and the bucket holds what they say."""

import hashlib

import pyarrow
import pyarrow.compute
import pyarrow.parquet

from stack import DAYS, EXPORTS, ROWS, YEAR

TOTALS = ("files", "rows", "bytes", "hydration_misses", "undecided", "decided_against")
NOT_EXPORTED = {"undecided": 0, "decided_against": 0}
OVERSIZED = ("redshift_varchar", "snowflake_varchar_16_mib", "snowflake_varchar", "athena_row", "bigquery_row")


def total(parts, names=TOTALS):
    """What the parts of a manifest add up to."""
    oversized = {name: sum(part["oversized_values"][name] for part in parts) for name in OVERSIZED}
    return {**{name: sum(part[name] for part in parts) for name in names}, "oversized_values": oversized}


def when(text):
    """The API's time, as the manifests write it too."""
    return pyarrow.scalar(text).cast(pyarrow.timestamp("us", tz="UTC"))


def test_run_manifests_agree_with_the_files(completed):
    bucket, listed = completed.root.split("/", 1)[0], []
    for run in completed.runs():
        manifest = completed.json(f"{completed.root}/_manifests/export_id={completed.id}/run_id={run['id']}.json")
        assert (manifest["export_id"], manifest["run_id"]) == (completed.id, run["id"])
        assert (manifest["start_time"], manifest["end_time"]) == (run["start_time"], run["end_time"])
        for file in manifest["files"]:
            content = completed.read(f"{bucket}/{file['key']}")
            parquet = pyarrow.parquet.ParquetFile(pyarrow.BufferReader(content))
            assert file["bytes"] == len(content)
            assert file["sha256"] == hashlib.sha256(content).hexdigest()
            assert file["rows"] == parquet.metadata.num_rows
            assert manifest["columns"] == parquet.schema_arrow.names
            assert manifest["schema_hash"] == parquet.metadata.metadata[b"tracelift.schema_hash"].decode()
            times = pyarrow.compute.min_max(parquet.read(["start_time"])["start_time"])
            assert (when(file["min_start_time"]), when(file["max_start_time"])) == (times["min"], times["max"])
            assert (file["hydrated_objects"], file["hydration_misses"], file["misses"]) == (2 * file["rows"], 0, [])
            listed.append(f"{bucket}/{file['key']}")
        assert manifest["totals"] == {"files": len(manifest["files"]), **total(manifest["files"], TOTALS[1:4]), **NOT_EXPORTED}
    assert listed == completed.files(), "each file is listed once, and nothing else lies there"


def test_the_export_manifest_sums_its_runs_up(completed):
    folder = f"{completed.root}/_manifests/export_id={completed.id}"
    manifest = completed.json(f"{folder}/manifest.json")
    runs = completed.runs()
    assert [run["run_id"] for run in manifest["runs"]] == [run["id"] for run in runs]
    assert when(manifest["start_time"]) == when(DAYS["start_time"]) and when(manifest["end_time"]) == when(DAYS["end_time"])
    assert manifest["totals"] == total([run["totals"] for run in manifest["runs"]])
    assert manifest["totals"]["rows"] == ROWS == completed.export["progress"]["rows_written"]
    assert manifest["totals"]["bytes"] == completed.export["progress"]["bytes_written"]
    bucket = completed.root.split("/", 1)[0]
    assert all(file.startswith(f"{bucket}/{manifest['export_path']}/") for file in completed.files())
    for run in manifest["runs"]:
        assert completed.json(f"{bucket}/{run['manifest']}")["totals"] == run["totals"]


def test_success_lies_beside_the_manifests_and_only_parquet_in_the_data(completed):
    folder = f"{completed.root}/_manifests/export_id={completed.id}"
    runs = [f"{folder}/run_id={run['id']}.json" for run in completed.runs()]
    assert completed.below(f"_manifests/export_id={completed.id}") == sorted([f"{folder}/_SUCCESS", f"{folder}/manifest.json", *runs])
    assert completed.read(f"{folder}/_SUCCESS") == b""
    assert all(path.endswith(".parquet") for path in completed.files())


def test_the_destinations_check_leaves_nothing_behind(completed):
    assert completed.below("tmp") == []


def test_an_export_of_nothing_has_manifests_and_no_files(stack):
    empty = {"start_time": "2020-02-29T00:00:00Z", "end_time": "2020-02-29T12:00:00Z"}
    exported = stack.exported(**empty)
    assert exported.files() == []
    folder = f"{exported.root}/_manifests/export_id={exported.id}"
    assert exported.json(f"{folder}/manifest.json")["totals"] == total([])
    assert exported.read(f"{folder}/_SUCCESS") == b""
    (run,) = stack.ok("GET", f"{EXPORTS}/{exported.id}/runs")
    assert run["status"] == "Completed"
    assert (run["metadata"]["result"]["rows_written"], run["metadata"]["result"]["exported_files"]) == (0, [])


def test_a_cancelled_export_has_no_success(stack, completed):
    body = stack.export_body(completed.export["bulk_export_destination_id"], **YEAR)
    export = stack.ok("POST", EXPORTS, body)
    assert stack.ok("PATCH", f"{EXPORTS}/{export['id']}", {"status": "Cancelled"})["status"] == "Cancelled"
    assert stack.command("export", "watch", export["id"]).returncode == 3
    left = completed.below(f"_manifests/export_id={export['id']}")
    assert not [path for path in left if path.endswith(("_SUCCESS", "manifest.json"))]
