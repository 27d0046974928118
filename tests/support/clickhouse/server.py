#!/usr/bin/env python3
"""A ClickHouse server in one process, for the demo, the tests and the benchmark: chDB (the whole engine) behind ClickHouse's HTTP
interface, so that nothing has to be installed but a Python package. Production points at a real server.

Owns: the HTTP wire (query text and data, parameters, settings, formats, status codes, exceptions in the middle of a stream) and one
engine session per running query. The engine parses, plans, runs, lists and kills.
Never: changes a value, retries a query, compresses, reads ahead of its client.

Prints `listening on http://HOST:PORT` once it answers. SIGTERM or SIGINT end it with code 0; a port that is taken, with code 2.

How an engine without a network is made to look like a server:
- A fresh session per query (0.2 ms) carries that query's database and settings, so nothing leaks into the next one.
- The engine makes its own query ids. Ours travels in the setting `log_comment`, and whoever reads `system.processes` or says KILL QUERY
  is shown PROCESSES, where it stands in for the engine's.
- Arrow comes from ClickHouse's own writer, as from a server of that version; the engine alone still has an older one as its default.
- A stream of the engine is a row of complete answers, one per block. Formats without header and footer are simply concatenated, Arrow
  streams are joined (`arrow_part`), for anything else the whole answer is taken at once.
"""
import argparse
import base64
import contextlib
import dataclasses
import http.server
import json
import os
import re
import select
import signal
import socket
import sys
import threading
import traceback
import urllib.parse
import uuid

STREAMED = {"ArrowStream", "CSV", "JSONCompactEachRow", "JSONEachRow", "JSONLines", "NDJSON", "Native", "RowBinary", "TSV", "TSVRaw",
            "TabSeparated", "TabSeparatedRaw"}
TEXT = {"CSV": "text/csv", "JSON": "application/json", "JSONEachRow": "application/x-ndjson", "TabSeparated": "text/tab-separated-values"}

# URL parameters that are the interface's own; every other one is a setting or a param_*.
INTERFACE = {"query", "database", "default_format", "query_id", "user", "password", "compress", "decompress", "session_id",
             "session_timeout", "session_check", "client_protocol_version", "quota_key", "role", "stacktrace", "buffer_size",
             "wait_end_of_query"}
REFUSED = {"compress": "compressed answers", "decompress": "compressed data", "session_id": "sessions that outlive a query"}

# As a server maps exception codes to HTTP (exceptionCodeToHTTPStatus.cpp); 500 for the others.
STATUS = {code: status for status, codes in {
    400: (6, 8, 15, 25, 26, 27, 36, 37, 38, 41, 44, 53, 62, 72, 117, 123, 167, 168, 223, 321, 376, 427, 441, 675, 676),
    401: (194,), 403: (192, 193, 497, 512, 516), 404: (46, 47, 50, 56, 60, 63, 73, 78, 81, 115, 152, 336, 511),
    408: (159,), 411: (381,), 413: (229,), 501: (48,), 503: (76, 209, 439)}.items() for code in codes}

EXCEPTION = re.compile(r"Code: (\d+)\. DB::\w*Exception: .*", re.S)
SELECT = re.compile(r"(?>\s+|--[^\n]*\n|/\*.*?\*/)*+(SELECT|WITH|\()", re.I | re.S)
FORMAT = re.compile(r"\bFORMAT\s+(\w+)\s*(?:SETTINGS\s[^;]*)?;?\s*$", re.I)
INSERT_DATA = re.compile(r"(\s*INSERT\s+INTO\b.*)\bFORMAT\s+(\w+)\s*$", re.I | re.S)
KILL = re.compile(r"\s*KILL\s+QUERY\s+WHERE\s(.+?)(\s+A?SYNC)?(\s+FORMAT\s+\w+)?\s*;?\s*$", re.I | re.S)
SYSTEM_PROCESSES = re.compile(r"\bsystem\.processes\b", re.I)
PROCESSES = """(SELECT * REPLACE (Settings['log_comment'] AS query_id, Settings['log_comment'] AS initial_query_id)
 FROM system.processes WHERE Settings['log_comment'] != '')"""

