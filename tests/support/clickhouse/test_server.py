"""The embedded server as its callers see it: a real process, real sockets. Run by pytest with tests/requirements.txt installed."""
import contextlib
import http.client
import io
import json
import pathlib
import re
import socket
import subprocess
import sys
import urllib.parse
import uuid

import pyarrow
import pyarrow.ipc
import pytest

SUPPORT = pathlib.Path(__file__).resolve().parents[1]
SERVER = [sys.executable, str(SUPPORT / "clickhouse/server.py")]
SCHEMA = SUPPORT.parents[1] / "deploy/clickhouse/schema.sql"
ENDLESS = "SELECT number, repeat('x', 1000) AS text FROM numbers(1000000000000)"
SILENT = "SELECT sum(sipHash64(number)) FROM numbers(1000000000000000)"
ARROW = {"default_format": "ArrowStream", "output_format_arrow_compression_method": "none"}


class Server:
    """One server process and a way to ask it."""

    def __init__(self, folder, *options):
        self.process = subprocess.Popen([*SERVER, "--path", str(folder), "--die-with-parent", *options], stdout=subprocess.PIPE, text=True)
        line = self.process.stdout.readline()
        self.port = int(re.fullmatch(r"listening on http://127\.0\.0\.1:(\d+)\n", line)[1])

    def connect(self):
        return contextlib.closing(http.client.HTTPConnection("127.0.0.1", self.port, timeout=60))

    def start(self, connection, sql=None, method="POST", body=None, headers=(), **parameters):
        if body is None and sql is not None:
            body = sql
        elif sql is not None:
            parameters["query"] = sql
        connection.request(method, "/?" + urllib.parse.urlencode(parameters), body, dict(headers))
        return connection.getresponse()

    def ask(self, sql=None, **request):
        """The answer's text of a query that succeeds."""
        with self.connect() as connection:
            response = self.start(connection, sql, **request)
            text = response.read()
            assert response.status == 200, text
            return text.decode()

    def refused(self, sql, **request):
        """Status, exception code and text of a query that fails before its answer begins."""
        with self.connect() as connection:
            response = self.start(connection, sql, **request)
            return response.status, response.getheader("X-ClickHouse-Exception-Code"), response.read().decode()

    def arrow(self, sql, **parameters):
        with self.connect() as connection:
            return pyarrow.ipc.open_stream(io.BytesIO(self.start(connection, sql, **ARROW, **parameters).read())).read_all()

    def stop(self):
        self.process.terminate()
        return self.process.wait(60)


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    server = Server(tmp_path_factory.mktemp("clickhouse"), "--schema", str(SCHEMA))
    yield server
    assert server.stop() == 0


@pytest.fixture
def lonely(tmp_path):
    """A server that runs one query at a time."""
    server = Server(tmp_path, "--sessions", "1")
    yield server
    assert server.stop() == 0


def rest_of(response):
    """What comes until the connection is cut. A clean end fails the test."""
    with pytest.raises(http.client.IncompleteRead) as cut:
        response.read()
    return cut.value.partial


# --- Asking ---


def test_ping_answers_ok(server):
    with server.connect() as connection:
        for path in ("/ping", "/"):
            connection.request("GET", path)
            assert connection.getresponse().read() == b"Ok.\n"


def test_a_query_comes_in_the_url_the_body_or_both(server):
    assert server.ask(query="SELECT 1", method="GET") == "1\n"
    assert server.ask("SELECT 2") == "2\n"
    assert server.ask("SELECT", body="3") == "3\n"


def test_a_connection_serves_many_queries(server):
    with server.connect() as connection:
        assert [server.start(connection, f"SELECT {n}").read() for n in range(3)] == [b"0\n", b"1\n", b"2\n"]


def test_parameters_arrive_as_they_were_sent(server):
    text, some_id = "it's \"quoted\" \\ and\ta tab\nand {a line}", uuid.uuid4()
    escaped = text.replace("\\", "\\\\").replace("\t", "\\t").replace("\n", "\\n")
    row = server.ask("SELECT {text:String} AS text, {id:UUID} AS id, {n:Int64} + 1 AS n FORMAT JSONEachRow",
                     param_text=escaped, param_id=some_id, param_n=-(2**53), output_format_json_quote_64bit_integers=0)
    assert json.loads(row) == {"text": text, "id": str(some_id), "n": 1 - 2**53}


def test_parameters_may_come_as_a_form(server):
    form = "".join(f'--frontier\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n'
                   for name, value in (("query", "SELECT {text:String}"), ("param_text", "a\\tb"))) + "--frontier--\r\n"
    assert server.ask(body=form, headers={"Content-Type": "multipart/form-data; boundary=frontier"}, default_format="TSVRaw") == "a\tb\n"


def test_settings_and_database_do_not_leak_into_the_next_query(server):
    question = "SELECT getSetting('max_block_size'), currentDatabase()"
    usual = server.ask(question)
    assert server.ask(question, max_block_size=7, database="system") == "7\tsystem\n"
    server.ask("SET max_block_size = 8")
    server.ask("USE system")
    assert server.ask(question) == usual


