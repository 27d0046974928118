"""A caller in Python, with nothing of ours but the .proto files."""

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase

from callers import TIMEOUT
from stack import DAYS, ROWS, YEAR


@pytest.fixture(scope="module")
def destination(grpc_api):
    return grpc_api.create_destination()


def test_a_destination_is_created_read_and_listed_without_its_secrets(grpc_api, destination):
    messages = grpc_api.destination_messages
    assert destination.credentials_keys == ["access_key_id", "secret_access_key"]
    assert grpc_api.destinations.GetDestination(messages.GetDestinationRequest(id=destination.id)).destination == destination
    assert destination in grpc_api.destinations.ListDestinations(messages.ListDestinationsRequest()).destinations


def test_an_export_is_watched_until_it_has_completed(grpc_api, destination):
    messages = grpc_api.export_messages
    export = grpc_api.create_export(destination.id, DAYS)
    seen = [change.export for change in grpc_api.exports.WatchExport(messages.WatchExportRequest(id=export.id))]
    last = seen[-1]
    assert last.status == messages.EXPORT_STATUS_COMPLETED, last.error
    assert last.progress.rows_written == ROWS
    rows = [change.progress.rows_written for change in seen]
    assert rows == sorted(rows), "rows never go back"

    runs = grpc_api.exports.ListRuns(messages.ListRunsRequest(export_id=export.id)).runs
    assert [run.start_time.ToJsonString()[:10] for run in runs] == ["2024-01-01", "2024-01-02", "2024-01-03"]
    assert {run.status for run in runs} == {messages.RUN_STATUS_COMPLETED}
    assert sum(run.result.rows_written for run in runs) == ROWS
    assert sum(run.result.hydrated_objects for run in runs) == 2 * ROWS
    first = grpc_api.exports.GetRun(messages.GetRunRequest(export_id=export.id, run_id=runs[0].id)).run
    assert first == runs[0]


def test_an_export_is_cancelled_while_it_is_watched(grpc_api, destination):
    messages = grpc_api.export_messages
    export = grpc_api.create_export(destination.id, YEAR)
    watch = grpc_api.exports.WatchExport(messages.WatchExportRequest(id=export.id))
    assert next(watch).export.id == export.id
    cancelled = grpc_api.exports.CancelExport(messages.CancelExportRequest(id=export.id)).export
    assert cancelled.status == messages.EXPORT_STATUS_CANCELLED
    assert [change.export.status for change in watch][-1] == messages.EXPORT_STATUS_CANCELLED
    runs = grpc_api.exports.ListRuns(messages.ListRunsRequest(export_id=export.id)).runs
    ended = {messages.RUN_STATUS_CANCELLED, messages.RUN_STATUS_COMPLETED}
    assert messages.RUN_STATUS_CANCELLED in {run.status for run in runs} <= ended


def test_lists_come_in_pages(grpc_api, destination):
    messages = grpc_api.export_messages
    export = grpc_api.create_export(destination.id, DAYS)
    request = messages.ListRunsRequest(export_id=export.id, limit=1)
    days = []
    while True:
        page = grpc_api.exports.ListRuns(request)
        days += [run.start_time.ToJsonString()[:10] for run in page.runs]
        if not page.next_page_token:
            break
        request.page_token = page.next_page_token
    assert days == ["2024-01-01", "2024-01-02", "2024-01-03"]
    with pytest.raises(grpc.RpcError) as refused:
        grpc_api.exports.ListRuns(messages.ListRunsRequest(export_id=export.id, page_token="nonsense"))
    assert refused.value.code() == grpc.StatusCode.INVALID_ARGUMENT


def test_reflection_lists_the_services(grpc_api):
    services = set(ProtoReflectionDescriptorDatabase(grpc_api.channel).get_services())
    ours = {"tracelift.v1.AdminService", "tracelift.v1.DestinationService", "tracelift.v1.ExportService", "tracelift.fleet.v1.FleetService"}
    assert ours | {"grpc.health.v1.Health"} <= services


def test_reflection_describes_a_message_as_the_proto_files_do(grpc_api):
    described = ProtoReflectionDescriptorDatabase(grpc_api.channel).FindFileContainingSymbol("tracelift.v1.ExportSpec")
    spec = next(message for message in described.message_type if message.name == "ExportSpec")
    assert [field.name for field in spec.field] == [field.name for field in grpc_api.export_messages.ExportSpec.DESCRIPTOR.fields]


def test_health_is_serving(grpc_api):
    answer = health_pb2_grpc.HealthStub(grpc_api.channel).Check(health_pb2.HealthCheckRequest(), timeout=TIMEOUT)
    assert answer.status == health_pb2.HealthCheckResponse.SERVING


@pytest.mark.parametrize("key", ["tl_wrong", ""])
def test_a_wrong_or_missing_key_is_unauthenticated(grpc_api, key):
    _, exports = grpc_api.as_key(key)
    with pytest.raises(grpc.RpcError) as refused:
        exports.ListExports(grpc_api.export_messages.ListExportsRequest())
    assert refused.value.code() == grpc.StatusCode.UNAUTHENTICATED


def test_admin_calls_are_not_for_an_api_key(grpc_api):
    admin, *_ = grpc_api.stubs
    key = grpc_api.stack.env["TRACELIFT_API_KEY"]
    with pytest.raises(grpc.RpcError) as refused:
        admin.AdminServiceStub(grpc_api.calling(("authorization", f"Bearer {key}"))).ListTenants(grpc_api.admin_messages.ListTenantsRequest())
    assert refused.value.code() == grpc.StatusCode.PERMISSION_DENIED