ARROW_END = b"\xff\xff\xff\xff\0\0\0\0"


class ClickHouseError(Exception):
    """What a client is told: one of ClickHouse's codes and the text that goes with it."""

    def __init__(self, code, name, message):
        super().__init__(f"Code: {code}. DB::Exception: {message}. ({name})")


def told(error):
    """Code and text of an exception: ours, or the engine's with whatever chDB put around it."""
    found = EXCEPTION.search(str(error))
    if not found:
        traceback.print_exception(error)  # a fault of this program
        return 1002, f"Code: 1002. DB::Exception: {error!r}. (UNKNOWN_EXCEPTION)"
    return int(found[1]), re.sub(r"\s*\(version [^()]*\)\.?\s*$", "", found[0])


def quoted(text):
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"


@dataclasses.dataclass
class Query:
    """A query on its way: what to run, under which id, database, settings and parameters, and for whom."""

    id: str
    sql: str
    format: str
    data: bytes | None  # of an INSERT whose statement came in the URL
    database: str
    settings: dict
    parameters: dict
    streams: bool
    client: socket.socket
    ended: threading.Event = dataclasses.field(default_factory=threading.Event)

    @classmethod
    def read(cls, arguments, body, client):
        for name, what in REFUSED.items():
            if arguments.get(name, "0") not in ("0", "", "false"):
                raise ClickHouseError(48, "NOT_IMPLEMENTED", f"{name}: the embedded server knows no {what}")
        sql, format, data = statement(arguments.get("query", ""), body)
        format = format or arguments.get("default_format") or "TabSeparated"
        if not sql.strip():
            raise ClickHouseError(62, "SYNTAX_ERROR", "Syntax error: Empty query")
        return cls(
            id=arguments.get("query_id") or str(uuid.uuid4()), sql=SYSTEM_PROCESSES.sub(PROCESSES, sql), format=format, data=data,
            database=arguments.get("database") or "default",
            settings={name: value for name, value in arguments.items() if name not in INTERFACE and not name.startswith("param_")},
            parameters={name[6:]: value for name, value in arguments.items() if name.startswith("param_")},
            streams=format in STREAMED and SELECT.match(sql) and arguments.get("wait_end_of_query", "0") in ("0", ""), client=client)


def statement(in_url, body):
    """SQL, format if it names one, and data: the URL's part of an INSERT has its data in the body, else both together are the query."""
    insert = INSERT_DATA.match(in_url)
    if insert:
        return insert[1], insert[2], body
    sql = "\n".join(part for part in (in_url, body.decode()) if part)
    clause = FORMAT.search(sql)
    return sql, clause and clause[1], None


def form_fields(body, boundary):
    """The fields of a multipart form: how clients send parameters that may be too long for a URL."""
    field = rb'name="([^"]*)"\r\n(?:[^\r\n]+\r\n)*\r\n(.*?)\r\n--' + re.escape(boundary.strip('"').encode())
    return {name.decode(): value.decode() for name, value in re.findall(field, body, re.S)}


def arrow_part(chunk, first):
    """What chunk, a complete Arrow stream, adds to the stream that `first` opened: the schema once, no end marker."""
    start = 0 if first else 8 + int.from_bytes(chunk[4:8], "little")  # continuation, length, schema
    return chunk[start:len(chunk) - len(ARROW_END)]


