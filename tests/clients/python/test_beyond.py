"""Schedules, and what LangSmith does not have: events, keys that repeat a request, filters, limits, runs asked for anew."""

import datetime
import json
import urllib.error
import urllib.request
import uuid

import pytest

from stack import DESTINATIONS, EXPORTS, ONE_DAY


@pytest.fixture(scope="module")
def destination(stack):
    return stack.ok("POST", DESTINATIONS, stack.destination_body("Beyond", "beyond"))


def events(stack, export_id):
    """The events of an export as they come: (name, number, data)."""
    request = urllib.request.Request(f"{stack.env['TRACELIFT_URL']}{EXPORTS}/{export_id}/events")
    request.add_header("X-API-Key", stack.env["TRACELIFT_API_KEY"])
    with urllib.request.urlopen(request, timeout=120) as answer:
        assert answer.headers["Content-Type"] == "text/event-stream"
        fields = {}
        for line in answer:
            name, _, value = line.decode().rstrip("\n").partition(": ")
            if name and not name.startswith(":"):
                fields[name] = value
            elif fields:
                yield fields["event"], int(fields["id"]), json.loads(fields["data"])
                fields = {}


def test_a_schedule_exports_each_window_that_is_over_once(stack, destination):
    start = datetime.datetime.now(datetime.UTC) - datetime.timedelta(hours=49)
    body = stack.export_body(destination["id"], start_time=start.isoformat(), interval_hours=24)
    del body["end_time"]
    schedule = stack.ok("POST", EXPORTS, body)
    assert (schedule["status"], schedule["interval_hours"], schedule["end_time"]) == ("IntervalScheduled", 24, None)

    for _, _, told in events(stack, schedule["id"]):  # it is told of each spawn
        assert (told["id"], told["status"]) == (schedule["id"], "IntervalScheduled")
        spawned = [export for export in stack.ok("GET", EXPORTS) if export["source_bulk_export_id"] == schedule["id"]]
        if spawned:
            break
    assert len(spawned) == 2
    spawned.sort(key=lambda export: export["start_time"])
    assert [export["interval_hours"] for export in spawned] == [None, None]
    assert spawned[0]["start_time"] == schedule["start_time"]
    assert spawned[0]["end_time"] == spawned[1]["start_time"]
    for export in spawned:
        assert stack.command("export", "watch", export["id"]).returncode == 0

    runs = stack.ok("GET", f"{EXPORTS}/runs?source_bulk_export_id={schedule['id']}")
    assert {run["bulk_export_id"] for run in runs} == {export["id"] for export in spawned}
    assert {run["status"] for run in runs} == {"Completed"}
    cancelled = stack.ok("PATCH", f"{EXPORTS}/{schedule['id']}", {})
    assert (cancelled["status"], cancelled["finished_at"] is None) == ("Cancelled", False)


def test_the_events_of_an_export_end_with_it(stack, destination):
    export = stack.ok("POST", EXPORTS, stack.export_body(destination["id"], **ONE_DAY))
    told = list(events(stack, export["id"]))
    assert [number for _, number, _ in told] == list(range(1, len(told) + 1))
    assert {name for name, _, _ in told} == {"export"}
    assert told[-1][2] == {**stack.ok("GET", f"{EXPORTS}/{export['id']}"), "reconciliation": told[-1][2]["reconciliation"],
                           "updated_at": told[-1][2]["updated_at"]}  # fmt: skip
    assert told[-1][2]["status"] == "Completed"


def test_a_client_that_comes_back_after_the_end_is_told_to_stay_away(stack, destination):
    export = stack.ok("POST", EXPORTS, stack.export_body(destination["id"], **ONE_DAY))
    *_, (_, number, _) = events(stack, export["id"])
    request = urllib.request.Request(f"{stack.env['TRACELIFT_URL']}{EXPORTS}/{export['id']}/events")
    request.add_header("X-API-Key", stack.env["TRACELIFT_API_KEY"])
    request.add_header("Last-Event-ID", str(number))
    with urllib.request.urlopen(request, timeout=60) as answer:
        assert (answer.status, answer.read()) == (204, b"")


