"""The Parquet files themselves: schema, order, encodings, metadata and layout, as pyarrow sees them."""

import pyarrow
import pyarrow.parquet
import pytest

from stack import ONE_DAY, ROWS

TEXT, TIME = pyarrow.string(), pyarrow.timestamp("us", tz="UTC")
NUMBER, COST = pyarrow.int64(), pyarrow.float64()

# The table of the data's description: name, type, whether it may be null.
COLUMNS = [
    ("id", TEXT, False), ("tenant_id", TEXT, False), ("session_id", TEXT, False), ("trace_id", TEXT, False),
    ("parent_run_id", TEXT, True), ("reference_example_id", TEXT, True),
    ("parent_run_ids", TEXT, True), ("tags", TEXT, True),
    ("name", TEXT, True), ("run_type", TEXT, True), ("status", TEXT, True), ("dotted_order", TEXT, True),
    ("start_time", TIME, False), ("end_time", TIME, True), ("first_token_time", TIME, True),
    ("is_root", pyarrow.bool_(), True), ("trace_tier", TEXT, True),
    ("inputs", TEXT, True), ("outputs", TEXT, True), ("extra", TEXT, True), ("feedback_stats", TEXT, True),
    ("error", TEXT, True), ("events", TEXT, True),
    ("prompt_tokens", NUMBER, True), ("completion_tokens", NUMBER, True), ("total_tokens", NUMBER, True),
    ("prompt_cost", COST, True), ("completion_cost", COST, True), ("total_cost", COST, True),
]  # fmt: skip
SCHEMA = pyarrow.schema([pyarrow.field(name, kind, nullable) for name, kind, nullable in COLUMNS])
NAMES = SCHEMA.names
WIDE = ["inputs", "outputs", "extra", "feedback_stats", "error", "events"]
INDEXED = ["id", "trace_id", "start_time"]


def opened(exported):
    """Every file of an export, with its path."""
    files = exported.files()
    assert files
    return [(path, pyarrow.parquet.ParquetFile(pyarrow.BufferReader(exported.read(path)))) for path in files]


def chunks(file):
    """Every column chunk of a file."""
    metadata = file.metadata
    return [metadata.row_group(group).column(column) for group in range(metadata.num_row_groups) for column in range(metadata.num_columns)]


def test_every_file_has_the_promised_schema(completed):
    for path, file in opened(completed):
        assert file.schema_arrow.remove_metadata() == SCHEMA, path
        # The same without the Arrow schema in the metadata, which most readers do not look at.
        logical = {column.name: str(column.logical_type) for column in (file.schema.column(i) for i in range(len(NAMES)))}
        assert logical["id"] == logical["inputs"] == "String"
        assert logical["start_time"].startswith("Timestamp(isAdjustedToUTC=true, timeUnit=microseconds")


def test_rows_without_any_optional_value_have_the_same_schema_and_equal_times_are_ordered_by_id(stack):
    project = "00000000-0000-0000-0000-000000000003"
    stack.clickhouse(f"""
        INSERT INTO runs (id, tenant_id, session_id, trace_id, start_time, modified_at)
        SELECT reinterpretAsUUID(MD5(concat('tie', toString(number)))), '{stack.env["TRACELIFT_TENANT_ID"]}', '{project}',
               generateUUIDv4(), '2024-01-02 03:04:05.678901', now64(6)
        FROM numbers(500)""")
    exported = stack.exported(session_id=project, **ONE_DAY)
    ((_, file),) = opened(exported)
    assert file.schema_arrow.remove_metadata() == SCHEMA
    rows = file.read()
    assert rows.num_rows == 500
    ids = rows["id"].to_pylist()
    assert ids == sorted(set(ids))
    assert {str(time) for time in rows["start_time"].to_pylist()} == {"2024-01-02 03:04:05.678901+00:00"}
    empty = ["parent_run_id", "reference_example_id", "end_time", "inputs", "outputs", "error", "prompt_cost", "total_cost"]
    assert {name: rows[name].null_count for name in empty} == dict.fromkeys(empty, 500)


def test_rows_are_sorted_and_said_to_be(completed):
    for path, file in opened(completed):
        rows = file.read(columns=["start_time", "id"]).to_pydict()
        order = list(zip(rows["start_time"], rows["id"]))
        assert order == sorted(order), path
        for group in range(file.metadata.num_row_groups):
            sorting = file.metadata.row_group(group).sorting_columns
            assert [(NAMES[column.column_index], column.descending) for column in sorting] == [("start_time", False), ("id", False)]


