"""Destinations against MinIO, a real server with real rights: what the check of a bucket says, and what gets through.

It is installed by `make servers`. Where it is missing these tests fail instead of being skipped.
"""

import http.server
import json
import os
import re
import socket
import subprocess
import threading
import time
import urllib.error
import urllib.request

import pytest
from minio import Minio
from minio.credentials import StaticProvider
from minio.minioadmin import MinioAdmin

from stack import DESTINATIONS, EXPORTS, ONE_DAY, Stack, free_port

pytestmark = pytest.mark.minio

ROOT_KEYS = ("minio-root", "minio-root-secret")
REGION = "eu-central-1"
BUCKET = "archive"
FAILED = "Failed to validate S3 destination: "


def allow(*actions, bucket=BUCKET):
    objects, itself = [f"arn:aws:s3:::{bucket}/*"], [f"arn:aws:s3:::{bucket}"]
    on_bucket = {"s3:ListBucket", "s3:ListBucketMultipartUploads"}
    statement = [
        {"Effect": "Allow", "Action": [action], "Resource": itself if action in on_bucket else objects} for action in actions
    ]
    return {"Version": "2012-10-17", "Statement": statement}


EVERYTHING = allow("s3:*")
POLICIES = {
    "everything": EVERYTHING,
    "put-only": allow("s3:PutObject"),
    "no-put": allow("s3:GetObject", "s3:DeleteObject", "s3:ListBucket"),
    "no-delete": allow("s3:PutObject", "s3:GetObject", "s3:ListBucket"),
    "no-list": allow("s3:PutObject", "s3:GetObject", "s3:DeleteObject", "s3:AbortMultipartUpload"),
    "disabled": EVERYTHING,
}


class Server:
    """MinIO over a folder of its own, with a user for each policy."""

    def __init__(self, folder):
        program = os.environ.get("TRACELIFT_MINIO", "")
        assert os.path.isfile(program), "MinIO is not installed: run `make servers`, which needs Go"
        self.port = free_port()
        settings = {
            "MINIO_ROOT_USER": ROOT_KEYS[0],
            "MINIO_ROOT_PASSWORD": ROOT_KEYS[1],
            "MINIO_REGION": REGION,
            "MINIO_DOMAIN": "localhost",
            "MINIO_BROWSER": "off",
            "MINIO_UPDATE": "off",
            # A key management of its own, so that SSE-S3 and SSE-KMS are done and not only asked for.
            "MINIO_KMS_SECRET_KEY": "exports:" + "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=",
        }
        words = [program, "server", "--quiet", "--address", f"127.0.0.1:{self.port}", folder / "data"]
        env = {"PATH": os.environ["PATH"], "HOME": str(folder), **settings}
        with open(folder / "log", "wb") as log:
            self.process = subprocess.Popen(words, env=env, stdout=log, stderr=log)
        self.wait()
        self.client = Minio(f"127.0.0.1:{self.port}", *ROOT_KEYS, secure=False, region=REGION)
        self.client.make_bucket(BUCKET)
        self.client.make_bucket("locked", object_lock=True)
        admin = MinioAdmin(endpoint=f"127.0.0.1:{self.port}", credentials=StaticProvider(*ROOT_KEYS), secure=False, region=REGION)
        for name, policy in POLICIES.items():
            admin.policy_add(name, policy=policy)
            admin.user_add(name, f"{name}-secret")
            admin.attach_policy([name], user=name)
        admin.user_disable("disabled")
        self.admin = admin

    def wait(self):
        """Until it says that it can be used."""
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            assert self.process.poll() is None, "MinIO has ended"
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{self.port}/minio/health/cluster", timeout=5)
                return
            except OSError:
                time.sleep(0.1)
        raise TimeoutError("MinIO did not come up within 60 s")

    def url(self, host="127.0.0.1"):
        return f"http://{host}:{self.port}"

    def stop(self):
        self.process.terminate()
        self.process.wait(60)

    def destination(self, user="everything", secret=None, prefix="", bucket=BUCKET, host="127.0.0.1", **config):
        credentials = {"access_key_id": user, "secret_access_key": secret or f"{user}-secret"}
        config = {"bucket_name": bucket, "prefix": prefix, "region": REGION, "endpoint_url": self.url(host), **config}
        return {"display_name": "MinIO", "config": config, "credentials": credentials}

    def keys(self, prefix, bucket=BUCKET):
        return [found.object_name for found in self.client.list_objects(bucket, prefix, recursive=True)]