class Engine:
    """chDB on one data folder: at most `sessions` queries at a time, each in a session of its own."""

    def __init__(self, path, sessions, profile=None):
        self.profile_file = profile
        sys.modules.setdefault("pyarrow", None)  # optional for chDB, unused here, and a third of the start time
        from chdb.session import Session

        os.makedirs(path, exist_ok=True)
        self.new_session = lambda: Session(path)
        self.places = threading.BoundedSemaphore(sessions)
        self.running = {}
        self.closing = False
        self.lock = threading.Lock()
        self.control = Session(path)  # kills, and keeps the engine open while no query runs
        self.version, self.timezone = self.control.query("SELECT version(), serverTimezone()", "TSV").bytes().decode().split()

    def profile(self):
        """The settings of the only user, which may change while the server runs; none while there is no such file."""
        try:
            with open(self.profile_file or "", encoding="utf-8") as file:
                return json.load(file)
        except FileNotFoundError:
            return {}

    @contextlib.contextmanager
    def session(self, query):
        """A session for the query, listed as running until the block ends. Who asks about queries or kills them never has to wait."""
        free = KILL.match(query.sql) or PROCESSES in query.sql
        profile = self.profile()
        first = {"implicit_select": "0", "output_format_arrow_use_native_writer": "1", "log_comment": query.id} | profile
        with contextlib.nullcontext() if free else self.places, self.listed(query):
            session = self.new_session()
            try:
                for settings in filter(None, (first, query.settings)):  # as of a user's profile, then of the query
                    session.query("SET " + ", ".join(f"`{name}` = {quoted(value)}" for name, value in settings.items()))
                if query.database != "default":
                    session.query("USE `" + query.database.replace("`", "\\`") + "`")
                yield session
            finally:
                session.close()

    @contextlib.contextmanager
    def listed(self, query):
        with self.lock:
            if self.closing:
                raise ClickHouseError(236, "ABORTED", "The server is shutting down")
            if query.id in self.running:
                raise ClickHouseError(216, "QUERY_WITH_SAME_ID_IS_ALREADY_RUNNING", f"Query with id = {query.id} is already running")
            self.running[query.id] = query
        try:
            yield
        finally:
            with self.lock:
                del self.running[query.id]
            query.ended.set()

    def run(self, session, query):
        """The whole answer at once, as a result of chDB."""
        kill = KILL.match(query.sql)
        if kill:
            return self.kill(session, query, *kill.groups())
        if query.data is not None:
            insert = session.send_insert(query.sql, query.format)
            insert.append(query.data)
            return insert.finish()
        return session.query(query.sql, query.format, params=query.parameters)

    def kill(self, session, query, where, mode, _format):
        """KILL QUERY: look up what is meant, answer that, kill it."""
        mode = (mode or "ASYNC").strip().upper()
        status = "finished" if mode == "SYNC" else "waiting"
        meant = f"FROM {PROCESSES} WHERE ({where}) AND query_id != {quoted(query.id)}"
        ids = session.query(f"SELECT query_id {meant}", "JSONColumns", params=query.parameters).bytes()
        answer = session.query(f"SELECT '{status}' AS kill_status, query_id, user, query {meant}", query.format, params=query.parameters)
        for query_id in json.loads(ids)["query_id"]:
            self.end(session, query_id, mode)
        return answer

    @staticmethod
    def end(session, query_id, mode):
        session.query(f"KILL QUERY WHERE Settings['log_comment'] = {quoted(query_id)} {mode}")

    def stop(self, query):
        """Ends a query nobody waits for. The engine may not have begun it yet, hence again until it has ended."""
        while not query.ended.wait(0.05):
            self.end(self.control, query.id, "ASYNC")

    def close(self):
        with self.lock:
            self.closing, left = True, list(self.running.values())
        for query in left:
            with contextlib.suppress(OSError):
                query.client.shutdown(socket.SHUT_RDWR)  # a handler may be waiting for its client to read on
            self.stop(query)
        self.control.close()


class Watch:
    """Notices clients that hang up while their query computes, when nothing is being written to them, and stops the query."""

    def __init__(self, engine):
        self.engine = engine
        self.epoll = select.epoll()
        self.watched = {}
        threading.Thread(target=self.run, name="watch", daemon=True).start()

    @contextlib.contextmanager
    def over(self, query):
        client = query.client.fileno()
        self.watched[client] = query
        self.epoll.register(client, select.EPOLLRDHUP | select.EPOLLONESHOT)
        try:
            yield
        finally:
            self.epoll.unregister(client)
            del self.watched[client]

    def run(self):
        while True:
            for client, _ in self.epoll.poll():
                query = self.watched.get(client)
                if query:
                    threading.Thread(target=self.engine.stop, args=(query,), name=f"stop {query.id}", daemon=True).start()


