//! Access to buckets: the port to object stores with S3 behind it, the endpoint policy, the
//! classification of providers' errors, and the write check.
//!
//! Used by the control plane (to check a destination before saving it) and by the exporter (to read
//! blobs and write files), so that both treat a bucket alike. Independent of tasks, rows and files.

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
mod response;
mod s3;
mod secrets;
mod store;

pub use check::check;
pub use client::{Connector, Grant, Keys};
pub use endpoint::{EndpointPolicy, EndpointRule, EndpointSettings, InvalidRule};
pub use error::{BucketError, Fault};
pub use extras::{Extra, Extras};
pub use line::Line;
pub use reader::{Object, Reader};
pub use secrets::Sent;
pub use store::{NewObject, ObjectInfo, ObjectStore, OpenUpload};