@pytest.fixture(scope="module")
def minio(tmp_path_factory):
    server = Server(tmp_path_factory.mktemp("minio"))
    yield server
    server.stop()


def refusal(stack, body):
    """The detail of a refused destination, of which nothing is kept."""
    before = stack.ok("GET", DESTINATIONS)
    status, answer = stack.rest("POST", DESTINATIONS, body)
    assert (status, stack.ok("GET", DESTINATIONS)) == (400, before), answer
    assert answer["detail"].startswith(FAILED), answer
    return answer["detail"].removeprefix(FAILED)


def completed(stack, destination_id, **fields):
    export = stack.ok("POST", EXPORTS, stack.export_body(destination_id, **{**ONE_DAY, **fields}))
    watched = stack.command("export", "watch", export["id"])
    assert watched.returncode == 0, watched.stdout + watched.stderr
    return stack.ok("GET", f"{EXPORTS}/{export['id']}")


@pytest.mark.parametrize("user", ["everything", "put-only", "no-delete", "no-list"])
def test_an_export_needs_no_right_but_put_object(stack, minio, user):
    destination = stack.ok("POST", DESTINATIONS, minio.destination(user, prefix=f"by/{user}"))
    export = completed(stack, destination["id"])
    keys = minio.keys(f"by/{user}/")
    assert sum(key.endswith(".parquet") for key in keys) == export["progress"]["files_written"] > 0
    assert any(key.endswith("/_SUCCESS") for key in keys)
    assert not minio.client._list_multipart_uploads(BUCKET).uploads


@pytest.mark.parametrize(
    ("text", "words", "body"),
    [
        ("Access denied", "AccessDenied", {"user": "no-put"}),
        ("Access denied", "SignatureDoesNotMatch", {"secret": "wrong-secret"}),
        ("Key ID you provided does not exist", "InvalidAccessKeyId", {"user": "nobody"}),
        ("Key ID you provided does not exist", "InvalidAccessKeyId", {"user": "disabled"}),
        ("Bucket is not valid", "AuthorizationHeaderMalformed", {"region": "us-west-2"}),
    ],
    ids=["without PutObject", "wrong secret", "unknown key", "disabled key", "wrong region"],
)
def test_the_check_says_what_is_wrong(stack, minio, text, words, body):
    detail = refusal(stack, minio.destination(**body))
    assert detail.startswith(f"{text}: ") and words in detail, detail
    assert "secret" not in detail.replace("secret key", ""), detail


def test_a_missing_bucket_is_named_to_one_who_may_know_it(stack, minio):
    detail = refusal(stack, minio.destination(*ROOT_KEYS, bucket="no-such-bucket"))
    assert detail.startswith("Bucket is not valid: ") and "NoSuchBucket" in detail, detail
    detail = refusal(stack, minio.destination(bucket="no-such-bucket"))
    assert detail.startswith("Access denied: "), detail  # MinIO does not tell others what there is


def test_a_wrong_region_is_named_as_such(stack, minio):
    assert "region" in refusal(stack, minio.destination(region="us-west-2"))


@pytest.mark.parametrize("style", ["virtual", "path", "auto"])
def test_every_addressing_style_is_honoured(stack, minio, style):
    body = minio.destination(prefix=f"style/{style}", host="localhost", config_kwargs_s3={"addressing_style": style})
    destination = stack.ok("POST", DESTINATIONS, body)
    completed(stack, destination["id"])
    assert any(key.endswith(".parquet") for key in minio.keys(f"style/{style}/"))


def test_a_bucket_that_stands_in_the_endpoint_already_is_not_put_there_twice(stack, minio):
    body = minio.destination(prefix="in-host", host=f"{BUCKET}.localhost", include_bucket_in_prefix=False)
    destination = stack.ok("POST", DESTINATIONS, body)
    export = completed(stack, destination["id"])
    runs = stack.ok("GET", f"{EXPORTS}/{export['id']}/runs")
    files = runs[0]["metadata"]["result"]["exported_files"]
    assert all(file.removeprefix(f"{BUCKET}/") in minio.keys("in-host/") for file in files), files


