"""What bad input gets over REST from the real control plane: a status, words that say what to do, and nothing stored."""

import json

import pytest

from stack import DESTINATIONS, EXPORTS, YEAR, free_port

UNKNOWN = "0190d1a2-0000-7000-8000-000000000001"


@pytest.fixture(scope="module")
def destination(stack):
    return stack.ok("POST", DESTINATIONS, stack.destination_body())


@pytest.fixture(autouse=True)
def nothing_is_stored(stack, destination):
    """Whatever is refused leaves both lists as they were."""
    before = [(thing["id"], thing["updated_at"]) for path in (EXPORTS, DESTINATIONS) for thing in stack.ok("GET", path)]
    yield
    assert [(thing["id"], thing["updated_at"]) for path in (EXPORTS, DESTINATIONS) for thing in stack.ok("GET", path)] == before


def wrong_fields(stack, method, path, body):
    """(where, in which words) of every field that a 422 names."""
    status, answer = stack.rest(method, path, body)
    assert status == 422, answer
    assert all(sorted(field) == ["loc", "msg", "type"] for field in answer["detail"])
    return {".".join(map(str, field["loc"])): field["msg"] for field in answer["detail"]}


# ---- shape: the gateway refuses by itself ----------------------------------------------------------------------------


@pytest.mark.parametrize("path", [EXPORTS, DESTINATIONS])
def test_malformed_json_names_the_place(stack, path):
    status, answer = stack.rest("POST", path, b'{"a": 1,}')
    assert status == 422
    assert (answer["detail"][0]["loc"], answer["detail"][0]["type"]) == (["body", 8], "json_invalid")


def test_every_wrong_field_of_an_export_is_named(stack):
    body = {"bulk_export_destination_id": 7, "start_time": "yesterday", "end_time": "", "compression": "lz4", "export_fields": ["colour"]}
    found = wrong_fields(stack, "POST", EXPORTS, body)
    fields = ["bulk_export_destination_id", "session_id", "start_time", "end_time", "compression", "export_fields.0"]
    assert sorted(found) == sorted(f"body.{field}" for field in fields)


def test_every_wrong_field_of_a_destination_is_named(stack):
    body = {"display_name": "a/b", "config": {"bucket_name": "x", "endpoint_url": "ftp://x"}, "credentials": {"access_key_id": ""}}
    found = wrong_fields(stack, "POST", DESTINATIONS, body)
    fields = ["display_name", "config.bucket_name", "config.endpoint_url", "credentials.access_key_id", "credentials.secret_access_key"]
    assert sorted(found) == sorted(f"body.{field}" for field in fields)


def test_an_export_is_of_one_project_or_of_all_experiments(stack, destination):
    both = stack.export_body(destination["id"], all_experiments=True)
    assert wrong_fields(stack, "POST", EXPORTS, both) == {"body.session_id": "must not be given together with all_experiments"}
    neither = {**both, "session_id": None, "all_experiments": False}
    assert wrong_fields(stack, "POST", EXPORTS, neither) == {"body.session_id": "Field required"}


def test_a_wrong_filter_is_named_with_its_place(stack, destination):
    for filter, message in [("eq(name, ", "at character 10: expected a condition, a field or a value, found the end"),
                            ("search('a', 'b')", '"search" requires 1 arguments, got 2')]:
        body = stack.export_body(destination["id"], filter=filter)
        assert wrong_fields(stack, "POST", EXPORTS, body) == {"body.filter": message}
        status, answer = stack.rest("POST", "/api/v1/runs/query/validate", json.dumps({"filter": filter}).encode())
        assert (status, answer) == (200, {"valid": False, "errors": [{"field": "filter", "message": message}]})


def test_what_the_operator_does_not_allow_is_refused_by_name(stack):
    body = stack.destination_body()
    del body["credentials"]
    role = "arn:aws:iam::123456789012:role/exports"
    assert "does not allow roles" in wrong_fields(stack, "POST", DESTINATIONS, {**body, "aws_role_arn": role})["body.aws_role_arn"]
    assert "is required" in wrong_fields(stack, "POST", DESTINATIONS, body)["body.credentials"]


def test_a_body_over_1_mib_is_too_large(stack, destination):
    body = json.dumps(stack.export_body(destination["id"], padding="x" * (1 << 20))).encode()
    status, answer = stack.rest("POST", EXPORTS, body)
    assert (status, answer["detail"]) == (413, "The request's body is larger than 1048576 bytes")


# ---- content: the control plane refuses ------------------------------------------------------------------------------


def test_the_end_must_come_after_the_start(stack, destination):
    same = {"start_time": "2024-01-01T00:00:00Z", "end_time": "2024-01-01T00:00:00Z"}
    assert list(wrong_fields(stack, "POST", EXPORTS, stack.export_body(destination["id"], **same))) == ["body.end_time"]


def test_a_range_over_the_limit_names_end_time(stack, destination):
    longer = {**YEAR, "end_time": "2025-01-02T00:00:00Z"}
    found = wrong_fields(stack, "POST", EXPORTS, stack.export_body(destination["id"], **longer))
    assert list(found) == ["body.end_time"] and "366" in found["body.end_time"]


def test_a_schedule_from_long_ago_names_the_limit_and_what_to_do(stack, destination):
    body = stack.export_body(destination["id"], start_time="1970-01-01", interval_hours=1)
    del body["end_time"]
    (field, words), = wrong_fields(stack, "POST", EXPORTS, body).items()
    assert field == "body.start_time" and "at most 366 days back" in words and "end_time" in words


def test_an_unknown_destination_is_not_found(stack):
    status, answer = stack.rest("POST", EXPORTS, stack.export_body(UNKNOWN))
    assert (status, answer["detail"]) == (404, f"destination {UNKNOWN} does not exist")


