"""docs/loading.md for the systems that do not run here: their documented rules as data, held against the files and the guide's definitions.

The rules are written down from the systems' own pages on loading Parquet, data types and quotas. No such system is asked here: what the
pages leave open stays open.
"""

import collections
import pathlib
import re

import pyarrow.parquet
import pytest

from loading import TEXT, columns, cost, statements
from test_files import NAMES, SCHEMA, chunks, opened

STRING, TIMES = "String", "Timestamp(isAdjustedToUTC=true, timeUnit=microseconds)"

# What may stand in a table definition for (physical type, logical type) of Parquet. An entry that is missing cannot be loaded.
TYPES = {
    "BigQuery": {
        ("BYTE_ARRAY", STRING): {"STRING"},  # never JSON: that only loads from text formats
        ("INT64", TIMES): {"TIMESTAMP"},  # DATETIME where isAdjustedToUTC is false
        ("BOOLEAN", "None"): {"BOOL"},
        ("INT64", "None"): {"INT64"},
        ("DOUBLE", "None"): {"FLOAT64"},
    },
    "Snowflake": {
        ("BYTE_ARRAY", STRING): {"VARCHAR", "VARCHAR(134217728)"},
        ("INT64", TIMES): {"TIMESTAMP_LTZ(6)", "TIMESTAMP_TZ(6)"},  # with USE_LOGICAL_TYPE; a number without
        ("BOOLEAN", "None"): {"BOOLEAN"},
        ("INT64", "None"): {"NUMBER(38,0)"},
        ("DOUBLE", "None"): {"FLOAT"},
    },
    "Redshift": {
        ("BYTE_ARRAY", STRING): {"VARCHAR(36)", "VARCHAR(65535)"},
        ("INT64", TIMES): {"TIMESTAMP"},  # external tables and COPY of Parquet know no TIMESTAMPTZ
        ("BOOLEAN", "None"): {"BOOLEAN"},
        ("INT64", "None"): {"BIGINT"},
        ("DOUBLE", "None"): {"DOUBLE PRECISION"},
    },
    "Athena": {
        ("BYTE_ARRAY", STRING): {"string"},
        ("INT64", TIMES): {"timestamp"},
        ("BOOLEAN", "None"): {"boolean"},
        ("INT64", "None"): {"bigint"},
        ("DOUBLE", "None"): {"double"},
    },
}

# The narrowest exact type for decimals: (its name, most digits before the point, most digits behind it).
DECIMALS = {
    "BigQuery": [("NUMERIC", 29, 9), ("BIGNUMERIC", 38, 38)],
    "Snowflake": [("NUMBER({precision},{scale})", 38, 37)],
    "Redshift": [("DECIMAL({precision},{scale})", 38, 37)],
    "Athena": [("decimal({precision},{scale})", 38, 38)],
}

# Codecs that all four read in Parquet. Redshift's page names zstd for Parquet beside the file suffixes.
CODECS = {"UNCOMPRESSED", "GZIP", "SNAPPY", "ZSTD"}

# The guide's words for each limit, and the name by which manifests count what is over it.
LIMITS = [
    ("BigQuery", "100 MB a row", "bigquery_row"),
    ("Snowflake", "134 217 728 bytes a VARCHAR", "snowflake_varchar"),
    ("Snowflake", "16 777 216 bytes a VARCHAR", "snowflake_varchar_16_mib"),
    ("Redshift", "65 535 bytes a VARCHAR", "redshift_varchar"),
    ("Athena", "32 MB a row", "athena_row"),
]

Column = collections.namedtuple("Column", "name physical logical precision scale")
VERSIONS = ["v1", "v2_beta"]


@pytest.fixture(scope="module", params=VERSIONS)
def version(request):
    return request.param


@pytest.fixture(scope="module")
def exported(stack, completed, version):
    return completed if version == "v1" else stack.exported(format_version=version)


@pytest.fixture(scope="module")
def export_path(exported):
    return exported.json(f"{exported.root}/_manifests/export_id={exported.id}/manifest.json")["export_path"]


