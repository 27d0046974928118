//! Compiles the .proto files without protoc: protox parses them, tonic-prost-build generates code.

use std::{env, error::Error, fs, path::PathBuf};

use prost::Message as _;

const FILES: [&str; 4] = [
    "tracelift/v1/destinations.proto",
    "tracelift/v1/exports.proto",
    "tracelift/v1/admin.proto",
    "tracelift/fleet/v1/fleet.proto",
];

/// Messages that carry secrets. Their `Debug` is written by hand in `src/redacted.rs`.
const SECRET: [&str; 3] = [
    "tracelift.v1.Credentials",
    "tracelift.v1.CreateApiKeyResponse",
    "tracelift.v1.RotateApiKeyResponse",
];

fn main() -> Result<(), Box<dyn Error>> {
    let out = PathBuf::from(env::var("OUT_DIR")?);
    let descriptors = protox::compile(FILES, ["."])?;
    fs::write(out.join("descriptors.bin"), descriptors.encode_to_vec())?;
    // Ordered maps make encoding deterministic. build_transport would add a `connect` constructor
    // that clashes with the RPC of that name.
    tonic_prost_build::configure()
        .btree_map(".")
        .build_transport(false)
        .skip_debug(SECRET)
        .compile_fds(descriptors)?;
    for file in FILES {
        println!("cargo:rerun-if-changed={file}");
    }
    Ok(())
}