@pytest.mark.parametrize("start", [1704067200, 1704067200000, "1704067200", "2024-01-01T00:00Z", "2024-01-01T01:00:00+0100", "2024-01-01 00:00"])
def test_times_and_paths_are_taken_as_the_original_takes_them(stack, destination, start):
    body = stack.export_body(destination["id"], start_time=start, end_time="2024-01-01T23:59:59.999999999Z")
    export = stack.ok("POST", f"{EXPORTS}/", body)
    assert export["start_time"] == "2024-01-01T00:00:00.000000+00:00"
    assert export["end_time"] == "2024-01-02T00:00:00.000000+00:00", "the last microsecond is in it"
    assert stack.ok("PATCH", f"{EXPORTS}/{export['id']}/", {})["id"] == export["id"]


def test_an_export_of_a_window_that_is_still_open_says_so(stack, destination):
    now = datetime.datetime.now(datetime.UTC)
    times = {"start_time": (now - datetime.timedelta(hours=1)).isoformat(), "end_time": (now + datetime.timedelta(hours=1)).isoformat()}
    export = stack.ok("POST", EXPORTS, stack.export_body(destination["id"], **times))
    assert stack.command("export", "watch", export["id"]).returncode == 0
    export = stack.ok("GET", f"{EXPORTS}/{export['id']}")
    assert (export["status"], export["window_open"], export["reconciliation"]) == ("Completed", True, None)
    assert now < datetime.datetime.fromisoformat(export["read_at"]) < now + datetime.timedelta(hours=1)
    assert "still open when it was read" in stack.command("export", "get", export["id"]).stdout


def post(stack, body, key):
    """Status and JSON of an export that is asked for under a key."""
    request = urllib.request.Request(stack.env["TRACELIFT_URL"] + EXPORTS, method="POST", data=json.dumps(body).encode())
    for name, value in [("X-API-Key", stack.env["TRACELIFT_API_KEY"]), ("Content-Type", "application/json"), ("Idempotency-Key", key)]:
        request.add_header(name, value)
    try:
        answer = urllib.request.urlopen(request, timeout=60)
    except urllib.error.HTTPError as error:
        answer = error
    with answer:
        return answer.status, json.loads(answer.read())


def test_a_repeated_request_makes_one_export(stack, destination):
    body, key = stack.export_body(destination["id"], **ONE_DAY), str(uuid.uuid4())
    first = post(stack, body, key)
    assert first[0] == 200
    assert stack.command("export", "watch", first[1]["id"]).returncode == 0
    assert post(stack, body, key) == first
    status, refused = post(stack, {**body, "compression": "gzip"}, key)
    assert status == 409
    assert "idempotency key" in refused["detail"]


def test_lists_are_filtered_and_limits_are_told(stack, destination):
    export = stack.ok("POST", EXPORTS, stack.export_body(destination["id"], **ONE_DAY))
    assert stack.command("export", "watch", export["id"]).returncode == 0
    listed = stack.ok("GET", f"{EXPORTS}?status=Completed&status=Failed&session_id={export['session_id']}")
    assert export["id"] in [one["id"] for one in listed]
    assert {one["status"] for one in listed} <= {"Completed", "Failed"}
    assert stack.ok("GET", f"{EXPORTS}?destination_id={uuid.uuid4()}") == []
    status, wrong = stack.rest("GET", f"{EXPORTS}?status=Done")
    assert (status, wrong["detail"][0]["loc"]) == (422, ["query", "status", 0])
    limits = stack.ok("GET", f"{EXPORTS}/limits")
    assert (limits["running_exports"]["limit"], limits["runs_per_export"]["limit"], limits["retries_per_run"]) == (15, 45, 20)


def test_only_a_run_that_failed_is_asked_for_anew(stack, destination):
    export = stack.ok("POST", EXPORTS, stack.export_body(destination["id"], **ONE_DAY))
    assert stack.command("export", "watch", export["id"]).returncode == 0
    (run,) = stack.ok("GET", f"{EXPORTS}/{export['id']}/runs")
    status, refused = stack.rest("POST", f"{EXPORTS}/{export['id']}/runs/{run['id']}/retry")
    assert (status, "only one that has Failed or TimedOut" in refused["detail"]) == (409, True)
    told = stack.command("runs", "retry", export["id"], run["id"])
    assert (told.returncode, "only one that has Failed or TimedOut" in told.stderr) == (1, True)
