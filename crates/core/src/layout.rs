//! Object keys in a bucket. Every key is a pure function of what it names, so a retry overwrites
//! objects and never adds any.

use uuid::Uuid;

use crate::{
    export::{FileFormat, FormatVersion, Projects},
    id::{ExportId, SessionId, TaskId, TenantId},
    plan::Partition,
};

/// What all keys of one export have in common.
#[derive(Debug, Clone, Copy)]
pub struct Layout<'a> {
    /// The destination's prefix, without leading or trailing slash.
    pub prefix: &'a str,
    /// Export id.
    pub export: ExportId,
    /// The export's tenant.
    pub tenant: TenantId,
    /// Selects `runs` or `resource=runs`.
    pub version: FormatVersion,
    /// Its extension ends the keys of data files.
    pub format: FileFormat,
}

impl Layout<'_> {
    /// Common prefix of an export's data files: the project's path, or
    /// `<prefix>/export_id=…/tenant_id=…` if there are several projects.
    pub fn export_path(&self, projects: Projects) -> String {
        match projects {
            Projects::One(session) => self.project_path(session),
            Projects::Experiments => {
                self.rooted(&format!("export_id={}/tenant_id={}", self.export, self.tenant))
            }
        }
    }

    /// `<prefix>/export_id=…/tenant_id=…/session_id=…/runs`
    pub fn project_path(&self, session: SessionId) -> String {
        let resource = match self.version {
            FormatVersion::V1 => "runs",
            FormatVersion::V2Beta => "resource=runs",
        };
        let Self { export, tenant, .. } = self;
        self.rooted(&format!(
            "export_id={export}/tenant_id={tenant}/session_id={session}/{resource}"
        ))
    }

    /// `<project's path>/year=Y/month=M/day=D/<run>-<number, 5 digits>.<extension>`; month and day are
    /// not padded.
    pub fn data_file(&self, partition: Partition, task: TaskId, number: u32) -> String {
        self.file_of_day(partition.session, partition.window.start().day().civil(), task, number)
    }

    fn file_of_day(
        &self,
        session: SessionId,
        (year, month, day): (i32, u32, u32),
        task: TaskId,
        number: u32,
    ) -> String {
        let extension = self.format.extension();
        format!(
            "{}/year={year}/month={month}/day={day}/{task}-{number:05}.{extension}",
            self.project_path(session)
        )
    }

    /// `<prefix>/_manifests/export_id=…/run_id=….json`. Outside the data tree, because readers glob
    /// that as Parquet.
    pub fn run_manifest(&self, task: TaskId) -> String {
        self.rooted(&format!("_manifests/export_id={}/run_id={task}.json", self.export))
    }

    /// `<prefix>/_manifests/export_id=…/manifest.json`
    pub fn export_manifest(&self) -> String {
        self.rooted(&format!("_manifests/export_id={}/manifest.json", self.export))
    }

    /// `<prefix>/_manifests/export_id=…/_SUCCESS`, written last.
    pub fn success(&self) -> String {
        self.rooted(&format!("_manifests/export_id={}/_SUCCESS", self.export))
    }

    fn rooted(&self, key: &str) -> String {
        rooted(self.prefix, key)
    }
}

/// The object that a destination's check writes: `<prefix>/tmp/<name>.txt`.
pub fn probe(prefix: &str, name: &str) -> String {
    rooted(prefix, &format!("tmp/{name}.txt"))
}

/// Longest key that S3 accepts, in bytes.
const MAX_KEY_BYTES: usize = 1024;

/// The longest destination prefix, in bytes, below which every key of an export fits.
pub fn longest_prefix() -> usize {
    let layout = Layout {
        prefix: "p",
        export: ExportId(Uuid::nil()),
        tenant: TenantId(Uuid::nil()),
        version: FormatVersion::V2Beta, // its keys are longer than those of v1
        format: FileFormat::Parquet,    // no extension is longer
    };
    let (session, task, number) = (SessionId(Uuid::nil()), TaskId(Uuid::nil()), 99_999);
    let data_file = layout.file_of_day(session, (9999, 12, 31), task, number);
    let others = [
        layout.run_manifest(task),
        layout.export_manifest(),
        layout.success(),
        probe("p", &Uuid::nil().as_simple().to_string()),
    ];
    let longest = others.iter().chain([&data_file]).map(String::len).max().unwrap_or_default();
    (MAX_KEY_BYTES + layout.prefix.len()).saturating_sub(longest)
}

fn rooted(prefix: &str, key: &str) -> String {
    if prefix.is_empty() { key.to_owned() } else { format!("{prefix}/{key}") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::{Timestamp, Window};

    #[test]
    fn below_the_longest_prefix_every_key_fits_and_a_byte_more_is_too_much() {
        let window = Window::new(
            Timestamp::parse("t", "2024-12-31").unwrap(),
            Timestamp::parse("t", "2025-01-01").unwrap(),
        )
        .unwrap();
        let length = |prefix: &str| {
            let (export, tenant, version) =
                (ExportId(Uuid::nil()), TenantId(Uuid::nil()), FormatVersion::V2Beta);
            let partition = Partition { session: SessionId(Uuid::nil()), window };
            Layout { prefix, export, tenant, version, format: FileFormat::Parquet }
                .data_file(partition, TaskId(Uuid::nil()), 0)
                .len()
        };
        assert_eq!(longest_prefix(), 791);
        assert_eq!(length(&"p".repeat(longest_prefix())), 1024);
    }

    #[test]
    fn keys_are_those_that_readers_glob() {
        let at = |text| Timestamp::parse("t", text).unwrap();
        let session = SessionId(Uuid::from_u128(3));
        let window = Window::new(at("2024-01-02T00:00:00Z"), at("2024-01-02T12:00:00Z")).unwrap();
        let partition = Partition { session, window };
        let keys = |prefix, version| {
            let layout = Layout {
                prefix,
                export: ExportId(Uuid::from_u128(1)),
                tenant: TenantId(Uuid::from_u128(2)),
                version,
                format: FileFormat::Parquet,
            };
            let task = TaskId(Uuid::from_u128(4));
            let paths = [Projects::One(session), Projects::Experiments]
                .map(|projects| layout.export_path(projects));
            let keys = [
                layout.data_file(partition, task, 7),
                layout.run_manifest(task),
                layout.export_manifest(),
                layout.success(),
            ];
            [paths.join("\n"), keys.join("\n")].join("\n")
        };
        insta::assert_snapshot!(format!(
            "{}\n\n{}",
            keys("root/traces", FormatVersion::V1),
            keys("", FormatVersion::V2Beta)
        ));
    }
}
