"""docs/loading.md for the systems that run here: its own statements load an export of each format version, row for row as in the source."""

import io
import urllib.parse
import urllib.request

import polars
import pyarrow
import pyarrow.ipc
import pytest

from compare import bucket_reader
from loading import cost, statements
from stack import ROWS
from test_files import COLUMNS, COST, NUMBER, SCHEMA, TEXT, TIME

BOOL, DECIMAL = pyarrow.bool_(), pyarrow.decimal128(18, 12)
VERSIONS = ["v1", "v2_beta"]

# What each system calls the types of the columns.
TYPES = {
    "ClickHouse": {TEXT: "String", TIME: "DateTime64(6, 'UTC')", BOOL: "Bool", NUMBER: "Int64", COST: "Float64", DECIMAL: "Decimal(18, 12)"},
    "DuckDB": {TEXT: "VARCHAR", TIME: "TIMESTAMP WITH TIME ZONE", BOOL: "BOOLEAN", NUMBER: "BIGINT", COST: "DOUBLE", DECIMAL: "DECIMAL(18,12)"},
    "Spark": {TEXT: "string", TIME: "timestamp", BOOL: "boolean", NUMBER: "bigint", COST: "double", DECIMAL: "decimal(18,12)"},
    "pandas": {kind: f"{kind}[pyarrow]" for kind in (TEXT, TIME, BOOL, NUMBER, COST, DECIMAL)},
    "pyarrow": {kind: str(kind) for kind in (TEXT, TIME, BOOL, NUMBER, COST, DECIMAL)},
    "polars": {TEXT: "String", TIME: "Datetime(time_unit='us', time_zone='UTC')", BOOL: "Boolean", NUMBER: "Int64", COST: "Float64",
               DECIMAL: "Decimal(precision=18, scale=12)"},
}  # fmt: skip

# These are compared value by value. In the source an empty error is no error.
SOURCE = """
SELECT toString(id) AS id, toString(parent_run_id) AS parent_run_id, name, run_type, start_time, end_time, is_root,
       inputs, outputs, extra, nullIf(error, '') AS error, toInt64(total_tokens) AS total_tokens, total_cost
FROM truth"""
COMPARED = ["id", "parent_run_id", "name", "run_type", "start_time", "end_time", "is_root", "inputs", "outputs", "extra", "error", "total_tokens"]


@pytest.fixture(scope="module", params=VERSIONS)
def version(request):
    return request.param


@pytest.fixture(scope="module")
def exported(stack, completed, version):
    return completed if version == "v1" else stack.exported(format_version=version)


@pytest.fixture(scope="module")
def values(stack, exported):
    """What the guide tells its reader to fill in."""
    env = stack.env
    manifest = exported.json(f"{exported.root}/_manifests/export_id={exported.id}/manifest.json")
    return {
        "bucket": env["DESTINATION_BUCKET"],
        "export_path": manifest["export_path"],
        "region": "us-east-1",
        "endpoint": env["S3_ENDPOINT"],
        "key_id": env["S3_ACCESS_KEY_ID"],
        "secret": env["S3_SECRET_ACCESS_KEY"],
    }


@pytest.fixture(scope="module")
def source(stack):
    return arrow_of(stack, SOURCE)


def arrow_of(stack, sql):
    """The answer of the source's server to a query, as Arrow."""
    settings = urllib.parse.urlencode({"default_format": "ArrowStream", "output_format_arrow_compression_method": "none"})
    request = urllib.request.Request(f"{stack.env['CLICKHOUSE_URL']}/?{settings}", data=sql.encode())
    with urllib.request.urlopen(request, timeout=300) as answer:
        return pyarrow.ipc.open_stream(io.BytesIO(answer.read())).read_all()


def kind_of(version, kind):
    return DECIMAL if kind == COST and version == "v2_beta" else kind


