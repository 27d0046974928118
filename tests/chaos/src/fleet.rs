//! All parts, their state, and the faults applied to them.

use std::{sync::Arc, time::Duration};

use tokio::time::{Instant, sleep};
use tonic::transport::Endpoint;
use tonic_health::pb::{
    HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient,
};
use tracelift_postgres_server::Postgres;

use crate::{
    bucket::Bucket,
    caller::Caller,
    parts::{self, Places},
    plan::{Action, Role, Shape},
    process::{Process, Watch},
    source::{self, Rows},
};

pub(crate) const ADMIN_TOKEN: &str = "chaos-admin-token";
pub(crate) const HEARTBEAT_SECONDS: u32 = 1;
pub(crate) const LEASE_SECONDS: u32 = 4;
pub(crate) const PROGRESS_SECONDS: u32 = 20;

/// How long every part may take to start.
const START: Duration = Duration::from_secs(60);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Up,
    Frozen,
    /// Stopped or gone; to be restarted.
    Down,
}

enum Engine {
    Program(Process),
    Postgres(Arc<Postgres>),
}

struct Part {
    name: String,
    role: Role,
    engine: Engine,
    state: State,
}

/// Everything that runs.
pub(crate) struct Fleet {
    parts: Vec<Part>,
    watch: Watch,
    /// Descriptions of programs that exited without being told to.
    pub(crate) deaths: Vec<String>,
}

/// What the harness talks to, and the expected rows.
pub(crate) struct World {
    pub(crate) bucket: Bucket,
    pub(crate) caller: Caller,
    pub(crate) rows: Rows,
}

impl Fleet {
    /// Starts everything, with the data set loaded.
    pub(crate) async fn start(places: &Places, shape: Shape, rows: u64) -> (Self, World) {
        let mut fleet = Self { parts: Vec::new(), watch: Watch::start(), deaths: Vec::new() };
        let (at, minio) = (places.clone(), parts::minio());
        fleet.add("s3", Role::Bucket, places, move || parts::bucket(&at, minio.as_deref()));
        let at = places.clone();
        fleet.add("clickhouse", Role::ClickHouse, places, move || parts::clickhouse(&at));
        let database = if shape.postgres {
            fleet.add_postgres().await
        } else {
            places.dir.join("control-plane.db").display().to_string()
        };
        for number in 0..shape.control_planes {
            let (at, database) = (places.clone(), database.clone());
            fleet.add(
                &format!("control-plane-{}", number + 1),
                Role::ControlPlane,
                places,
                move || parts::control_plane(&at, number, &database),
            );
        }
        let bucket = Bucket::new(&Places::url(places.bucket));
        let buckets = [
            tracelift_test_support::world::SOURCE_BUCKET,
            tracelift_test_support::world::DESTINATION_BUCKET,
        ];
        tokio::time::timeout(START, bucket.create(&buckets)).await.expect("the S3 server answers");
        listens(places.clickhouse).await;
        for port in &places.control_planes {
            fleet.serves(*port).await;
        }
        let rows = source::load(
            &tracelift_test_support::clickhouse::client(&Places::url(places.clickhouse)),
            &bucket,
            rows,
        )
        .await;
        let control_planes: Vec<_> =
            places.control_planes.iter().map(|port| Places::url(*port)).collect();
        let caller = Caller::start(&control_planes, &Places::url(places.bucket)).await;
        for number in 0..shape.exporters {
            let at = places.clone();
            fleet.add(&parts::exporter_id(number), Role::Exporter, places, move || {
                parts::exporter(&at, number)
            });
        }
        (fleet, World { bucket, caller, rows })
    }

    fn add(
        &mut self,
        name: &str,
        role: Role,
        places: &Places,
        command: impl Fn() -> std::process::Command + Send + Sync + 'static,
    ) {
        let mut process = Process::new(places.dir.join(format!("{name}.log")), command);
        process.start();
        self.watch.tell(self.parts.len(), process.id());
        self.parts.push(Part {
            name: name.to_owned(),
            role,
            engine: Engine::Program(process),
            state: State::Up,
        });
    }

    async fn add_postgres(&mut self) -> String {
        let server =
            Arc::new(tokio::task::spawn_blocking(Postgres::start_new).await.expect("PostgreSQL"));
        let url = server.new_database().await;
        self.parts.push(Part {
            name: "postgres".to_owned(),
            role: Role::Postgres,
            engine: Engine::Postgres(server),
            state: State::Up,
        });
        url
    }

