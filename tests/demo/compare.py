"""Compares an export in its bucket, as DuckDB reads it, with ClickHouse: every row, every id, every input and output.

Used by the demo and by the tests. Both sides compute the same figures in SQL; any difference is named.
"""

import json
import pathlib
import urllib.parse
import urllib.request

import duckdb
import duckdb_extension_httpfs


def clickhouse(url, sql, **parameters):
    """The one row of a query, as a list of values."""
    query = urllib.parse.urlencode({"default_format": "JSONCompact", **{f"param_{name}": value for name, value in parameters.items()}})
    request = urllib.request.Request(f"{url}/?{query}", data=sql.encode())
    with urllib.request.urlopen(request, timeout=300) as answer:
        return json.load(answer)["data"][0]


def bucket_reader(endpoint, access_key_id, secret_access_key):
    """A DuckDB connection that reads s3:// from that endpoint."""
    connection = duckdb.connect()
    extension = next(pathlib.Path(duckdb_extension_httpfs.__file__).parent.rglob("httpfs.duckdb_extension"))
    connection.execute(f"LOAD '{extension}'")
    scheme, host = endpoint.split("://")
    connection.execute("CREATE SECRET (TYPE s3, KEY_ID ?, SECRET ?, ENDPOINT ?, URL_STYLE 'path', USE_SSL ?, REGION 'us-east-1')",
                       [access_key_id, secret_access_key, host, scheme == "https"])
    return connection


# The same figures on both sides. A hash over all texts: MD5 of each, as a number, all of them added up without carry.
SOURCE = """
SELECT count(),
       uniqExact(id),
       lower(hex(MD5(arrayStringConcat(arraySort(groupArray(toString(id))), ',')))),
       sum(total_tokens),
       toString(groupBitXor(reinterpretAsUInt128(MD5(concat(toString(id), inputs))))),
       toString(groupBitXor(reinterpretAsUInt128(MD5(concat(toString(id), outputs))))),
       arrayStringConcat(arraySort(groupUniqArray(toString(toDate(start_time)))), ' ')
FROM {table} FINAL
"""
EXPORTED = """
SELECT count(*),
       count(DISTINCT id),
       md5(string_agg(id, ',' ORDER BY id)),
       sum(total_tokens)::BIGINT,
       bit_xor(md5_number(concat(id, inputs))),
       bit_xor(md5_number(concat(id, outputs))),
       (SELECT string_agg(day, ' ' ORDER BY day)
        FROM (SELECT DISTINCT strftime(make_date(year::INT, month::INT, day::INT), '%Y-%m-%d') AS day FROM files))
FROM files
"""
FIGURES = ["rows", "distinct ids", "set of ids", "sum of tokens", "hash of inputs", "hash of outputs", "partitions"]


def figures(clickhouse_url, connection, files, table="truth"):
    """(name, in ClickHouse, in the bucket) for every figure."""
    connection.execute(f"CREATE OR REPLACE VIEW files AS SELECT * FROM read_parquet('{files}', hive_partitioning = true)")
    exported = connection.execute(EXPORTED).fetchone()
    source = clickhouse(clickhouse_url, SOURCE.format(table=table))
    return [(name, str(a), str(b)) for name, a, b in zip(FIGURES, source, exported)]


def table(rows):
    """The comparison as people read it."""
    shorten = lambda text: text if len(text) <= 34 else text[:31] + "..."
    lines = [f"  {'':16} {'ClickHouse':34} {'bucket (DuckDB)':34}"]
    lines += [f"  {name:16} {shorten(a):34} {shorten(b):34} {'same' if a == b else 'DIFFERENT'}" for name, a, b in rows]
    return "\n".join(lines)
