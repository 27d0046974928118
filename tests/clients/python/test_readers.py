"""One export as four independent readers see it: all of them agree with the source."""

import json

import polars
import pyarrow.compute
import pyarrow.dataset
import pytest

from compare import bucket_reader, figures, table
from stack import ONE_DAY, ROWS


@pytest.fixture(scope="module")
def source(stack):
    """(rows, distinct ids, sum of tokens) in ClickHouse."""
    ((rows, ids, tokens),) = stack.clickhouse("SELECT count(), uniqExact(id), sum(total_tokens) FROM truth")
    assert int(rows) == int(ids) == ROWS
    return int(rows), int(ids), int(tokens)


def test_duckdb_sees_what_clickhouse_has_to_the_last_character(stack, completed):
    env = stack.env
    connection = bucket_reader(env["S3_ENDPOINT"], env["S3_ACCESS_KEY_ID"], env["S3_SECRET_ACCESS_KEY"])
    rows = figures(env["CLICKHOUSE_URL"], connection, f"s3://{completed.root}/export_id={completed.id}/**/*.parquet")
    assert len(rows) == 7
    assert all(a == b for _, a, b in rows), table(rows)


def test_pyarrow_reads_it_as_a_hive_dataset(completed, source):
    folder = f"{completed.root}/export_id={completed.id}"
    dataset = pyarrow.dataset.dataset(folder, filesystem=completed.bucket, format="parquet", partitioning="hive")
    rows = dataset.to_table(columns=["id", "total_tokens", "day"])
    found = rows.num_rows, pyarrow.compute.count_distinct(rows["id"]).as_py(), pyarrow.compute.sum(rows["total_tokens"]).as_py()
    assert found == source
    assert sorted(set(rows["day"].to_pylist())) == [1, 2, 3]
    one_day = dataset.count_rows(filter=pyarrow.dataset.field("day") == 2)
    assert one_day == ROWS // 3, "a filter on the partition reads that day's files"


def test_polars_scans_it(stack, completed, source):
    env = stack.env
    options = {
        "aws_endpoint_url": env["S3_ENDPOINT"],
        "aws_access_key_id": env["S3_ACCESS_KEY_ID"],
        "aws_secret_access_key": env["S3_SECRET_ACCESS_KEY"],
        "aws_region": "us-east-1",
        "aws_allow_http": "true",
    }
    files = f"s3://{completed.root}/export_id={completed.id}/**/*.parquet"
    rows = polars.scan_parquet(files, storage_options=options, hive_partitioning=True)
    found = rows.select(polars.len().alias("rows"), polars.col("id").n_unique().alias("ids"), polars.col("total_tokens").sum()).collect()
    assert found.row(0) == source


def test_clickhouse_reads_it_with_the_guides_query(stack, completed, source):
    env = stack.env
    url = f"{env['S3_ENDPOINT']}/{completed.root}/export_id={completed.id}/**"
    files = f"s3('{url}', '{env['S3_ACCESS_KEY_ID']}', '{env['S3_SECRET_ACCESS_KEY']}', 'Parquet')"
    ((rows, ids, tokens),) = stack.clickhouse(f"SELECT count(), count(DISTINCT id), sum(total_tokens) FROM {files}")
    assert (int(rows), int(ids), int(tokens)) == source


def test_feedback_is_json_to_whoever_reads_it(stack):
    project = "00000000-0000-0000-0000-000000000005"
    tenant = stack.env["TRACELIFT_TENANT_ID"]
    stack.clickhouse(f"""
        INSERT INTO runs (id, tenant_id, session_id, trace_id, start_time, modified_at)
        SELECT toUUID(concat('00000000-0000-0000-0000-00000000000', toString(number))), '{tenant}', '{project}', generateUUIDv4(),
               '2024-01-02 03:04:05', now64(6)
        FROM numbers(4)""")
    stack.clickhouse(f"""
        INSERT INTO feedbacks
            (id, run_id, session_id, tenant_id, start_time, created_at, modified_at, key, score, value, comment, correction)
        SELECT generateUUIDv4(), r.id, '{project}', '{tenant}', r.start_time, r.start_time + n, now64(6),
               concat('key-', toString(n)), n / 2,
               'a "good" one', 'line\\n\\\\ é', '{{"outputs": {{"a": [1]}}}}'
        FROM runs AS r ARRAY JOIN range(toUInt8(right(toString(r.id), 1))) AS n WHERE r.session_id = '{project}'""")
    stack.clickhouse(f"INSERT INTO feedbacks SELECT * REPLACE ('{project}' AS tenant_id) FROM feedbacks WHERE session_id = '{project}'")
    exported = stack.exported(session_id=project, export_fields=["feedbacks", "id"], **ONE_DAY)
    assert exported.export["export_fields"] == ["feedbacks", "id"]
    ours = f"session_id = '{project}' AND tenant_id = '{tenant}'"
    ((count, expected),) = stack.clickhouse(f"SELECT count(), sum(score) FROM feedbacks WHERE {ours}")
    env = stack.env
    duckdb = bucket_reader(env["S3_ENDPOINT"], env["S3_ACCESS_KEY_ID"], env["S3_SECRET_ACCESS_KEY"])
    files = f"read_parquet('s3://{exported.root}/export_id={exported.id}/**/*.parquet')"
    rows = duckdb.sql(f"SELECT feedbacks, id FROM {files} ORDER BY id").fetchall()
    assert len(rows) == 4
    lists = [json.loads(feedbacks) for feedbacks, _ in rows]
    assert all(said["run_id"] == id for (_, id), told in zip(rows, lists) for said in told)
    assert [[said["key"] for said in told] for told in lists] == [[f"key-{n}" for n in range(len(told))] for told in lists]
    assert sum(map(len, lists)) == int(count) > 0
    one = f"(SELECT unnest(from_json(feedbacks, '[\"JSON\"]')) AS said FROM {files})"
    texts = "min(said->>'value'), min(said->>'comment'), min(said->'correction'->'outputs'->'a'->>0)"
    assert duckdb.sql(f"SELECT sum((said->>'score')::DOUBLE), {texts} FROM {one}").fetchone() == (float(expected), 'a "good" one', "line\n\\ é", "1")
