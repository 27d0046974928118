"""A Python caller of the gRPC API: stubs generated from proto/, and a channel that carries a key."""

import collections
import pathlib
import subprocess
import sys

import grpc

from stack import ROOT

PROTO = ROOT / "proto"
TIMEOUT = 120  # seconds after which a call that hangs fails its test


def generate(folder):
    """Stubs of every .proto file of the project, in that folder."""
    files = sorted(str(path.relative_to(PROTO)) for path in pathlib.Path(PROTO / "tracelift").rglob("*.proto"))
    command = [sys.executable, "-m", "grpc_tools.protoc", f"-I{PROTO}", f"--python_out={folder}", f"--grpc_python_out={folder}", *files]
    subprocess.run(command, check=True)
    return folder


class Call(collections.namedtuple("Call", "method timeout metadata credentials wait_for_ready compression"), grpc.ClientCallDetails):
    pass


class With(grpc.UnaryUnaryClientInterceptor, grpc.UnaryStreamClientInterceptor):
    """Puts metadata and a deadline on every call, and keeps what comes back."""

    def __init__(self, metadata, said):
        self.metadata, self.said = list(metadata), said

    def details(self, call):
        return Call(call.method, call.timeout or TIMEOUT, self.metadata, call.credentials, None, None)

    def intercept_unary_unary(self, proceed, call, request):
        answer = proceed(self.details(call), request)
        self.said.append(answer.details() or "" if answer.code() != grpc.StatusCode.OK else str(answer.result()))
        return answer

    def intercept_unary_stream(self, proceed, call, request):
        for message in proceed(self.details(call), request):
            self.said.append(str(message))
            yield message


class GrpcApi:
    """The services, each with the caller's key; the admin's with the operator's token."""

    def __init__(self, stack):
        from tracelift.v1 import admin_pb2, admin_pb2_grpc, destinations_pb2, destinations_pb2_grpc, exports_pb2, exports_pb2_grpc

        self.stack = stack
        self.admin_messages, self.destination_messages, self.export_messages = admin_pb2, destinations_pb2, exports_pb2
        self.stubs = [admin_pb2_grpc, destinations_pb2_grpc, exports_pb2_grpc]
        self.channel = grpc.insecure_channel(stack.env["TRACELIFT_GRPC"].removeprefix("http://"))
        self.admin = admin_pb2_grpc.AdminServiceStub(self.calling(("authorization", f"Bearer {stack.env['TRACELIFT_ADMIN_TOKEN']}")))
        self.destinations, self.exports = self.as_key(stack.env["TRACELIFT_API_KEY"])

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.channel.close()

    def calling(self, *metadata):
        return grpc.intercept_channel(self.channel, With(metadata, self.stack.said))

    def as_key(self, key):
        """The destination and the export service, called with that key."""
        _, destinations, exports = self.stubs
        channel = self.calling(("x-api-key", key))
        return destinations.DestinationServiceStub(channel), exports.ExportServiceStub(channel)

    def other_tenant(self, name):
        """A key of a new tenant."""
        messages = self.admin_messages
        tenant = self.admin.CreateTenant(messages.CreateTenantRequest(display_name=name)).tenant
        return self.admin.CreateApiKey(messages.CreateApiKeyRequest(tenant_id=tenant.id, display_name=name)).key

    def create_destination(self, **config):
        env, messages = self.stack.env, self.destination_messages
        bucket = {"bucket_name": env["DESTINATION_BUCKET"], "prefix": "tests", "endpoint_url": env["S3_ENDPOINT"], **config}
        credentials = {"access_key_id": env["S3_ACCESS_KEY_ID"], "secret_access_key": env["S3_SECRET_ACCESS_KEY"]}
        request = messages.CreateDestinationRequest(display_name="From Python", config=bucket, credentials=credentials)
        return self.destinations.CreateDestination(request).destination

    def create_export(self, destination_id, days):
        messages = self.export_messages
        spec = messages.ExportSpec(destination_id=destination_id, session_id=self.stack.env["TRACELIFT_PROJECT_ID"])
        spec.start_time.FromJsonString(days["start_time"])
        spec.end_time.FromJsonString(days["end_time"])
        return self.exports.CreateExport(messages.CreateExportRequest(spec=spec)).export
