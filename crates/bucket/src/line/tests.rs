//! Connections of every speed, in simulated time.

use std::future::poll_fn;

use aws_smithy_runtime_api::client::orchestrator::HttpResponse;

use super::*;

const SILENCE: Duration = Duration::from_secs(60);
const SLOWEST: u64 = 16 << 10;

/// A network that takes a piece at intervals, a set number in total, and responds once it has them
/// all.
#[derive(Debug, Clone)]
struct Network {
    every: Duration,
    pieces: usize,
    under_way: Arc<AtomicU64>,
    most_under_way: Arc<AtomicU64>,
}

impl HttpConnector for Network {
    fn call(&self, mut request: HttpRequest) -> HttpConnectorFuture {
        let network = self.clone();
        HttpConnectorFuture::new(async move {
            let mut body = request.take_body();
            for _ in 0..network.pieces {
                sleep(network.every).await;
                match poll_fn(|context| Pin::new(&mut body).poll_frame(context)).await {
                    Some(piece) => assert!(piece.unwrap().into_data().unwrap().len() <= PIECE),
                    None => {
                        return Ok(HttpResponse::new(200.try_into().unwrap(), SdkBody::empty()));
                    }
                }
                network.most_under_way.fetch_max(network.under_way.load(Relaxed), Relaxed);
            }
            std::future::pending().await
        })
    }
}

/// Sends this many bytes. Returns whether a response came, the seconds until it came or the request
/// was aborted, and the bytes in flight at most and at the end.
async fn send(bytes: usize, every: Duration, pieces: usize) -> (bool, u64, (u64, u64)) {
    let (under_way, most_under_way) = (Arc::<AtomicU64>::default(), Arc::<AtomicU64>::default());
    let network = Network {
        every,
        pieces,
        under_way: under_way.clone(),
        most_under_way: most_under_way.clone(),
    };
    let line = Line { silence: SILENCE, slowest: SLOWEST, under_way: under_way.clone() };
    let patient = Patient { connector: network.into_shared(), line };
    let begin = Instant::now();
    let answer = patient.call(HttpRequest::new(SdkBody::from(vec![0; bytes]))).await;
    let figures = (most_under_way.load(Relaxed), under_way.load(Relaxed));
    (answer.is_ok(), begin.elapsed().as_secs(), figures)
}

#[tokio::test(start_paused = true)]
async fn a_slow_request_is_waited_for_as_long_as_it_moves() {
    let (answered, seconds, under_way) = send(8 << 20, Duration::from_secs(59), usize::MAX).await;
    assert!(answered);
    assert_eq!(
        (seconds, under_way),
        (59 * 129, (8 << 20, 0)),
        "129 pieces with the end, and nothing is counted once it is answered"
    );
}

#[tokio::test(start_paused = true)]
async fn a_silent_request_is_given_up() {
    let one_by_one = Duration::from_secs(1);
    assert_eq!(send(8 << 20, one_by_one, 0).await, (false, 60, (0, 0)));
    // 4 pieces may still be in buffers, for 16 s.
    assert_eq!(send(8 << 20, one_by_one, 4).await, (false, 4 + 60 + 16, (4 * PIECE as u64, 0)));
    // The allowance for buffered data is capped below the time after which a task without progress
    // loses its lease.
    assert_eq!(send(64 << 20, Duration::ZERO, 1024).await, (false, 60 + 480, (64 << 20, 0)));
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_falls_silent_is_given_up() {
    let (_sender, body) = http_body_util::channel::Channel::<Bytes, BoxError>::new(1);
    let mut heard = Heard {
        body: SdkBody::from_body_1_x(body),
        silence: SILENCE,
        until: Box::pin(sleep(SILENCE)),
    };
    let begin = Instant::now();
    let failed =
        poll_fn(|context| Pin::new(&mut heard).poll_frame(context)).await.unwrap().unwrap_err();
    assert_eq!((failed.to_string().as_str(), begin.elapsed()), ("nothing moved for 60 s", SILENCE));
}

#[test]
fn a_body_says_how_long_it_is() {
    let sending = Arc::new(Sending::new(Line {
        silence: SILENCE,
        slowest: SLOWEST,
        under_way: Arc::default(),
    }));
    let pieces = Pieces { body: SdkBody::from(vec![0; 100_000]), rest: Bytes::new(), sending };
    assert_eq!(Body::size_hint(&pieces).exact(), Some(100_000));
}