class Handler(http.server.BaseHTTPRequestHandler):
    """One connection: requests one after another, each answered whole, streamed, or by an exception."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    timeout = 30  # seconds; of a server's keep_alive_timeout and of its http_send_timeout, unless that is set
    engine = watch = user = password = None

    def do_GET(self):
        self.chunked, self.query_id = False, None
        self.exception_tag = uuid.uuid4().hex[:16]
        try:
            self.answer()
        except OSError:
            self.close_connection = True  # the client is gone, or does not read
        except Exception as error:
            self.fail(*told(error))

    do_POST = do_GET

    def answer(self):
        body = self.read_body()
        url = urllib.parse.urlsplit(self.path)
        arguments = dict(urllib.parse.parse_qsl(url.query, keep_blank_values=True))
        if url.path == "/ping" or (url.path == "/" and self.command == "GET" and not url.query and not body):
            return self.send_body(200, {"Content-Type": "text/html; charset=UTF-8"}, b"Ok.\n")
        if url.path != "/":
            return self.send_body(404, {}, f"There is no handle {url.path}\n".encode())
        kind, _, boundary = self.header("Content-Type").partition("; boundary=")
        if kind == "multipart/form-data":
            arguments, body = arguments | form_fields(body, boundary), b""
        if self.header("Content-Encoding"):
            arguments["decompress"] = "1"
        if self.command == "GET":
            arguments.setdefault("readonly", "2")
        self.authenticate(arguments)
        query = Query.read(arguments, body, self.connection)
        self.query_id = query.id
        self.connection.settimeout(float(query.settings.get("http_send_timeout", self.timeout)))
        with self.engine.session(query) as session, self.watch.over(query):
            result = self.send_stream(session, query) if query.streams else self.engine.run(session, query)
        # Only now is the client told the end: whoever knows it, no longer finds the query among the running.
        if self.chunked:
            self.send_all(b"0\r\n\r\n")
        else:
            body = result.get_memview().view() if query.data is None else b""
            self.send_body(200, self.result_headers(query, result), body)

    def send_stream(self, session, query):
        """Sends the answer block by block. Returns a whole answer instead when there is no block: only that has a header."""
        with session.send_query(query.sql, query.format, params=query.parameters) as stream:
            chunk = stream.fetch()
            if chunk is None:
                return self.engine.run(session, query)
            self.chunked = True
            self.send_head(200, self.result_headers(query, chunk) | {"Transfer-Encoding": "chunked"})
            arrow, first = query.format == "ArrowStream", True
            while chunk is not None:
                view = chunk.get_memview().view()
                self.send_chunk(arrow_part(view, first) if arrow else view)
                chunk, first = stream.fetch(), False
            if arrow:
                self.send_chunk(ARROW_END)

    def fail(self, code, text):
        """Tells the client the exception: as the answer or, when a part of that has gone out, in the form of a server at the end of the
        body, which is then cut without its last chunk."""
        text = f"{text} (version {self.engine.version} (official build))\n".encode()
        with contextlib.suppress(OSError):
            if not self.chunked:
                headers = {"X-ClickHouse-Exception-Code": str(code), "Content-Type": "text/plain; charset=UTF-8"}
                return self.send_body(STATUS.get(code, 500), headers | self.server_headers(), text)
            mark, tag = b"\r\n__exception__\r\n", self.exception_tag.encode()
            self.send_chunk(mark + tag + b"\r\n" + text + b"%d " % len(text) + tag + mark)
        self.close_connection = True

    def authenticate(self, arguments):
        user, password = arguments.get("user", "default"), arguments.get("password", "")
        scheme, _, credentials = self.header("Authorization").partition(" ")
        if "X-ClickHouse-User" in self.headers or "X-ClickHouse-Key" in self.headers:
            user, password = self.header("X-ClickHouse-User", "default"), self.header("X-ClickHouse-Key")
        elif scheme.lower() == "basic":
            user, _, password = base64.b64decode(credentials).decode().partition(":")
        if (user, password) != (self.user, self.password):
            raise ClickHouseError(516, "AUTHENTICATION_FAILED",
                          f"{user}: Authentication failed: password is incorrect, or there is no user with such name")

    def header(self, name, default=""):
        return self.headers.get(name, default).encode("latin-1").decode()  # http.server reads bytes as Latin-1, clients send UTF-8

    def read_body(self):
        if "chunked" not in self.header("Transfer-Encoding"):
            return self.rfile.read(int(self.header("Content-Length") or 0))
        chunks = []
        while size := int(self.rfile.readline().partition(b";")[0], 16):
            chunks.append(self.rfile.read(size))
            self.rfile.readline()
        self.rfile.readline()
        return b"".join(chunks)

    def result_headers(self, query, result):
        def count(name):
            value = getattr(result, name, 0)
            return value() if callable(value) else value

        summary = {"read_rows": count("storage_rows_read"), "read_bytes": count("storage_bytes_read"),
                   "written_rows": count("rows_written"), "written_bytes": count("bytes_written"), "result_rows": count("rows_read"),
                   "elapsed_ns": int(count("elapsed") * 1e9)}
        return self.server_headers() | {
            "Content-Type": TEXT[query.format] + "; charset=UTF-8" if query.format in TEXT else "application/octet-stream",
            "X-ClickHouse-Format": query.format, "X-ClickHouse-Exception-Tag": self.exception_tag,
            "X-ClickHouse-Summary": json.dumps({name: str(value) for name, value in summary.items()})}

    def server_headers(self):
        known = {"X-ClickHouse-Server-Display-Name": "embedded", "X-ClickHouse-Timezone": self.engine.timezone}
        return known | ({"X-ClickHouse-Query-Id": self.query_id} if self.query_id else {})

    def send_head(self, status, headers):
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()

    def send_body(self, status, headers, body):
        self.send_head(status, headers | {"Content-Length": str(len(body))})
        self.send_all(body)

    def send_chunk(self, data):
        size = b"%x\r\n" % len(data)
        if len(data) < 1 << 16:
            return self.send_all(b"".join((size, data, b"\r\n")))
        for part in (size, data, b"\r\n"):
            self.send_all(part)

    def send_all(self, data):
        """Unlike sendall, gives each step the time-out, not the whole: a slow reader is no dead one."""
        rest = memoryview(data)
        while rest:
            rest = rest[self.connection.send(rest):]

    def log_message(self, *_):
        pass


class Server(http.server.ThreadingHTTPServer):
    request_queue_size = 128

    def handle_error(self, request, client_address):
        if not isinstance(sys.exception(), OSError):  # a client gone between two requests is no error
            super().handle_error(request, client_address)


def main():
    options = arguments()
    signals = {signal.SIGTERM, signal.SIGINT}
    signal.pthread_sigmask(signal.SIG_BLOCK, signals)  # before the engine starts threads: they inherit it, and main alone waits
    if options.die_with_parent:
        die_with_parent()
    try:
        server = Server((options.host, options.port), Handler)
    except OSError as error:
        print(f"server.py: cannot listen on {options.host}:{options.port}: {error.strerror}", file=sys.stderr)
        return 2
    engine = Engine(options.path, options.sessions, options.profile)
    if options.schema:
        with open(options.schema, encoding="utf-8") as schema:
            engine.control.query(schema.read())
    Handler.engine, Handler.watch, Handler.user, Handler.password = engine, Watch(engine), options.user, options.password
    threading.Thread(target=server.serve_forever, args=(0.05,), name="accept", daemon=True).start()
    print(f"listening on http://{options.host}:{server.server_port}", flush=True)

    signal.sigwait(signals)
    server.shutdown()
    server.server_close()
    engine.close()
    return 0


def die_with_parent():
    """Ends this process when the one that started it has ended. Not PR_SET_PDEATHSIG: that means the starting thread."""
    parent = os.pidfd_open(os.getppid())

    def wait():
        select.select([parent], [], [])
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=wait, name="parent", daemon=True).start()


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--path", required=True, help="data folder, created if missing")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=0, help="0 takes a free one")
    parser.add_argument("--user", default="default")
    parser.add_argument("--password", default="")
    parser.add_argument("--schema", help="SQL file to run at start")
    parser.add_argument("--profile", help="JSON file with settings that every query begins with, read before each; it need not exist")
    parser.add_argument("--sessions", type=int, default=16, help="queries at a time; more of them wait")
    parser.add_argument("--die-with-parent", action="store_true", help="end when the process that started this one ends")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