def schema(file):
    """The columns of a file as Parquet has them, without Arrow's own notes."""
    for index in range(len(file.schema)):
        column = file.schema.column(index)
        logical = re.sub(r", is_from_converted_type=.*|, force_set_converted_type=.*", ")", str(column.logical_type))
        assert (column.max_repetition_level, column.path) == (0, column.name), "nothing is nested"
        yield Column(column.name, column.physical_type, logical, column.precision, column.scale)


def allowed(system, column):
    """The types that a definition may give a column."""
    if column.logical.startswith("Decimal"):
        fits = [name for name, before, behind in DECIMALS[system] if column.precision - column.scale <= before and column.scale <= behind]
        return {fits[0].format(precision=column.precision, scale=column.scale)}
    return TYPES[system].get((column.physical, column.logical), set())


def definitions(system, version, **values):
    """Every definition of columns that the guide has for a system."""
    given = {"bucket": "b", "export_path": "p", "dataset": "d", "integration": "i", "role_arn": "r", **values}
    text = "\n".join(statements(system.lower(), cost=cost(system, version), **given))
    found = re.findall(r"^CREATE [\w ]*TABLE [\w. ]*\(\n.*?^\)", text, re.DOTALL | re.MULTILINE)
    assert found, text
    return [columns(definition) for definition in found]


@pytest.mark.parametrize("system", TYPES)
def test_every_definition_fits_the_files(system, version, exported):
    for path, file in opened(exported):
        for definition in definitions(system, version):
            assert [name for name, _, _ in definition] == [column.name for column in schema(file)] == NAMES, "in the files' order"
            for (name, declared, _), column in zip(definition, schema(file)):
                assert declared in allowed(system, column), f"{path}: {name} is {column}"


@pytest.mark.parametrize("system", TYPES)
def test_only_columns_that_are_never_null_are_declared_so(system, version):
    for definition in definitions(system, version):
        strict = [name for name, _, not_null in definition if not_null]
        assert strict in ([], [name for name in NAMES if not SCHEMA.field(name).nullable])


def test_numeric_would_lose_digits_of_a_cost():
    """Why the guide says BIGNUMERIC and decimal_target_types."""
    exact = Column("total_cost", "INT64", "Decimal(precision=18, scale=12)", 18, 12)
    assert allowed("BigQuery", exact) == {"BIGNUMERIC"}
    assert allowed("BigQuery", exact._replace(scale=9)) == {"NUMERIC"}
    assert TEXT.count("decimal_target_types = ['BIGNUMERIC']") == 2


def test_names_and_encodings_are_those_that_all_of_them_read(exported):
    schemas = set()
    for path, file in opened(exported):
        schemas.add(tuple(schema(file)))
        assert all(re.fullmatch(r"[a-z][a-z0-9_]{0,126}", name) for name in file.schema.names), "lower case: Hive, Athena and Redshift fold"
        assert {chunk.compression for chunk in chunks(file)} <= CODECS, path
        assert file.metadata.format_version == "1.0", "Redshift reads version 1 of the format"
        assert path.endswith(".parquet"), "Redshift takes other endings for codecs"
    assert len(schemas) == 1, "BigQuery wants one schema for all files of a wildcard, down to the positions"


def test_ids_fit_the_width_that_redshifts_table_gives_them(exported):
    (first, *_) = definitions("Redshift", "v1")
    narrow = [name for name, declared, _ in first if declared == "VARCHAR(36)"]
    assert narrow == ["id", "tenant_id", "session_id", "trace_id", "parent_run_id", "reference_example_id"]
    for _, file in opened(exported):
        rows = file.read(narrow)
        assert {len(value.encode()) for name in narrow for value in rows[name].to_pylist() if value is not None} == {36}


