//! Lookups against a name server of our own.

use std::sync::{
    atomic::{AtomicUsize, Ordering::SeqCst},
    mpsc,
};

use hickory_resolver::{
    config::ConnectionConfig,
    proto::{
        op::{Message, OpCode, ResponseCode},
        rr::{Record, RecordType, rdata::CNAME},
    },
};
use tokio::net::UdpSocket;

use super::*;

/// A name server and how often it was asked.
pub(crate) struct Server {
    socket: UdpSocket,
    asked: AtomicUsize,
}

impl Server {
    pub(crate) async fn new() -> Arc<Self> {
        let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        Arc::new(Self { socket, asked: AtomicUsize::new(0) })
    }

    /// A resolver that asks only this server and knows one search domain.
    pub(crate) fn names(&self) -> Names {
        let address = self.socket.local_addr().unwrap();
        let mut connection = ConnectionConfig::udp();
        connection.port = address.port();
        let server = NameServerConfig::new(address.ip(), true, vec![connection]);
        let search = vec![Name::from_ascii("corp.example.").unwrap()];
        Names::over(ResolverConfig::from_parts(None, search, vec![server]), ResolverOpts::default())
    }

    /// Answers every question: `addresses` of each kind, under an alias. Without any, the name does
    /// not exist.
    pub(crate) async fn answer(&self, addresses: u8, ttl: u32) {
        let mut packet = [0; 512];
        loop {
            let (size, from) = self.socket.recv_from(&mut packet).await.unwrap();
            self.asked.fetch_add(1, SeqCst);
            let question = Message::from_vec(&packet[..size]).unwrap();
            let query = question.queries[0].clone();
            let mut answer = Message::response(question.id, OpCode::Query);
            answer.add_query(query.clone());
            if addresses == 0 {
                answer.metadata.response_code = ResponseCode::NXDomain;
                self.socket.send_to(&answer.to_vec().unwrap(), from).await.unwrap();
                continue;
            }
            let alias = Name::from_ascii("Store.Example.Org.").unwrap();
            let target = RData::CNAME(CNAME(alias.clone()));
            answer.add_answer(Record::from_rdata(query.name().clone(), ttl, target));
            answer.add_answers((1..=addresses).map(|number| {
                let address: IpAddr = match query.query_type() {
                    RecordType::A => Ipv4Addr::new(10, 0, 0, number).into(),
                    _ => std::net::Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, number.into()).into(),
                };
                Record::from_rdata(alias.clone(), ttl, RData::from(address))
            }));
            self.socket.send_to(&answer.to_vec().unwrap(), from).await.unwrap();
        }
    }
}

/// What `asking` returns while the server answers.
pub(crate) async fn answered<T>(
    server: &Server,
    (addresses, ttl): (u8, u32),
    asking: impl Future<Output = T>,
) -> T {
    tokio::select! {
        outcome = asking => outcome,
        () = server.answer(addresses, ttl) => unreachable!("it answers for ever"),
    }
}

#[tokio::test]
async fn addresses_are_found_with_the_names_on_the_way() {
    let server = Server::new().await;
    let names = server.names();
    let found = answered(&server, (1, 60), names.find("Traces.Example")).await.unwrap();
    let addresses: [IpAddr; 2] = ["10.0.0.1".parse().unwrap(), "fd00::1".parse().unwrap()];
    assert_eq!(found.addresses, addresses);
    assert_eq!(found.names, ["store.example.org", "traces.example"]);
    let short = answered(&server, (1, 60), names.find("minio")).await.unwrap();
    assert_eq!(short.names, ["minio.corp.example", "store.example.org"]);
}

#[tokio::test]
async fn of_very_many_addresses_a_few_are_kept() {
    let server = Server::new().await;
    let names = server.names();
    let found = answered(&server, (20, 60), names.find("traces.example")).await.unwrap();
    assert_eq!(found.addresses.len(), MAX_ADDRESSES);
}

#[tokio::test]
async fn an_answer_is_remembered_as_long_as_it_says() {
    let server = Server::new().await;
    let names = server.names();
    for (name, ttl, asked) in [("long.example", 3600, 2), ("short.example", 0, 4)] {
        server.asked.store(0, SeqCst);
        for _ in 0..2 {
            answered(&server, (1, ttl), names.find(name)).await.unwrap();
        }
        assert_eq!(server.asked.load(SeqCst), asked, "for both kinds of addresses of {name}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_name_server_that_never_answers_is_given_up() {
    let server = Server::new().await;
    assert!(server.names().find("traces.example").await.is_err());
}

#[tokio::test(start_paused = true)]
async fn a_lookup_that_finds_no_place_among_the_others_is_given_up() {
    let server = Server::new().await;
    let names = server.names();
    let taken = names.places.clone().acquire_many_owned(64).await.unwrap();
    assert!(matches!(names.find("traces.example").await, Err(NotFound::Busy)));
    drop(taken);
    assert_eq!(names.places.available_permits(), MAX_LOOKUPS);
}

#[tokio::test(start_paused = true)]
async fn a_lookup_that_is_given_up_leaves_its_place() {
    let server = Server::new().await;
    let names = server.names();
    let given_up = timeout(Duration::from_millis(1), names.find("traces.example")).await;
    assert!(given_up.is_err());
    assert_eq!(names.places.available_permits(), MAX_LOOKUPS);
}

#[test]
fn a_lookup_takes_none_of_the_threads_for_blocking_work() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .max_blocking_threads(1)
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let (release, held) = mpsc::channel::<()>();
        let busy = tokio::task::spawn_blocking(move || held.recv());
        let server = Server::new().await;
        let names = server.names();
        let found = answered(&server, (1, 60), names.find("traces.example")).await;
        assert!(found.is_ok());
        drop(release);
        assert!(busy.await.unwrap().is_err());
    });
}
