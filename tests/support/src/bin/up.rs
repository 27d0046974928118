//! Runs the whole system in the foreground on real components, with the data set loaded, and writes
//! an env file for the shell to source.
//!
//! The services are the real binaries, as child processes; the S3 server runs in this process;
//! ClickHouse is embedded.

use std::{
    fmt::Write as _,
    io,
    net::{Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    process::{Child, Command, ExitCode, Stdio},
    time::Instant,
};

use clap::Parser;
use tokio::net::TcpListener;
use tonic::transport::Endpoint;
use tracelift_proto::v1::{
    CreateApiKeyRequest, CreateTenantRequest, admin_service_client::AdminServiceClient,
};
use tracelift_test_grpc::Bearer;
use tracelift_test_support::{
    clickhouse::ClickHouse,
    dataset, repository,
    s3::{ACCESS_KEY_ID, S3Server, SECRET_ACCESS_KEY},
};

/// Starts Tracelift on real parts: an embedded ClickHouse, an S3 server, the control plane, an
/// exporter, the gateway
#[derive(Debug, Parser)]
struct Options {
    /// Rows of the data set
    #[arg(long, default_value_t = 100_000)]
    rows: u64,
    /// Port of the control plane (gRPC)
    #[arg(long, default_value_t = 7700)]
    grpc_port: u16,
    /// Port of the gateway (REST)
    #[arg(long, default_value_t = 7701)]
    rest_port: u16,
    /// Port of ClickHouse
    #[arg(long, default_value_t = 8123)]
    clickhouse_port: u16,
    /// Port of the S3 server
    #[arg(long, default_value_t = 9000)]
    s3_port: u16,
    /// Folder for data, logs and the env file; what it holds is replaced
    #[arg(long)]
    dir: Option<PathBuf>,
}

const SOURCE_BUCKET: &str = "traces";
const DESTINATION_BUCKET: &str = "exports";

#[tokio::main]
async fn main() -> ExitCode {
    let options = Options::parse();
    match up(&options).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

type Outcome<T> = Result<T, Box<dyn std::error::Error + Send + Sync>>;

async fn up(options: &Options) -> Outcome<()> {
    let dir = options.dir.clone().unwrap_or_else(|| repository().join("target/dev"));
    let ports = [
        ("GRPC_PORT", options.grpc_port),
        ("REST_PORT", options.rest_port),
        ("CLICKHOUSE_PORT", options.clickhouse_port),
        ("S3_PORT", options.s3_port),
    ];
    for (name, port) in ports {
        take(name, port).await.map(drop)?;
    }
    let loaded = prepare(&dir, options.rows)?;
    let s3 = S3Server::start(&dir.join("s3"), take("S3_PORT", options.s3_port).await?)?;
    s3.create_bucket(SOURCE_BUCKET);
    s3.create_bucket(DESTINATION_BUCKET);
    let clickhouse = ClickHouse::start(&dir.join("clickhouse"), options.clickhouse_port)?;
    if loaded {
        println!("{} rows and their objects are there from before", options.rows);
    } else {
        load(&clickhouse, &dir, options.rows).await?;
    }

    let secrets = Secrets::new()?;
    let mut services = Services::default();
    let grpc = format!("http://127.0.0.1:{}", options.grpc_port);
    services.start(
        "control-plane",
        &dir,
        &[
            ("TRACELIFT_LISTEN", format!("127.0.0.1:{}", options.grpc_port)),
            ("TRACELIFT_DATABASE", dir.join("control-plane.db").display().to_string()),
            ("TRACELIFT_MASTER_KEYS", secrets.master_keys.clone()),
            ("TRACELIFT_ADMIN_TOKEN", secrets.admin.clone()),
            ("TRACELIFT_FLEET_TOKEN", secrets.fleet.clone()),
            ("TRACELIFT_ENDPOINTS_ALLOW", "127.0.0.1".to_owned()),
        ],
    )?;
    let api_key = api_key(&grpc, &secrets.admin).await?;
    services.start(
        "exporter",
        &dir,
        &[
            ("TRACELIFT_CONTROL_PLANE", grpc.clone()),
            ("TRACELIFT_EXPORTER_ID", "exporter-1".to_owned()),
            ("TRACELIFT_FLEET_TOKEN", secrets.fleet.clone()),
            ("TRACELIFT_ENDPOINTS_ALLOW", "127.0.0.1".to_owned()),
            ("CLICKHOUSE_URL", clickhouse.url.clone()),
            ("BLOB_ENDPOINT", s3.url()),
            ("BLOB_BUCKET", SOURCE_BUCKET.to_owned()),
            ("BLOB_ACCESS_KEY_ID", ACCESS_KEY_ID.to_owned()),
            ("BLOB_SECRET_ACCESS_KEY", SECRET_ACCESS_KEY.to_owned()),
        ],
    )?;
    services.start(
        "gateway",
        &dir,
        &[
            ("TRACELIFT_GATEWAY_LISTEN", format!("127.0.0.1:{}", options.rest_port)),
            ("TRACELIFT_CONTROL_PLANE", grpc.clone()),
        ],
    )?;
    let rest = format!("http://127.0.0.1:{}", options.rest_port);
    listens(options.rest_port).await?;

    let environment = [
        ("TRACELIFT_URL", rest),
        ("TRACELIFT_GRPC", grpc),
        ("TRACELIFT_API_KEY", api_key),
        ("TRACELIFT_ADMIN_TOKEN", secrets.admin),
        ("TRACELIFT_TENANT_ID", dataset::TENANT_ID.to_owned()),
        ("TRACELIFT_PROJECT_ID", dataset::PROJECT_ID.to_owned()),
        ("CLICKHOUSE_URL", clickhouse.url.clone()),
        ("S3_ENDPOINT", s3.url()),
        ("S3_ACCESS_KEY_ID", ACCESS_KEY_ID.to_owned()),
        ("S3_SECRET_ACCESS_KEY", SECRET_ACCESS_KEY.to_owned()),
        ("SOURCE_BUCKET", SOURCE_BUCKET.to_owned()),
        ("DESTINATION_BUCKET", DESTINATION_BUCKET.to_owned()),
    ];
    write_env(&dir.join("env"), &environment, &std::env::current_exe()?)?;
    println!("{}", welcome(&environment, &dir));
    services.watch().await
}

/// Removes the files of an earlier start, except for the data set if it is the same. Returns
/// whether it is.
fn prepare(dir: &Path, rows: u64) -> io::Result<bool> {
    let loaded =
        std::fs::read_to_string(dir.join(LOADED)).is_ok_and(|text| text == rows.to_string());
    let left: &[&str] = if loaded {
        &["log", "s3/exports", "s3/.objects", "s3/.odd", "s3/.uploads"]
    } else {
        &["log", "s3", "clickhouse", LOADED]
    };
    for name in left.iter().chain(&[
        "env",
        "control-plane.db",
        "control-plane.db-wal",
        "control-plane.db-shm",
    ]) {
        let discarded = dir.join(format!(".discarded-{}", uuid::Uuid::new_v4()));
        match std::fs::rename(dir.join(name), &discarded) {
            // Deleting hundreds of thousands of objects takes a while and can happen in the
            // background.
            Ok(()) => drop(Command::new("rm").arg("-rf").arg(discarded).spawn()?),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    std::fs::create_dir_all(dir.join("log"))?;
    Ok(loaded)
}

/// The file with the number of rows, written once all are loaded.
const LOADED: &str = "loaded";

async fn load(clickhouse: &ClickHouse, dir: &Path, rows: u64) -> Outcome<()> {
    let began = Instant::now();
    println!("loading {rows} rows and their offloaded inputs and outputs ...");
    dataset::load(&clickhouse.client(), rows, true).await?;
    let blobs =
        dataset::write_blobs(&clickhouse.client(), &dir.join("s3").join(SOURCE_BUCKET)).await?;
    std::fs::write(dir.join(LOADED), rows.to_string())?;
    println!("loaded {rows} rows and {blobs} objects in {:.1} s", began.elapsed().as_secs_f64());
    Ok(())
}

/// Binds a port, or returns an error that explains how to choose another one.
async fn take(name: &str, port: u16) -> Outcome<TcpListener> {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    TcpListener::bind(address).await.map_err(|error| {
        let hint = if error.kind() == io::ErrorKind::AddrInUse {
            format!("; stop what uses it, or choose another with {name}=")
        } else {
            String::new()
        };
        format!("port {port} cannot be taken: {error}{hint}").into()
    })
}

struct Secrets {
    master_keys: String,
    admin: String,
    fleet: String,
}

impl Secrets {
    fn new() -> io::Result<Self> {
        use base64::{Engine as _, engine::general_purpose::STANDARD};
        let random = || {
            let mut bytes = [0; 32];
            getrandom::fill(&mut bytes).map_err(|_| io::Error::other("no randomness to be had"))?;
            Ok::<_, io::Error>(STANDARD.encode(bytes))
        };
        Ok(Self { master_keys: format!("dev:{}", random()?), admin: random()?, fleet: random()? })
    }
}

/// Child processes, which end with this one.
#[derive(Default)]
struct Services(Vec<(&'static str, PathBuf, Child)>);

impl Services {
    fn start(
        &mut self,
        name: &'static str,
        dir: &Path,
        environment: &[(&str, String)],
    ) -> Outcome<()> {
        let binary = std::env::current_exe()?.with_file_name(format!("tracelift-{name}"));
        let log = dir.join("log").join(format!("{name}.log"));
        let out = std::fs::File::create(&log)?;
        let mut command = Command::new(&binary);
        command
            .envs(environment.iter().map(|(key, value)| (key, value)))
            .stdin(Stdio::null())
            .stdout(out.try_clone()?)
            .stderr(out);
        let child = command.spawn().map_err(|error| {
            format!("{} cannot be started: {error}; run `make build`", binary.display())
        })?;
        self.0.push((name, log, child));
        Ok(())
    }

    /// Returns when a stop is requested, or with an error if a service exits by itself.
    async fn watch(&mut self) -> Outcome<()> {
        let stopping = tracelift_runtime::shutdown::on_signal()?;
        let mut ticks = tokio::time::interval(std::time::Duration::from_millis(500));
        loop {
            tokio::select! {
                () = stopping.cancelled() => {
                    println!("stopping");
                    return Ok(());
                }
                _ = ticks.tick() => self.all_run()?,
            }
        }
    }

    fn all_run(&mut self) -> Outcome<()> {
        for (name, log, child) in &mut self.0 {
            if let Some(status) = child.try_wait()? {
                return Err(format!(
                    "the {name} has ended ({status}); its log is {}",
                    log.display()
                )
                .into());
            }
        }
        Ok(())
    }
}

impl Drop for Services {
    fn drop(&mut self) {
        for (_, _, child) in self.0.iter_mut().rev() {
            let _ = Command::new("kill").arg(child.id().to_string()).status();
        }
        for (_, _, child) in &mut self.0 {
            let _ = child.wait();
        }
    }
}

/// Creates the data set's tenant and an API key for it.
async fn api_key(grpc: &str, admin: &str) -> Outcome<String> {
    let port = grpc.rsplit(':').next().and_then(|port| port.parse().ok()).ok_or("a port")?;
    listens(port).await?;
    let channel = Endpoint::from_shared(grpc.to_owned())?.connect().await?;
    let mut client = AdminServiceClient::with_interceptor(channel, Bearer::new(admin));
    client
        .create_tenant(CreateTenantRequest {
            id: dataset::TENANT_ID.to_owned(),
            display_name: "dev".to_owned(),
        })
        .await?;
    let request = CreateApiKeyRequest {
        tenant_id: dataset::TENANT_ID.to_owned(),
        display_name: "dev".to_owned(),
        permission: 0,
        expires_at: None,
    };
    Ok(client.create_api_key(request).await?.into_inner().key)
}

/// Waits until the port accepts connections.
async fn listens(port: u16) -> Outcome<()> {
    let patience = tokio::time::timeout(std::time::Duration::from_secs(20), async {
        while tokio::net::TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await.is_err() {
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    });
    patience.await.map_err(|_| {
        format!("nothing listens on port {port}; see the logs in target/dev/log").into()
    })
}

/// Writes the env file: the variables, and a `PATH` with the folder of the `tracelift` command.
fn write_env(path: &Path, environment: &[(&str, String)], program: &Path) -> io::Result<()> {
    use std::os::unix::fs::OpenOptionsExt as _;
    let mut text: String = environment.iter().fold(String::new(), |mut text, (key, value)| {
        let _ = writeln!(text, "export {key}='{value}'");
        text
    });
    if let Some(folder) = program.parent() {
        let _ = writeln!(text, "PATH=\"{}:$PATH\"", folder.display());
    }
    let mut file = std::fs::OpenOptions::new()
        .create(true)
        .write(true)
        .truncate(true)
        .mode(0o600)
        .open(path)?;
    io::Write::write_all(&mut file, text.as_bytes())
}

fn welcome(environment: &[(&str, String)], dir: &Path) -> String {
    let value = |name: &str| {
        environment.iter().find(|(key, _)| *key == name).map_or("", |(_, value)| value.as_str())
    };
    let env = dir.join("env");
    let (env, dir) = (env.display(), dir.display());
    format!(
        "
Tracelift is up. Ctrl-C stops everything.

  REST        {rest}
  gRPC        {grpc}
  ClickHouse  {clickhouse}
  S3          {s3}   (buckets {SOURCE_BUCKET} and {DESTINATION_BUCKET})
  logs        {dir}/log

Try, in another terminal:

  . {env}
  tracelift destination create --name 'My bucket' --bucket $DESTINATION_BUCKET --prefix try --endpoint-url $S3_ENDPOINT
  tracelift export create --destination ID --project $TRACELIFT_PROJECT_ID --start 2024-01-01 --end 2024-01-04 --watch
  curl -H \"X-API-Key: $TRACELIFT_API_KEY\" $TRACELIFT_URL/api/v1/bulk-exports
",
        rest = value("TRACELIFT_URL"),
        grpc = value("TRACELIFT_GRPC"),
        clickhouse = value("CLICKHOUSE_URL"),
        s3 = value("S3_ENDPOINT"),
    )
}
