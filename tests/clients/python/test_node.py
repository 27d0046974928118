"""A caller in Node: tests/clients/node/caller.js, against the same stack."""

import json
import os
import subprocess

from stack import ROOT, ROWS


def test_a_node_caller_creates_watches_and_cancels(stack):
    env = {**os.environ, **stack.env, "NODE_PATH": os.environ["TRACELIFT_NODE_MODULES"]}
    caller = ["node", str(ROOT / "tests/clients/node/caller.js")]  # not skipped without Node: `make test` says how to get it
    done = subprocess.run(caller, env=env, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=300)
    stack.said.append(done.stdout + done.stderr)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == {
        "credentials_keys": ["access_key_id", "secret_access_key"],
        "completed": {"status": "EXPORT_STATUS_COMPLETED", "rows": ROWS, "runs": ["RUN_STATUS_COMPLETED"] * 3},
        "cancelled": "EXPORT_STATUS_CANCELLED",
        "wrong_key": "UNAUTHENTICATED",
    }