def assert_same(system, version, rows, types, source):
    """Rows as in the source, types as promised: `rows` is Arrow, `types` what the system itself says of its columns."""
    nullable = lambda name, kind: f"Nullable({kind})" if system == "ClickHouse" and SCHEMA.field(name).nullable else kind
    expected = {name: nullable(name, TYPES[system][kind_of(version, kind)]) for name, kind, _ in COLUMNS}
    assert {name: types.get(name) for name in expected} == expected
    assert rows.num_rows == ROWS
    found, wanted = (part.sort_by("id") for part in (rows, source))
    for name in COMPARED:
        kind = SCHEMA.field(name).type
        assert found[name].cast(kind).to_pylist() == wanted[name].cast(kind).to_pylist(), name
    costs = wanted["total_cost"].to_pylist()
    if version == "v2_beta":
        assert found["total_cost"].cast(DECIMAL).to_pylist() == costs, "exact"
    else:
        assert found["total_cost"].to_pylist() == pytest.approx([float(each) for each in costs])


def traces(statement):
    """What the Python lines of the guide call `traces`."""
    names = {}
    exec(statement, names)  # noqa: S102: the lines of our own guide
    return names["traces"]


def test_clickhouse_loads_it_and_loads_it_again(stack, version, values, source):
    table, load = statements("clickhouse", **values, cost=cost("ClickHouse", version))
    try:
        for statement in (table, load, load):
            stack.clickhouse(statement)
        types = {row[0]: row[1] for row in stack.clickhouse("DESCRIBE TABLE traces")}
        assert list(types) == SCHEMA.names
        assert_same("ClickHouse", version, arrow_of(stack, "SELECT * FROM traces FINAL"), types, source)
    finally:
        stack.clickhouse("DROP TABLE IF EXISTS traces")


def test_duckdb_loads_it_and_loads_it_again(version, values, source):
    scheme, host = values["endpoint"].split("://")
    secret, load = statements("duckdb", **values, host=host, true_or_false=str(scheme == "https").lower())
    connection = bucket_reader(values["endpoint"], "none", "none")
    for statement in (secret, load, load):
        connection.execute(statement)
    types = {row[0]: row[1] for row in connection.execute("DESCRIBE traces").fetchall()}
    assert_same("DuckDB", version, connection.execute("SELECT * FROM traces").to_arrow_table(), types, source)
    one_day = connection.execute("SELECT count(*) FROM traces_new WHERE year = 2024 AND month = 1 AND day = 2").fetchone()
    assert one_day == (ROWS // 3,)


def test_pyarrow_reads_it(version, values, source):
    (statement,) = statements("pyarrow", **values)
    rows = traces(statement)
    assert rows.schema.names == [*SCHEMA.names, "year", "month", "day"]
    assert_same("pyarrow", version, rows, {field.name: str(field.type) for field in rows.schema}, source)


def test_pandas_reads_it(version, values, source):
    (statement,) = statements("pandas", **values)
    frame = traces(statement)
    assert sorted(set(frame["day"])) == [1, 2, 3]
    types = {name: str(kind) for name, kind in frame.dtypes.items()}
    assert_same("pandas", version, pyarrow.Table.from_pandas(frame[SCHEMA.names]), types, source)


def test_polars_scans_it(version, values, source, monkeypatch):
    monkeypatch.setenv("AWS_ALLOW_HTTP", "true")
    (statement,) = statements("polars", **values)
    frame = traces(statement)
    types = {name: str(kind) for name, kind in frame.collect_schema().items()}
    assert_same("polars", version, frame.collect().to_arrow(), types, source)
    assert frame.filter(polars.col("day") == 2).select(polars.len()).collect().item() == ROWS // 3


@pytest.fixture(scope="module")
def spark():
    """Ends the session that the guide's lines have started."""
    yield
    from pyspark.sql import SparkSession

    SparkSession.getActiveSession().stop()


@pytest.mark.spark
def test_spark_reads_it(spark, version, values, source, exported, tmp_path, monkeypatch):
    """From a copy in a folder: Spark's own access to S3 does not come with Spark."""
    monkeypatch.setenv("SPARK_LOCAL_IP", "127.0.0.1")
    for path in exported.files():
        copy = tmp_path / path
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_bytes(exported.read(path))
    (statement,) = statements("spark", **values)
    frame = traces(statement.replace("s3a://", f"file://{tmp_path}/"))
    assert frame.columns == [*SCHEMA.names, "year", "month", "day"]
    assert_same("Spark", version, frame.toArrow(), dict(frame.dtypes), source)