@pytest.mark.parametrize("signed", [True, False])
def test_the_body_is_signed_as_asked(stack, minio, signed):
    body = minio.destination(prefix=f"signed/{signed}", config_kwargs_s3={"payload_signing_enabled": signed})
    destination = stack.ok("POST", DESTINATIONS, body)
    assert destination["config"]["config_kwargs_s3"]["payload_signing_enabled"] is signed
    completed(stack, destination["id"])


@pytest.mark.parametrize(
    ("options", "header", "value"),
    [
        ({"ServerSideEncryption": "AES256"}, "x-amz-server-side-encryption", "AES256"),
        ({"ServerSideEncryption": "aws:kms", "SSEKMSKeyId": "exports"}, "x-amz-server-side-encryption", "aws:kms"),
        ({"StorageClass": "REDUCED_REDUNDANCY"}, "x-amz-storage-class", "REDUCED_REDUNDANCY"),
        ({"Tagging": "team=ml&kind=traces"}, "x-amz-tagging-count", "2"),
    ],
    ids=["SSE-S3", "SSE-KMS", "storage class", "tags"],
)
def test_options_of_a_write_reach_every_object(stack, minio, options, header, value):
    prefix = "options/" + "-".join(options)
    destination = stack.ok("POST", DESTINATIONS, minio.destination(prefix=prefix, s3_additional_kwargs=options))
    completed(stack, destination["id"])
    keys = minio.keys(prefix + "/")
    assert keys
    for key in keys:
        assert minio.client.stat_object(BUCKET, key).metadata.get(header) == value, key


def test_a_refused_option_is_told(stack, minio):
    detail = refusal(stack, minio.destination(s3_additional_kwargs={"ServerSideEncryption": "aws:kms", "SSEKMSKeyId": "nobodys-key"}))
    assert detail.startswith("Bucket is not valid: "), detail


def test_a_bucket_with_object_lock_takes_exports(stack, minio):
    """Every write must carry a checksum there."""
    destination = stack.ok("POST", DESTINATIONS, minio.destination(*ROOT_KEYS, prefix="kept", bucket="locked"))
    completed(stack, destination["id"])
    assert any(key.endswith(".parquet") for key in minio.keys("kept/", bucket="locked"))


def test_a_session_token_is_used_and_an_old_one_is_refused(stack, minio):
    """Temporary keys, as MinIO's security token service gives them, with less rights than their owner."""
    from minio.credentials import AssumeRoleProvider

    keys = AssumeRoleProvider(
        sts_endpoint=minio.url(),
        access_key="everything",
        secret_key="everything-secret",
        region=REGION,
        policy=json.dumps(POLICIES["put-only"]),
    ).retrieve()
    body = minio.destination(prefix="temporary")
    body["credentials"] = {"access_key_id": keys.access_key, "secret_access_key": keys.secret_key, "session_token": keys.session_token}
    destination = stack.ok("POST", DESTINATIONS, body)
    assert destination["credentials_keys"] == ["access_key_id", "secret_access_key", "session_token"]
    completed(stack, destination["id"])
    body["credentials"]["session_token"] = keys.session_token[:-6] + "AAAAAA"
    assert refusal(stack, body).startswith("Access denied: ")


def test_new_keys_are_checked_before_they_replace_the_old_ones(stack, minio):
    destination = stack.ok("POST", DESTINATIONS, minio.destination("put-only", prefix="rotated"))
    path = f"{DESTINATIONS}/{destination['id']}"
    status, answer = stack.rest("PATCH", path, {"credentials": {"access_key_id": "disabled", "secret_access_key": "disabled-secret"}})
    assert (status, answer["detail"].startswith(FAILED + "Key ID you provided does not exist")) == (400, True), answer
    completed(stack, destination["id"])
    changed = stack.ok("PATCH", path, {"credentials": {"access_key_id": "no-list", "secret_access_key": "no-list-secret"}})
    assert changed["updated_at"] > destination["updated_at"]
    minio.admin.user_disable("put-only")
    completed(stack, destination["id"])
    minio.admin.user_enable("put-only")


