"""The description of the REST API: valid, complete, and true of what is answered."""

import os
import subprocess
import sys

import pytest
from openapi_spec_validator import validate

from stack import DESTINATIONS, EXPORTS

ONE, RUNS = EXPORTS + "/{bulk_export_id}", EXPORTS + "/{bulk_export_id}/runs"
LANGSMITH = {
    (EXPORTS, "get"), (EXPORTS, "post"), (DESTINATIONS, "get"), (DESTINATIONS, "post"), (f"{EXPORTS}/runs", "get"), (ONE, "get"),
    (ONE, "patch"), (DESTINATIONS + "/{destination_id}", "get"), (DESTINATIONS + "/{destination_id}", "patch"), (RUNS, "get"),
    (RUNS + "/{run_id}", "get"),
}  # fmt: skip
BEYOND = {
    ("/api/v1/audit-logs", "get"),
    (DESTINATIONS + "/{destination_id}", "delete"), (ONE + "/events", "get"), (RUNS + "/{run_id}/retry", "post"), (f"{EXPORTS}/limits", "get"),
    ("/api/v1/runs/query/validate", "post"),
}  # fmt: skip


@pytest.fixture(scope="module")
def document(stack):
    return stack.ok("GET", "/openapi.json")


def test_it_is_valid_openapi_3_1(document):
    assert document["openapi"] == "3.1.0"
    validate(document)


def test_it_has_every_operation_and_no_other(document):
    assert {(path, method) for path, methods in document["paths"].items() for method in methods} == LANGSMITH | BEYOND


def test_its_words_are_those_of_the_contract(document):
    shapes = document["components"]["schemas"]
    words = lambda shape, field: shapes[shape]["properties"][field]["enum"]  # noqa: E731
    statuses = ["Created", "Running", "Completed", "Failed", "Cancelled", "TimedOut"]
    assert words("BulkExport", "status") == [*statuses, "IntervalScheduled"]
    assert words("BulkExportRun", "status") == statuses
    for shape in ["BulkExport", "BulkExportCreate"]:
        assert words(shape, "format") == ["Parquet"]
        assert words(shape, "format_version") == ["v1", "v2_beta"]
        assert words(shape, "compression") == ["none", "gzip", "snappy", "zstandard"]
    assert words("BulkExportUpdate", "status") == ["Cancelled"]
    assert words("BulkExportDestinationCreate", "destination_type") == ["s3"]
    assert shapes["BulkExportCreate"]["required"] == ["bulk_export_destination_id", "start_time"]
    assert shapes["BulkExportDestinationCreate"]["required"] == ["display_name", "config"]
    assert shapes["DestinationConfig"]["required"] == ["bucket_name"]


def test_every_described_field_of_an_answer_is_there(document, stack, completed):
    shapes = document["components"]["schemas"]
    export = completed.export
    assert set(export) == set(shapes["BulkExport"]["properties"])
    (run, *_) = stack.ok("GET", f"{EXPORTS}/{export['id']}/runs")
    assert set(run) == set(shapes["BulkExportRun"]["properties"])
    assert set(run["metadata"]) == set(shapes["RunMetadata"]["properties"])
    destination = stack.ok("GET", f"{DESTINATIONS}/{export['bulk_export_destination_id']}")
    assert set(destination) == set(shapes["BulkExportDestination"]["properties"])
    assert set(destination["config"]) == set(shapes["BucketConfig"]["properties"])


def test_what_callers_make_up_is_answered_as_described(stack, grpc_api, tmp_path):
    """Thousands of right and wrong requests: never a 5xx, never an undescribed status, type or shape."""
    key = grpc_api.other_tenant("Made up")
    checks = "not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance"
    url = stack.env["TRACELIFT_URL"]
    words = ["run", f"{url}/openapi.json", "--url", url, "--header", f"X-API-Key: {key}", "--checks", checks]
    words += ["--exclude-path-regex", "events", "--max-examples", "20", "--phases", "coverage,fuzzing", "--seed", "1", "--no-color"]
    program = os.path.join(os.path.dirname(sys.executable), "st")
    done = subprocess.run([program, *words], cwd=tmp_path, capture_output=True, text=True, timeout=300)
    stack.said.append(done.stdout)
    assert done.returncode == 0, done.stdout[-5000:] + done.stderr[-2000:]


def test_the_page_can_be_read_without_a_key(stack):
    import urllib.request

    with urllib.request.urlopen(stack.env["TRACELIFT_URL"] + "/docs", timeout=10) as page:
        text = page.read().decode()
    assert page.status == 200 and "BulkExportCreate" in text and "<script" not in text
