//! A bucket and how to talk to it: the port to object stores and S3 behind it, which endpoints are
//! allowed, what a provider's error means, the check.
//!
//! Used by the control plane (to check a destination before it is saved) and by the exporter (to
//! read blobs and write files), so that both judge a bucket alike. It knows nothing of runs, rows
//! or files.

#[cfg(test)]
mod answers;
mod bounded;
mod check;
mod client;
mod endpoint;
mod error;
mod extras;
mod line;
mod reader;
mod s3;
mod store;
mod upload;

pub use check::check;
pub use client::{Connector, Grant, Keys};
pub use endpoint::EndpointPolicy;
pub use error::{BucketError, Fault};
pub use extras::{Extra, Extras};
pub use line::Line;
pub use reader::{Object, Reader};
pub use store::{NewObject, ObjectInfo, ObjectStore, OpenUpload};
