"""The `tracelift` command, on the real binaries."""

import json
import subprocess

import pytest

from stack import BIN, DAYS, ROWS, YEAR


def lines(done):
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def parsed(done):
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def flags(stack, destination, days):
    return ["--destination", destination["id"], "--project", stack.env["TRACELIFT_PROJECT_ID"],
            "--start", days["start_time"], "--end", days["end_time"]]


@pytest.fixture(scope="module")
def destination(stack):
    bucket = ["--bucket", stack.env["DESTINATION_BUCKET"], "--prefix", "tests", "--endpoint-url", stack.env["S3_ENDPOINT"]]
    return parsed(stack.command("--json", "destination", "create", "--name", "From the command", *bucket))


def test_a_destination_is_shown_and_listed(stack, destination):
    assert destination["credentials_keys"] == ["access_key_id", "secret_access_key"]
    shown = lines(stack.command("destination", "get", destination["id"]))
    assert f"id           {destination['id']}" in shown
    assert "credentials  access_key_id, secret_access_key" in shown
    header, *rows = lines(stack.command("destination", "list"))
    assert header.split() == ["ID", "NAME", "BUCKET", "PREFIX", "WHERE", "CREATED"]
    assert any(row.startswith(destination["id"]) for row in rows)
    assert destination in parsed(stack.command("--json", "destination", "list"))


def test_an_export_is_created_and_watched_in_plain_lines(stack, destination):
    done = stack.command("export", "create", *flags(stack, destination, DAYS), "--watch")
    created, *progress = lines(done)
    assert created.startswith("export ")
    assert progress[-1].startswith(f"Completed  {ROWS:,} rows  ")
    assert "  3 files  runs 3/3" in progress[-1]
    assert "\x1b" not in done.stdout + done.stderr and "\r" not in done.stdout + done.stderr, "no terminal, no bar"

    export_id = created.removeprefix("export ")
    header, *runs = lines(stack.command("export", "runs", export_id))
    assert header.split()[:3] == ["ID", "STATUS", "STAGE"]
    assert [run.split()[1] for run in runs] == ["Completed"] * 3
    shown = lines(stack.command("export", "get", export_id))
    assert "status       Completed" in shown and "runs         3 of 3" in shown
    assert export_id in stack.command("export", "list", "--limit", "5").stdout


def test_json_is_for_scripts(stack, destination):
    done = stack.command("--json", "export", "create", *flags(stack, destination, DAYS), "--watch")
    assert done.returncode == 0, done.stderr
    states = [json.loads(line) for line in done.stdout.splitlines()]
    assert states[-1]["status"] == "Completed"
    assert states[-1]["progress"]["rows_written"] == ROWS
    assert {state["id"] for state in states} == {states[-1]["id"]}
    assert parsed(stack.command("--json", "export", "get", states[-1]["id"]))["status"] == "Completed"
    runs = parsed(stack.command("--json", "export", "runs", states[-1]["id"]))
    assert sum(run["metadata"]["result"]["rows_written"] for run in runs) == ROWS
    # The names are those of REST: everything the command says is said by REST as well.
    rest = stack.ok("GET", f"/api/v1/bulk-exports/{states[-1]['id']}")
    assert states[-1].keys() <= rest.keys()


def test_a_watch_of_a_cancelled_export_ends_with_3(stack, destination):
    made = parsed(stack.command("--json", "export", "create", *flags(stack, destination, YEAR)))
    command = [BIN / "tracelift", "export", "watch", made["id"]]
    with subprocess.Popen(command, env=stack.env, stdout=subprocess.PIPE, text=True) as watch:
        assert watch.stdout.readline().split()[0] in ("Created", "Running")
        assert "status       Cancelled" in lines(stack.command("export", "cancel", made["id"]))
        assert watch.stdout.read().splitlines()[-1].startswith("Cancelled  ")
        assert watch.wait(60) == 3
    assert stack.command("export", "watch", made["id"]).returncode == 3, "and so does one that comes late"


def test_a_key_is_made_with_the_admin_token_and_works(stack):
    workspace = parsed(stack.command("--json", "tenant", "create", "--name", "Made by the command"))
    made = parsed(stack.command("--json", "--tenant", workspace["id"], "key", "create", "--name", "ci", "--permission", "read"))
    own = {"TRACELIFT_API_KEY": made["key"], "TRACELIFT_TENANT_ID": workspace["id"]}
    assert parsed(stack.command("--json", "export", "list", **own)) == []
    bucket = ["--bucket", stack.env["DESTINATION_BUCKET"], "--endpoint-url", stack.env["S3_ENDPOINT"]]
    refused = stack.command("destination", "create", "--name", "mine", *bucket, **own)
    assert refused.returncode == 1 and 'use a key with the permission "manage"' in refused.stderr
    without = stack.command("key", "create", "--name", "ci", TRACELIFT_ADMIN_TOKEN="wrong")
    assert without.returncode == 1 and "TRACELIFT_ADMIN_TOKEN" in without.stderr


def test_failures_go_to_stderr_and_say_what_to_do(stack, destination):
    wrong = stack.command("export", "list", TRACELIFT_API_KEY="tl_wrong")
    assert (wrong.returncode, wrong.stdout) == (1, "")
    assert "check TRACELIFT_API_KEY" in wrong.stderr
    away = stack.command("export", "list", TRACELIFT_GRPC="http://127.0.0.1:1")
    assert away.returncode == 1 and "cannot reach the control plane at http://127.0.0.1:1" in away.stderr
    backwards = {"start_time": DAYS["end_time"], "end_time": DAYS["start_time"]}
    refused = stack.command("export", "create", *flags(stack, destination, backwards))
    assert refused.returncode == 1 and "  end_time: " in refused.stderr
    assert stack.command("export", "create").returncode == 2, "wrong use"


def test_completions_are_accepted_by_bash(stack):
    completions = stack.command("completions", "bash")
    assert completions.returncode == 0
    subprocess.run(["bash", "-n"], input=completions.stdout, text=True, check=True)