def test_headers_name_query_format_and_work_done(server):
    with server.connect() as connection:
        response = server.start(connection, "SELECT number FROM numbers(5)", query_id="named", default_format="JSONEachRow")
        response.read()
    assert response.getheader("X-ClickHouse-Query-Id") == "named"
    assert response.getheader("X-ClickHouse-Format") == "JSONEachRow"
    assert response.getheader("X-ClickHouse-Timezone")
    assert '"read_rows": "5"' in response.getheader("X-ClickHouse-Summary")


def test_an_insert_takes_its_data_from_the_body(server):
    server.ask("CREATE TABLE inserted (n UInt64, s String) ENGINE = MergeTree ORDER BY n")
    server.ask("INSERT INTO inserted FORMAT RowBinary", body=(7).to_bytes(8, "little") + b"\x02\xff\x00")
    server.ask("INSERT INTO inserted (n, s) FORMAT CSV", body=iter([b'8,"eig', b'ht"\n']))  # in chunks
    server.ask("INSERT INTO inserted VALUES (9, 'nine')")
    assert server.ask("SELECT n, hex(s) FROM inserted ORDER BY n") == "7\tFF00\n8\t6569676874\n9\t6E696E65\n"


def test_the_data_set_fits_the_schema(server):
    sql = (SUPPORT / "dataset/dataset.sql").read_text()
    for name, value in (("table", "runs"), ("rows", "2000"), ("offload", "0")):
        sql = sql.replace("{%s}" % name, value)
    server.ask(sql)
    assert server.ask("SELECT count(), uniqExact(id) FROM runs FINAL") == "2000\t2000\n"


# --- Answers ---


def test_an_arrow_stream_of_many_blocks_is_one_stream(server):
    table = server.arrow("SELECT number AS n, toString(number) AS s FROM numbers(100000)", max_block_size=1000)
    assert len(table.column("n").chunks) == 100
    assert table.num_rows == 100_000
    assert sum(table.column("n").to_pylist()) == sum(range(100_000))
    assert table.column("s").to_pylist()[-1] == "99999"


def test_an_arrow_stream_of_no_rows_has_the_schema(server):
    table = server.arrow("SELECT number AS n, toString(number) AS s FROM numbers(10) WHERE n > 10")
    assert table.num_rows == 0
    assert table.schema == pyarrow.schema([pyarrow.field("n", pyarrow.uint64(), False), pyarrow.field("s", pyarrow.string(), False)])


def test_a_format_with_a_header_has_it_once(server):
    answer = server.ask("SELECT number FROM numbers(1000) FORMAT CSVWithNames", max_block_size=10)
    assert answer == '"number"\n' + "".join(f"{n}\n" for n in range(1000))


# --- Failing ---


@pytest.mark.parametrize("sql, status, code, name", [
    ("SELECT * FROM absent", 404, "60", "UNKNOWN_TABLE"),
    ("SELECT * FROM absent.absent", 404, "81", "UNKNOWN_DATABASE"),
    ("SELEC 1", 400, "62", "SYNTAX_ERROR"),
    ("SELECT throwIf(1)", 500, "395", "FUNCTION_THROW_IF_VALUE_IS_NON_ZERO"),
    ("SELECT 1 SETTINGS max_execution_time = 'x'", 400, "72", "CANNOT_PARSE_NUMBER"),
])
def test_an_error_has_status_code_and_text_of_a_server(server, sql, status, code, name):
    seen_status, seen_code, text = server.refused(sql)
    assert (seen_status, seen_code) == (status, code)
    assert re.fullmatch(rf"Code: {code}\. DB::Exception: .*\({name}\) \(version [0-9.]+ \(official build\)\)\n", text, re.S)


def test_failing_half_way_is_an_exception_and_never_a_clean_end(server):
    with server.connect() as connection:
        sql = "SELECT throwIf(number = 150000, 'half way') AS x FROM numbers(1000000)"
        response = server.start(connection, sql, max_block_size=1000, **ARROW)
        tag = response.getheader("X-ClickHouse-Exception-Tag").encode()
        assert response.status == 200
        body = rest_of(response)
    mark = rb"\r\n__exception__\r\n"
    block = re.search(mark + tag + rb"\r\n(Code: 395\. DB::Exception: half way.*\n)(\d+) " + tag + mark + rb"\Z", body, re.S)
    assert int(block[2]) == len(block[1])


