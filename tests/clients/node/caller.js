// A caller in Node, with nothing of ours but the .proto files: creates a destination and an export, watches it to its
// end, cancels another one, and prints what it saw as one JSON object. Settings: the variables of the file that `make up` writes.

const path = require("node:path");
const grpc = require("@grpc/grpc-js");
const loader = require("@grpc/proto-loader");

const env = process.env;
const PROTO = path.join(__dirname, "../../../proto");
const DEADLINE_MS = 120_000; // a call that hangs fails

const definition = loader.loadSync(["tracelift/v1/destinations.proto", "tracelift/v1/exports.proto"], {
  includeDirs: [PROTO],
  keepCase: true,
  longs: Number,
  enums: String,
  defaults: true,
});
const { tracelift } = grpc.loadPackageDefinition(definition);
const address = env.TRACELIFT_GRPC.replace("http://", "");
const clientOf = (Service) => new Service(address, grpc.credentials.createInsecure());
const destinations = clientOf(tracelift.v1.DestinationService);
const exportsOf = clientOf(tracelift.v1.ExportService);

function metadata(key = env.TRACELIFT_API_KEY) {
  const metadata = new grpc.Metadata();
  metadata.set("x-api-key", key);
  return metadata;
}

const options = () => ({ deadline: Date.now() + DEADLINE_MS });

// One unary call as a promise.
function call(client, method, request, key) {
  return new Promise((resolve, reject) =>
    client[method](request, metadata(key), options(), (error, answer) => (error ? reject(error) : resolve(answer))),
  );
}

// Every state that a watch tells; `each` is called with every one of them.
function watch(id, each = async () => {}) {
  return new Promise((resolve, reject) => {
    const seen = [];
    const stream = exportsOf.WatchExport({ id }, metadata(), options());
    stream.on("data", (change) => {
      seen.push(change.export);
      each(change.export, seen.length).catch(reject);
    });
    stream.on("error", reject);
    stream.on("end", () => resolve(seen));
  });
}

const at = (text) => ({ seconds: Date.parse(text) / 1000, nanos: 0 });

async function create(destination, start, end) {
  const spec = { destination_id: destination.id, session_id: env.TRACELIFT_PROJECT_ID, start_time: at(start), end_time: at(end) };
  return (await call(exportsOf, "CreateExport", { spec })).export;
}

async function main() {
  const { destination } = await call(destinations, "CreateDestination", {
    display_name: "From Node",
    config: { bucket_name: env.DESTINATION_BUCKET, prefix: "tests", endpoint_url: env.S3_ENDPOINT },
    credentials: { access_key_id: env.S3_ACCESS_KEY_ID, secret_access_key: env.S3_SECRET_ACCESS_KEY },
  });

  const made = await create(destination, "2024-01-01T00:00:00Z", "2024-01-04T00:00:00Z");
  const watched = (await watch(made.id)).at(-1);
  const { runs } = await call(exportsOf, "ListRuns", { export_id: made.id });

  // A year has so many partitions that it is still under way when the first state has come.
  const long = await create(destination, "2024-01-01T00:00:00Z", "2025-01-01T00:00:00Z");
  const stopped = await watch(long.id, async (_, count) => {
    if (count === 1) await call(exportsOf, "CancelExport", { id: long.id });
  });

  const refused = await call(exportsOf, "ListExports", {}, "tl_wrong").catch((error) => grpc.status[error.code]);
  return {
    credentials_keys: destination.credentials_keys,
    completed: { status: watched.status, rows: watched.progress.rows_written, runs: runs.map((run) => run.status) },
    cancelled: stopped.at(-1).status,
    wrong_key: refused,
  };
}

main().then(
  (seen) => {
    console.log(JSON.stringify(seen));
    destinations.close();
    exportsOf.close();
  },
  (error) => {
    console.error(error);
    process.exit(1);
  },
);
