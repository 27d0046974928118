//! The tests' S3 server as a separate process, which can be killed: everything it has acknowledged
//! is there again after a restart.

use std::{
    net::{Ipv4Addr, SocketAddr},
    path::PathBuf,
};

use clap::Parser;
use tokio::net::TcpListener;
use tracelift_test_support::s3::S3Server;

/// An S3 server over a folder
#[derive(Debug, Parser)]
struct Options {
    /// The folder
    #[arg(long)]
    path: PathBuf,
    /// Port on this machine
    #[arg(long)]
    port: u16,
}

#[tokio::main]
async fn main() -> std::io::Result<()> {
    let options = Options::parse();
    let listener = TcpListener::bind(SocketAddr::from((Ipv4Addr::LOCALHOST, options.port))).await?;
    let _server = S3Server::start(&options.path, listener)?;
    tracelift_runtime::shutdown::on_signal()?.cancelled().await;
    Ok(())
}