def test_a_wrong_password_is_refused(tmp_path):
    server = Server(tmp_path, "--user", "reader", "--password", "sésame")
    basic = {"Authorization": "Basic cmVhZGVyOnPDqXNhbWU="}
    assert server.ask("SELECT 1", user="reader", password="sésame") == "1\n"
    assert server.ask("SELECT 1", headers=basic) == "1\n"
    assert server.ask("SELECT 1", headers={"X-ClickHouse-User": "reader", "X-ClickHouse-Key": "sésame".encode()}) == "1\n"
    for wrong in ({}, {"user": "reader", "password": "no"}, {"user": "other", "password": "sésame"}, {"headers": {"X-ClickHouse-Key": "x"}}):
        status, code, text = server.refused("SELECT 1", **wrong)
        assert (status, code) == (403, "516") and "AUTHENTICATION_FAILED" in text
    assert server.stop() == 0


def test_a_query_id_in_use_is_refused(server):
    with server.connect() as connection:
        server.start(connection, ENDLESS, query_id="taken", **ARROW).read(1)
        assert server.refused("SELECT 1", query_id="taken")[1] == "216"


def test_what_the_server_cannot_do_is_said(server):
    assert server.refused("SELECT 1", compress=1)[:2] == (501, "48")
    assert server.refused("SELECT 1", session_id="mine")[:2] == (501, "48")


# --- Running, killing, going away ---


def test_queries_run_at_the_same_time(server):
    with server.connect() as one, server.connect() as other:
        for connection, name in ((one, "first"), (other, "second")):
            server.start(connection, ENDLESS, query_id=name, **ARROW).read(1)
        running = server.ask("SELECT query_id FROM system.processes WHERE query_id IN ('first', 'second') ORDER BY query_id")
    assert running == "first\nsecond\n"


@pytest.mark.parametrize("name", ["it's me", "plain"])
def test_kill_query_ends_a_running_query(server, name):
    running = {"sql": "SELECT count() FROM system.processes WHERE query_id = {id:String}", "param_id": name}
    with server.connect() as connection:
        response = server.start(connection, ENDLESS, query_id=name, **ARROW)
        response.read(1)
        assert server.ask(**running) == "1\n"
        answer = server.ask("KILL QUERY WHERE query_id = {id:String} ASYNC FORMAT TSVRaw", param_id=name)
        assert answer == f"waiting\t{name}\tdefault\t{ENDLESS}\n"
        assert re.search(rb"Code: 394\. DB::Exception: .*QUERY_WAS_CANCELLED", rest_of(response)[-1000:])
    assert server.ask(**running) == "0\n"


def test_kill_query_ends_a_query_that_has_not_answered_yet(lonely):
    with lonely.connect() as connection:
        connection.request("POST", "/?query_id=silent", SILENT)
        while lonely.ask("SELECT count() FROM system.processes WHERE query_id = 'silent'") == "0\n":
            pass  # it is on its way
        assert lonely.ask("KILL QUERY WHERE query_id = 'silent' SYNC").startswith("finished\tsilent\t")
        response = connection.getresponse()
        assert (response.status, response.getheader("X-ClickHouse-Exception-Code")) == (500, "394")


def test_killing_an_unknown_query_answers_nothing(server):
    assert server.ask("KILL QUERY WHERE query_id = 'unknown' SYNC") == ""


def test_a_client_that_goes_away_while_reading_frees_its_session(lonely):
    with lonely.connect() as connection:
        lonely.start(connection, ENDLESS, **ARROW).read(1)
    assert lonely.ask("SELECT 1") == "1\n"


def test_a_client_that_goes_away_while_waiting_frees_its_session(lonely):
    with lonely.connect() as connection:
        connection.request("POST", "/", SILENT)
    assert lonely.ask("SELECT 1") == "1\n"


# --- The process ---


def test_a_taken_port_is_one_clear_line(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        ended = subprocess.run([*SERVER, "--path", str(tmp_path), "--port", port], capture_output=True, text=True, timeout=60)
    assert (ended.returncode, ended.stdout) == (2, "")
    assert ended.stderr == f"server.py: cannot listen on 127.0.0.1:{port}: Address already in use\n"


def test_it_stops_cleanly_while_queries_run(tmp_path):
    server = Server(tmp_path)
    with server.connect() as reading, server.connect() as waiting:
        server.start(reading, ENDLESS, **ARROW).read(1)
        waiting.request("POST", "/", SILENT)
        assert server.stop() == 0


def test_what_was_inserted_is_there_after_a_restart(tmp_path):
    first = Server(tmp_path)
    first.ask("CREATE TABLE kept (n UInt64) ENGINE = MergeTree ORDER BY n")
    first.ask("INSERT INTO kept SELECT number FROM numbers(10)")
    assert first.stop() == 0
    second = Server(tmp_path)
    assert second.ask("SELECT count() FROM kept") == "10\n"
    assert second.stop() == 0


def test_it_dies_with_its_parent(tmp_path):
    command = [*SERVER, "--path", str(tmp_path), "--die-with-parent"]
    parent = f"import subprocess; subprocess.Popen({command!r}, stdout=subprocess.PIPE).stdout.readline()"
    subprocess.run([sys.executable, "-c", parent], stderr=subprocess.PIPE, timeout=60)  # the server holds stderr until it ends