@pytest.mark.parametrize("method, path", [
    ("GET", f"{EXPORTS}/{UNKNOWN}"), ("PATCH", f"{EXPORTS}/{UNKNOWN}"), ("GET", f"{EXPORTS}/{UNKNOWN}/runs"),
    ("GET", f"{EXPORTS}/{UNKNOWN}/runs/{UNKNOWN}"), ("GET", f"{EXPORTS}/runs?source_bulk_export_id={UNKNOWN}"),
    ("GET", f"{DESTINATIONS}/{UNKNOWN}"),
])  # fmt: skip
def test_an_unknown_id_is_not_found(stack, method, path):
    status, answer = stack.rest(method, path, {} if method == "PATCH" else None)
    assert status == 404 and answer["detail"].endswith("does not exist")


@pytest.mark.parametrize("path", [f"{EXPORTS}/nonsense", f"{DESTINATIONS}/nonsense", f"{EXPORTS}/{UNKNOWN}/runs/nonsense", f"{EXPORTS}?limit=0"])
def test_what_is_no_id_or_no_number_is_named(stack, path):
    status, answer = stack.rest("GET", path)
    assert status == 422 and answer["detail"][0]["loc"][0] in ("path", "query")


# ---- who asks --------------------------------------------------------------------------------------------------------


def test_another_tenants_ids_do_not_exist(stack, grpc_api, completed):
    other = grpc_api.other_tenant("Another workspace")
    destination_id = completed.export["bulk_export_destination_id"]
    run_id = completed.runs()[0]["id"]
    credentials = {"credentials": {"access_key_id": "theirs", "secret_access_key": "theirs"}}
    asked = [
        ("GET", f"{EXPORTS}/{completed.id}", None),
        ("PATCH", f"{EXPORTS}/{completed.id}", {"status": "Cancelled"}),
        ("GET", f"{EXPORTS}/{completed.id}/runs", None),
        ("GET", f"{EXPORTS}/{completed.id}/runs/{run_id}", None),
        ("GET", f"{EXPORTS}/runs?source_bulk_export_id={completed.id}", None),
        ("GET", f"{DESTINATIONS}/{destination_id}", None),
        ("PATCH", f"{DESTINATIONS}/{destination_id}", credentials),
        ("POST", EXPORTS, stack.export_body(destination_id)),
    ]
    answers = [(method, path, *stack.rest(method, path, body, key=other)) for method, path, body in asked]
    assert [answer for answer in answers if answer[2] != 404] == []
    assert stack.ok("GET", EXPORTS, key=other) == [] and stack.ok("GET", DESTINATIONS, key=other) == []
    assert stack.ok("GET", f"{EXPORTS}/{completed.id}")["status"] == "Completed", "its owner still sees it"


@pytest.mark.parametrize("key", ["tl_wrong", "x" * 4096])
def test_a_wrong_key_is_unauthorized(stack, key):
    status, answer = stack.rest("GET", EXPORTS, key=key)
    assert (status, answer["detail"]) == (401, "the API key is not valid")


# ---- what the bucket says --------------------------------------------------------------------------------------------


def refused(stack, method="POST", path=DESTINATIONS, body=None):
    """The words with which a destination is refused."""
    status, answer = stack.rest(method, path, body)
    assert status == 400, answer
    beginning = "Failed to validate S3 destination: "
    assert answer["detail"].startswith(beginning)
    return answer["detail"].removeprefix(beginning)


def test_a_missing_bucket_is_not_valid(stack):
    words = refused(stack, body=stack.destination_body(bucket_name="there-is-no-such-bucket"))
    assert words.startswith("Bucket is not valid: ") and "NoSuchBucket" in words


def test_a_wrong_secret_is_denied(stack):
    body = stack.destination_body()
    body["credentials"]["secret_access_key"] = "wrong"
    words = refused(stack, body=body)
    assert words.startswith("Access denied: ") and "SignatureDoesNotMatch" in words


def test_an_unknown_access_key_is_named_as_such_and_not_repeated(stack):
    body = stack.destination_body()
    body["credentials"]["access_key_id"] = "AKIDNOTKNOWN"
    words = refused(stack, body=body)
    assert words.startswith("Key ID you provided does not exist: ") and "AKIDNOTKNOWN" not in words


def test_an_endpoint_that_is_not_there_is_invalid(stack):
    words = refused(stack, body=stack.destination_body(endpoint_url=f"http://127.0.0.1:{free_port()}"))
    assert words.startswith("Invalid endpoint: ")


def test_an_endpoint_that_is_no_s3_is_invalid(stack):
    words = refused(stack, body=stack.destination_body(endpoint_url=stack.env["CLICKHOUSE_URL"]))
    assert words.startswith("Invalid endpoint: ")


def test_wrong_new_credentials_leave_the_old_ones_in_place(stack, destination):
    keys = {"access_key_id": stack.env["S3_ACCESS_KEY_ID"], "secret_access_key": "wrong"}
    words = refused(stack, "PATCH", f"{DESTINATIONS}/{destination['id']}", {"credentials": keys})
    assert words.startswith("Access denied: ")


def test_an_export_that_has_ended_stays_what_it_is(stack, completed):
    """As clients that cancel whatever they no longer want rely on; the command, whose user asked for one thing, says so."""
    assert stack.ok("PATCH", f"{EXPORTS}/{completed.id}", {"status": "Cancelled"})["status"] == "Completed"
    cancelled = stack.command("export", "cancel", completed.id)
    assert cancelled.returncode != 0 and f"export {completed.id} has ended already: Completed" in cancelled.stderr