def test_a_destination_is_deleted_only_when_nothing_uses_it(stack, minio):
    destination = stack.ok("POST", DESTINATIONS, minio.destination(prefix="deleted"))
    path = f"{DESTINATIONS}/{destination['id']}"
    export = stack.ok("POST", EXPORTS, stack.export_body(destination["id"]))
    status, answer = stack.rest("DELETE", path)
    assert (status, export["id"] in answer["detail"]) == (409, True), answer
    assert stack.command("export", "watch", export["id"]).returncode == 0
    assert stack.rest("DELETE", path)[0] == 204
    assert stack.rest("DELETE", path)[0] == 404
    assert stack.rest("GET", path)[0] == 404
    assert stack.ok("GET", f"{EXPORTS}/{export['id']}")["bulk_export_destination_id"] == destination["id"]
    assert stack.ok("GET", f"{EXPORTS}/{export['id']}/runs")[0]["metadata"]["result"]["exported_files"]
    status, _ = stack.rest("POST", EXPORTS, stack.export_body(destination["id"]))
    assert status == 404


def test_a_store_that_is_no_s3_is_an_invalid_endpoint(stack):
    with socket.create_server(("127.0.0.1", 0)) as nobody:
        port = nobody.getsockname()[1]
    body = stack.destination_body(endpoint_url=f"http://127.0.0.1:{port}")
    assert refusal(stack, body).startswith("Invalid endpoint: ")


ROLE = "arn:aws:iam::123456789012:role/exports"


class TokenService(http.server.BaseHTTPRequestHandler):
    """MinIO's security token service, with the role's name in its answers, which MinIO leaves out and AWS never does."""

    minio = ""

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        request = urllib.request.Request(self.minio, data=body, headers=dict(self.headers), method="POST")
        try:
            answer = urllib.request.urlopen(request, timeout=30)
        except urllib.error.HTTPError as error:
            answer = error
        with answer:
            text = re.sub(rb"<Arn></Arn>|<Arn/>", b"<Arn>arn:aws:sts::123456789012:assumed-role/exports/tracelift</Arn>", answer.read())
        self.send_response(answer.status)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def log_message(self, *_):
        pass


@pytest.fixture(scope="module")
def tokens(minio):
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), type("Tokens", (TokenService,), {"minio": minio.url()}))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()


@pytest.fixture(scope="module")
def trusting(tokens, tmp_path_factory):
    """A stack with an identity of its own, whose operator allows roles and that identity itself; MinIO gives out the roles' keys."""
    own = {"AWS_ACCESS_KEY_ID": "everything", "AWS_SECRET_ACCESS_KEY": "everything-secret", "AWS_EC2_METADATA_DISABLED": "true"}
    allowed = {"TRACELIFT_ALLOW_ROLES": "true", "TRACELIFT_ALLOW_ENVIRONMENT_CREDENTIALS": "true"}
    stack = Stack(tmp_path_factory.mktemp("trusting"), **own, **allowed, AWS_ENDPOINT_URL_STS=tokens)
    yield stack
    assert stack.stop() == 0


@pytest.mark.parametrize("place", ["beside config", "in config"])
def test_a_role_is_assumed_instead_of_keys(trusting, minio, place):
    body = minio.destination(prefix=f"role/{place}")
    del body["credentials"]
    (body if place == "beside config" else body["config"])["aws_role_arn"] = ROLE
    destination = trusting.ok("POST", DESTINATIONS, body)
    assert (destination["credentials_keys"], destination["config"]["aws_role_arn"]) == ([], ROLE)
    completed(trusting, destination["id"])
    assert any(key.endswith("/_SUCCESS") for key in minio.keys(f"role/{place}/"))


def test_the_services_own_rights_are_used_where_that_is_allowed(trusting, minio):
    body = minio.destination(prefix="own")
    del body["credentials"]
    destination = trusting.ok("POST", DESTINATIONS, body)
    completed(trusting, destination["id"])
    changed = trusting.ok("PATCH", f"{DESTINATIONS}/{destination['id']}", {"aws_role_arn": ROLE})
    assert changed["config"]["aws_role_arn"] == ROLE
    completed(trusting, destination["id"])


def test_keys_and_a_role_do_not_go_together(trusting, minio):
    status, answer = trusting.rest("POST", DESTINATIONS, {**minio.destination(), "aws_role_arn": ROLE})
    assert (status, answer["detail"][0]["loc"]) == (422, ["body", "aws_role_arn"]), answer