def test_a_file_says_what_it_is_and_who_wrote_it(completed):
    runs = {run["id"] for run in completed.runs()}
    for path, file in opened(completed):
        said = {key.decode(): value.decode() for key, value in file.metadata.metadata.items()}
        assert said["tracelift.export_id"] == completed.id
        assert said["tracelift.run_id"] in runs and said["tracelift.run_id"] in path
        assert said["tracelift.format_version"] == "v1"
        assert len(said["tracelift.schema_hash"]) == 64
        assert said["tracelift.producer"].startswith("tracelift ")
        assert file.metadata.created_by.startswith("tracelift version ")


def test_wide_columns_have_no_dictionary_and_no_statistics_and_lookups_have_a_page_index(completed):
    for _, file in opened(completed):
        for chunk in chunks(file):
            name = chunk.path_in_schema
            if name in WIDE:
                assert not chunk.has_dictionary_page and not chunk.is_stats_set, name
            assert chunk.has_column_index == (name in INDEXED), name
            assert chunk.is_stats_set == (name in INDEXED), name
            assert chunk.has_offset_index or name not in INDEXED, name
            assert chunk.compression == "ZSTD", name


def test_files_lie_in_their_days_partition(stack, completed):
    env, runs = stack.env, completed.runs()
    root = f"{completed.root}/export_id={completed.id}/tenant_id={env['TRACELIFT_TENANT_ID']}/session_id={env['TRACELIFT_PROJECT_ID']}/runs"
    expected = [f"{root}/year=2024/month=1/day={day}/{run['id']}-00000.parquet" for day, run in zip((1, 2, 3), runs)]
    assert completed.files() == expected
    assert [file for run in runs for file in run["metadata"]["result"]["exported_files"]] == expected
    for (_, file), day in zip(opened(completed), (1, 2, 3)):
        assert {time.date().isoformat() for time in file.read(["start_time"])["start_time"].to_pylist()} == {f"2024-01-0{day}"}


@pytest.mark.parametrize("compression, codec", [("none", "UNCOMPRESSED"), ("gzip", "GZIP"), ("snappy", "SNAPPY")])
def test_every_codec_holds_the_same_rows(stack, completed, compression, codec):
    exported = stack.exported(compression=compression, **ONE_DAY)
    ((path, file),) = opened(exported)
    assert path.endswith("-00000.parquet"), "whatever the codec"
    assert {chunk.compression for chunk in chunks(file)} == {codec}
    second_day = opened(completed)[1][1]
    assert file.read().equals(second_day.read())


def test_v2_beta_has_its_own_layout_and_decimal_costs(stack, completed):
    exported = stack.exported(format_version="v2_beta", **ONE_DAY)
    ((path, file),) = opened(exported)
    assert "/resource=runs/year=2024/month=1/day=2/" in path
    decimal = pyarrow.decimal128(18, 12)
    costs = ["prompt_cost", "completion_cost", "total_cost"]
    assert file.schema_arrow.remove_metadata() == pyarrow.schema(
        [field.with_type(decimal) if field.name in costs else field for field in SCHEMA])
    rows, v1 = file.read(), opened(completed)[1][1].read()
    assert rows.drop_columns(costs).equals(v1.drop_columns(costs))
    for name in costs:
        assert rows[name].cast(COST).to_pylist() == pytest.approx(v1[name].to_pylist())


@pytest.mark.parametrize("fields", [["total_tokens", "inputs", "start_time", "id"], ["outputs"]])
def test_chosen_columns_come_in_the_chosen_order(stack, completed, fields):
    exported = stack.exported(export_fields=fields, **ONE_DAY)
    ((_, file),) = opened(exported)
    assert file.schema_arrow.remove_metadata() == pyarrow.schema([SCHEMA.field(name) for name in fields])
    assert file.read().equals(opened(completed)[1][1].read(fields))
    sorting = file.metadata.row_group(0).sorting_columns
    assert [fields[column.column_index] for column in sorting] == (["start_time", "id"] if "id" in fields else [])


def test_no_row_is_lost_between_the_files(completed):
    assert sum(file.metadata.num_rows for _, file in opened(completed)) == ROWS