def test_athenas_template_leads_to_every_folder(version, exported, export_path):
    bucket = exported.stack.env["DESTINATION_BUCKET"]
    table, _ = statements("athena", bucket=bucket, export_path=export_path, cost=cost("Athena", version))
    properties = dict(re.findall(r"'([\w.]+)' = '([^']*)'", table))
    assert properties["projection.enabled"] == "true" and not [name for name in properties if name.endswith(".digits")]
    ranges = {}
    for key in ("year", "month", "day"):
        assert properties[f"projection.{key}.type"] == "integer" and re.search(rf"\b{key} int\b", table)
        first, last = properties[f"projection.{key}.range"].split(",")
        ranges[key] = range(int(first), int(last) + 1)
    template, folders = properties["storage.location.template"], set()
    for path in exported.files():
        keys = dict(part.split("=") for part in pathlib.PurePath(path).parts if part.startswith(("year=", "month=", "day=")))
        assert all(int(value) in ranges[key] for key, value in keys.items())
        folder = re.sub(r"\$\{(\w+)\}", lambda found: str(int(keys[found.group(1)])), template)
        assert f"s3://{pathlib.PurePath(path).parent}" == folder
        folders.add(folder)
    assert len(folders) == 3
    assert re.search(r"LOCATION '([^']+)/'", table).group(1) == f"s3://{bucket}/{export_path}"


def test_bigquerys_prefix_leaves_keys_that_are_no_columns(exported, export_path):
    bucket = exported.stack.env["DESTINATION_BUCKET"]
    external = statements("bigquery", bucket=bucket, export_path=export_path, dataset="d", cost="FLOAT64")[-1]
    prefix = re.search(r"hive_partition_uri_prefix = 'gs://([^']+)'", external).group(1)
    declared = re.findall(r"(\w+) INT64", external)
    for path in exported.files():
        *folders, _ = path.removeprefix(f"{prefix}/").split("/")
        assert [folder.split("=")[0] for folder in folders] == declared == ["year", "month", "day"]
        assert not set(declared) & set(NAMES)


def test_the_guide_names_each_limit_and_manifests_count_by_it(exported):
    for system, limit, name in LIMITS:
        assert re.search(rf"^\| {system} \| {re.escape(limit)}.* \| `{name}` \|$", TEXT, re.MULTILINE), system
    manifest = exported.json(f"{exported.root}/_manifests/export_id={exported.id}/manifest.json")
    assert manifest["totals"]["oversized_values"] == {name: 0 for _, _, name in LIMITS}


def test_values_over_a_limit_are_counted_in_file_run_and_export(stack):
    """Bytes count, not characters; what just fits is not counted."""
    project = "00000000-0000-0000-0000-000000000004"
    columns = "id, tenant_id, session_id, trace_id, start_time, modified_at, inputs, outputs, name"
    shared = f"generateUUIDv4(), '{stack.env['TRACELIFT_TENANT_ID']}', '{project}', generateUUIDv4()"
    for day, inputs, outputs in [(1, "repeat('x', 65535)", "repeat('x', 65536)"), (2, "repeat('é', 40000)", "repeat(repeat('y', 1000), 16778)")]:
        stack.clickhouse(f"""
            INSERT INTO runs ({columns})
            SELECT {shared}, '2024-01-0{day} 01:00:00', now64(6), {inputs}, {outputs}, 'large'""")
    exported = stack.exported(session_id=project)
    folder = f"{exported.root}/_manifests/export_id={exported.id}"
    counts = {name: 0 for _, _, name in LIMITS}
    expected = [{**counts, "redshift_varchar": 1}, {**counts, "redshift_varchar": 2, "snowflake_varchar_16_mib": 1}, counts]
    runs = [exported.json(f"{folder}/run_id={run['id']}.json") for run in exported.runs()]
    assert [run["totals"]["oversized_values"] for run in runs] == expected
    assert [file["oversized_values"] for run in runs for file in run["files"]] == expected[:2]
    total = exported.json(f"{folder}/manifest.json")["totals"]
    assert total["oversized_values"] == {**counts, "redshift_varchar": 3, "snowflake_varchar_16_mib": 1}
    assert total["rows"] == 2, "nothing is left out for its size"
