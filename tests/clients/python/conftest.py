"""One stack for all tests, and the gRPC stubs that a Python caller would generate."""

import sys

import pytest

from stack import ROOT, Stack

sys.path.insert(0, str(ROOT / "tests/demo"))


def pytest_collection_modifyitems(items):
    """The search for secrets comes last, so that it sees what everything else has left behind."""
    items.sort(key=lambda item: item.path.name == "test_secrets.py")


@pytest.fixture(scope="session")
def stack(tmp_path_factory):
    stack = Stack(tmp_path_factory.mktemp("stack"))
    yield stack
    assert stack.stop() == 0


@pytest.fixture(scope="session")
def completed(stack):
    """All rows, with every default."""
    return stack.exported()


@pytest.fixture(scope="session")
def grpc_api(stack, tmp_path_factory):
    """The control plane through stubs made from proto/ just now."""
    from callers import GrpcApi, generate

    sys.path.insert(0, str(generate(tmp_path_factory.mktemp("stubs"))))
    with GrpcApi(stack) as api:
        yield api
