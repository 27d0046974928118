//! Limits that the system puts on the process.

/// Raises the limit of open files as far as the system lets the process: a server needs one for each
/// connection, and the usual soft limit of 1024 dates from programs that use `select`. No core dumps
/// either: they would hold secrets.
pub fn adjust() {
    match rlimit::increase_nofile_limit(u64::MAX) {
        Ok(open_files) => tracing::debug!(open_files, "the limit of open files is raised"),
        Err(error) => tracing::warn!(%error, "the limit of open files cannot be raised"),
    }
    if let Err(error) = rlimit::setrlimit(rlimit::Resource::CORE, 0, 0) {
        tracing::warn!(%error, "core dumps cannot be switched off");
    }
}
