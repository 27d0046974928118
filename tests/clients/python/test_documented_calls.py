"""The lines of docs/api.md under "Try the API", as they stand there, one after another in one shell."""

import json
import os
import re
import subprocess

import pytest

from stack import BIN, ROOT

SECTION = "## Try the API"
# Says the status of each call on stderr, so that what the lines pass on to each other stays as it is.
CURLRC = r'write-out = "%{stderr}HTTP %{http_code} %{method}\n"' + "\nsilent\nshow-error\n"
CALLS = [
    "HTTP 200 POST",  # the destination
    "HTTP 200 POST",  # the export
    "HTTP 200 GET",  # its status
    "HTTP 200 GET",  # its runs
    "HTTP 200 GET",  # all exports
    "HTTP 200 POST",  # one to stop
    "HTTP 200 PATCH",  # stopped
]


def blocks():
    text = (ROOT / "docs/api.md").read_text()
    section = text[text.index(f"\n{SECTION}\n") :].split("\n## ", 2)[1]
    return re.findall(r"^```bash\n(.*?)^```$", section, re.DOTALL | re.MULTILINE)


@pytest.fixture(scope="module")
def run(stack, tmp_path_factory):
    """What the lines print: (stdout of each block, every line of stderr)."""
    folder = tmp_path_factory.mktemp("documented-calls")
    (folder / ".curlrc").write_text(CURLRC)
    script = f". '{stack.dir}/env'\n" + "".join(f"printf '\\x1e'\n{block}\n" for block in blocks())
    env = {"PATH": f"{BIN}:{os.environ['PATH']}", "HOME": str(folder), "CURL_HOME": str(folder)}
    shell = ["bash", "-euo", "pipefail"]
    done = subprocess.run(shell, input=script, env=env, cwd=folder, capture_output=True, text=True, timeout=300)
    stack.said.append(done.stdout + done.stderr)
    assert done.returncode == 0, done.stderr
    return done.stdout.split("\x1e")[1:], done.stderr.splitlines()


def test_every_call_succeeds(run):
    _, errors = run
    assert [line for line in errors if line.startswith("HTTP ")] == CALLS


def test_the_responses_are_what_the_page_says(run):
    destination, export, watched, status, runs, exports, long, stopped = run[0]
    destination, export = json.loads(destination), json.loads(export)
    assert destination["credentials_keys"] == ["access_key_id", "secret_access_key"]
    assert (export["status"], export["bulk_export_destination_id"]) == ("Created", destination["id"])
    assert watched.splitlines()[-1].startswith("Completed")
    assert json.loads(status)["id"] == export["id"] and json.loads(status)["status"] == "Completed"
    assert [run["status"] for run in json.loads(runs)] == ["Completed"] * 3
    assert export["id"] in [found["id"] for found in json.loads(exports)]
    assert json.loads(stopped) | {"status": "Cancelled", "id": json.loads(long)["id"]} == json.loads(stopped)


def test_the_lines_are_those_of_the_guide():
    """Method, path and headers of LangSmith's guide; only host and ids are variables."""
    text = "\n".join(blocks())
    for line in ("--header 'Content-Type: application/json'", '--header "X-API-Key: $TRACELIFT_API_KEY"', '--header "X-Tenant-Id: $TRACELIFT_TENANT_ID"'):
        assert text.count(line) == len(CALLS)
    urls = re.findall(r'--request (\w+) \\\n--url "\$TRACELIFT_URL([^"]*)"', text)
    assert [f"{method} {url}" for method, url in urls] == [
        "POST /api/v1/bulk-exports/destinations",
        "POST /api/v1/bulk-exports",
        "GET /api/v1/bulk-exports/$EXPORT_ID",
        "GET /api/v1/bulk-exports/$EXPORT_ID/runs",
        "GET /api/v1/bulk-exports",
        "POST /api/v1/bulk-exports",
        "PATCH /api/v1/bulk-exports/$LONG_EXPORT_ID",
    ]
