//! Liveness, readiness, start and stop.

use tokio_util::sync::CancellationToken;
use tracelift_gateway::{Gateway, Settings};

use crate::talk::{lonely_world, world};

#[tokio::test]
async fn a_gateway_with_its_control_plane_is_alive_and_ready() {
    let world = world().await;
    for path in ["/healthz", "/readyz"] {
        let heard = world.ask_as(&[], "GET", path, None).await;
        assert_eq!((heard.status, heard.body.as_str()), (200, r#"{"status":"ok"}"#));
    }
}

#[tokio::test]
async fn a_gateway_without_its_control_plane_is_alive_but_not_ready() {
    let world = lonely_world().await;
    assert_eq!(world.ask_as(&[], "GET", "/healthz", None).await.status, 200);
    insta::assert_snapshot!(world.ask_as(&[], "GET", "/readyz", None).await.shown());
}

#[tokio::test]
async fn a_gateway_stops_when_told_to_and_gives_its_port_back() {
    let gateway = Gateway::bind(Settings::local("http://127.0.0.1:1")).await.unwrap();
    let address = gateway.address();
    let shutdown = CancellationToken::new();
    shutdown.cancel();
    gateway.run(shutdown).await.unwrap();
    assert!(tokio::net::TcpListener::bind(address).await.is_ok());
}

#[tokio::test]
async fn a_taken_port_is_a_clear_error() {
    let taken = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut settings = Settings::local("http://127.0.0.1:1");
    settings.listen = taken.local_addr().unwrap();
    let error = Gateway::bind(settings).await.unwrap_err().to_string();
    assert!(error.ends_with("stop what uses that port or choose another"), "{error}");
}

#[tokio::test]
async fn an_address_of_the_control_plane_that_is_none_is_a_clear_error() {
    let error = Gateway::bind(Settings::local("localhost:7700")).await.unwrap_err();
    insta::assert_snapshot!(error.to_string());
}

#[test]
fn the_help_is_complete() {
    use clap::CommandFactory as _;
    insta::assert_snapshot!(
        Settings::command()
            .mut_args(|arg| arg.hide_env_values(true))
            .render_long_help()
            .to_string()
    );
}