    /// Waits until this control plane serves. On a slow machine, the database may respond too late
    /// for a control plane that is starting.
    async fn serves(&mut self, port: u16) {
        let endpoint = Endpoint::from_shared(Places::url(port))
            .expect("an address")
            .timeout(Duration::from_secs(5));
        let mut health = HealthClient::new(endpoint.connect_lazy());
        let patience = tokio::time::timeout(START, async {
            loop {
                self.revive();
                let answer = health.check(HealthCheckRequest::default()).await;
                if answer.is_ok_and(|answer| answer.into_inner().status() == ServingStatus::Serving)
                {
                    return;
                }
                sleep(Duration::from_millis(20)).await;
            }
        });
        patience.await.unwrap_or_else(|_| panic!("no control plane serves on port {port}"));
    }

    /// The part with this role and number.
    pub(crate) fn find(&self, role: Role, number: usize) -> usize {
        let mut of_role = self.parts.iter().enumerate().filter(|(_, part)| part.role == role);
        of_role.nth(number).map(|(part, _)| part).expect("the plan knows what there is")
    }

    pub(crate) fn name(&self, part: usize) -> &str {
        &self.parts[part].name
    }

    /// Applies a fault, unless the part is already affected by one.
    pub(crate) async fn harm(&mut self, part: usize, action: Action) -> bool {
        let Part { engine, state, .. } = &mut self.parts[part];
        if *state != State::Up {
            return false;
        }
        *state = if action == Action::Freeze { State::Frozen } else { State::Down };
        match (engine, action) {
            (Engine::Program(process), Action::Kill) => process.kill(),
            (Engine::Program(process), Action::Freeze) => process.signal("STOP"),
            (Engine::Program(process), Action::Restart) => process.signal("TERM"),
            (Engine::Postgres(server), action) => {
                let server = Arc::clone(server);
                let work = move || match action {
                    Action::Kill => server.vanish(),
                    Action::Freeze => server.signal("STOP"),
                    Action::Restart => server.stop(),
                };
                tokio::task::spawn_blocking(work).await.expect("PostgreSQL");
            }
        }
        true
    }

    /// Ends the fault: the part is up again.
    pub(crate) async fn heal(&mut self, part: usize) {
        let Part { name, engine, state, .. } = &mut self.parts[part];
        match (engine, *state) {
            (_, State::Up) => {}
            (Engine::Program(process), State::Frozen) => process.signal("CONT"),
            (Engine::Program(process), State::Down) => {
                if !stopped(process).await {
                    self.deaths.push(format!("{name} did not end within 20 s of SIGTERM"));
                    process.kill();
                }
                process.start();
                self.watch.tell(part, process.id());
            }
            (Engine::Postgres(server), State::Frozen) => server.signal("CONT"),
            (Engine::Postgres(server), State::Down) => {
                let server = Arc::clone(server);
                tokio::task::spawn_blocking(move || server.start()).await.expect("PostgreSQL");
            }
        }
        *state = State::Up;
    }

    pub(crate) async fn heal_all(&mut self) {
        for part in 0..self.parts.len() {
            self.heal(part).await;
        }
    }

    /// Restarts programs that have exited, as a supervisor would: a control plane that starts while
    /// its database is down may give up. A panic is still reported.
    pub(crate) fn revive(&mut self) {
        for (number, Part { name, engine, state, .. }) in self.parts.iter_mut().enumerate() {
            let Engine::Program(process) = engine else { continue };
            if *state != State::Up {
                continue;
            }
            if let Some(status) = process.ended() {
                if status.code() != Some(1) {
                    self.deaths.push(format!("{name} ended by itself: {status}"));
                }
                process.start();
                self.watch.tell(number, process.id());
            }
        }
    }

    /// The panics in the programs' logs.
    pub(crate) fn panics(&self) -> Vec<String> {
        let mut panics = Vec::new();
        for Part { name, engine, .. } in &self.parts {
            let Engine::Program(process) = engine else { continue };
            panics.extend(
                process
                    .log()
                    .lines()
                    .filter(|line| line.contains("panicked at"))
                    .map(|line| format!("{name}: {line}")),
            );
        }
        panics
    }
}

async fn stopped(process: &mut Process) -> bool {
    let began = Instant::now();
    while process.id().is_some() && process.ended().is_none() {
        if began.elapsed() > Duration::from_secs(20) {
            return false;
        }
        sleep(Duration::from_millis(20)).await;
    }
    true
}

/// Waits until the port accepts connections.
async fn listens(port: u16) {
    let patience = tokio::time::timeout(START, async {
        while tokio::net::TcpStream::connect((std::net::Ipv4Addr::LOCALHOST, port)).await.is_err() {
            sleep(Duration::from_millis(20)).await;
        }
    });
    patience.await.unwrap_or_else(|_| panic!("nothing listens on port {port}"));
}
