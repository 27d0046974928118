"""No secret in any file, answer or command line; only the env file that `up` writes for its user holds them.

Runs last: it looks at what every other test has left behind, and first does by itself what touches each secret.
"""

import base64
import pathlib

import pytest

from stack import DESTINATIONS

pytestmark = pytest.mark.secrets


def processes(root):
    """A process and everything below it."""
    folder = pathlib.Path(f"/proc/{root}")
    children = [child for task in (folder / "task").iterdir() for child in (task / "children").read_text().split()]
    return [folder, *(below for child in children for below in processes(child))]


@pytest.fixture(scope="module")
def secrets(stack):
    """Name and value of every secret. The services' own are read where only their user may look: in their environment."""
    found = {name: stack.env[name] for name in ("S3_ACCESS_KEY_ID", "S3_SECRET_ACCESS_KEY", "TRACELIFT_API_KEY", "TRACELIFT_ADMIN_TOKEN")}
    for process in processes(stack.process.pid):
        environment = dict(pair.split("=", 1) for pair in (process / "environ").read_text().split("\0") if "=" in pair)
        if "TRACELIFT_MASTER_KEYS" in environment:
            found["master key"] = environment["TRACELIFT_MASTER_KEYS"].split(":")[1]
            found["TRACELIFT_FLEET_TOKEN"] = environment["TRACELIFT_FLEET_TOKEN"]
    assert len(found) == 6 and all(len(value) > 20 for value in found.values())
    return found


@pytest.fixture(scope="module", autouse=True)
def everything_was_done_once(stack, grpc_api):
    """Each door is used with each secret, rightly and wrongly."""
    exported = stack.exported()
    exported.runs()
    body = stack.destination_body()
    stack.rest("POST", DESTINATIONS, stack.destination_body(bucket_name="there-is-no-such-bucket"))
    stack.rest("POST", DESTINATIONS, {**body, "credentials": {**body["credentials"], "session_token": "with space"}})
    stack.rest("POST", DESTINATIONS, {**body, "credentials": body["credentials"]["secret_access_key"]})
    stack.ok("PATCH", f"{DESTINATIONS}/{exported.export['bulk_export_destination_id']}", {"credentials": body["credentials"]})
    stack.rest("GET", DESTINATIONS, key=stack.env["TRACELIFT_ADMIN_TOKEN"])
    stack.command("export", "list", TRACELIFT_API_KEY=stack.env["TRACELIFT_ADMIN_TOKEN"])
    grpc_api.other_tenant("For the secrets")
    messages = grpc_api.admin_messages
    grpc_api.admin.ListApiKeys(messages.ListApiKeysRequest(tenant_id=stack.env["TRACELIFT_TENANT_ID"]))
    grpc_api.create_destination()


def forms(value):
    """A secret as it could be written: as it is, in base64 at each of the three offsets, in hex, decoded."""
    plain = value.encode()
    yield plain
    yield plain.hex().encode()
    for shift in range(3):
        text = base64.b64encode(b"\0" * shift + plain)
        yield text[4 if shift else 0 : len(text) - 4]  # what does not depend on its neighbours
    if value.endswith("=") and len(value) == 44:
        yield base64.b64decode(value)


def test_the_search_finds_what_it_looks_for(stack, secrets):
    env = (stack.dir / "env").read_bytes()
    for name, value in secrets.items():
        assert (value.encode() in env) == (name not in ("master key", "TRACELIFT_FLEET_TOKEN"))
        for before in (b"", b".", b".."):
            assert any(form in base64.b64encode(before + value.encode() + b"..") for form in forms(value)), name
    assert oct((stack.dir / "env").stat().st_mode & 0o777) == "0o600"


def test_no_file_but_the_env_file_holds_a_secret(stack, secrets):
    searched, found = 0, []
    for path in sorted(stack.dir.rglob("*")):
        if not path.is_file() or path == stack.dir / "env":
            continue
        content = path.read_bytes()
        searched += 1
        found += [f"{name} in {path.relative_to(stack.dir)}" for name, value in secrets.items() if any(form in content for form in forms(value))]
    assert found == []
    names = {path.relative_to(stack.dir).parts[0] for path in stack.dir.rglob("*") if path.is_file()}
    assert {"log", "s3", "clickhouse", "control-plane.db"} <= names and searched > 6000, "everything was searched"


def test_no_answer_holds_a_secret(stack, secrets):
    assert len(stack.said) > 8
    found = [(name, text) for text in stack.said for name, value in secrets.items() if value in text]
    assert found == []


def test_no_command_line_holds_a_secret(stack, secrets):
    lines = [(process / "cmdline").read_text() for process in processes(stack.process.pid)]
    assert len(lines) >= 5
    assert [line for line in lines if any(value in line for value in secrets.values())] == []
