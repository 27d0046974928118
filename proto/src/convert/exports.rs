//! exports.proto: specs, exports and statuses.

use tracelift_core::{
    Invalid, InvalidKind,
    column::Columns,
    export::{
        self, Compression, Export, ExportSpec, ExportStatus, FileFormat, FormatVersion, NO_PROJECT,
        Projects, TWO_CHOICES,
    },
    filter::Filter,
    id::{DestinationId, SessionId},
    invalid::Faults,
    schedule::{Hours, NO_END},
    task::RunStatus,
    time::Window,
};

use super::{time_from, time_to};
use crate::v1;

impl v1::ExportSpec {
    /// Validates the spec, with a window of at most `max_days` UTC days, using `codec` if it names
    /// no compression; or returns every invalid field.
    pub fn check(&self, max_days: u64, codec: Compression) -> Result<ExportSpec, Vec<Invalid>> {
        let mut faults = Faults::default();
        let destination = faults.take(DestinationId::parse("destination_id", &self.destination_id));
        let projects = faults.take(self.projects());
        let span = self.span(&mut faults, max_days);
        let compression = faults.take(compression(self.compression, codec));
        let format = faults.take(file_format(self.file_format));
        let format_version = faults.take(format_version(self.format_version));
        let columns = faults.take_all("", Columns::parse("export_fields", &self.export_fields));
        let filter = faults.take_all("", Filter::parse("filter", &self.filter));
        let spec = (|| {
            let (window, every) = span?;
            Some(ExportSpec {
                destination: destination?,
                projects: projects?,
                window,
                every,
                compression: compression?,
                format: format?,
                format_version: format_version?,
                columns: columns?,
                filter: filter?,
            })
        })();
        faults.finish(spec)
    }

    fn projects(&self) -> Result<Projects, Invalid> {
        match (self.session_id.as_str(), self.all_experiments) {
            ("", true) => Ok(Projects::Experiments),
            ("", false) => {
                Err(Invalid::new("session_id", NO_PROJECT).of_kind(InvalidKind::Missing))
            }
            (_, true) => Err(Invalid::new("session_id", TWO_CHOICES)),
            (session, false) => SessionId::parse("session_id", session).map(Projects::One),
        }
    }

    /// The window and no interval, or a schedule's first window and its interval.
    fn span(&self, faults: &mut Faults, max_days: u64) -> Option<(Window, Option<Hours>)> {
        let start = faults.take(time_from("start_time", self.start_time.as_ref()));
        if self.interval_hours == 0 {
            let end = faults.take(time_from("end_time", self.end_time.as_ref()));
            return Some((faults.take(export::window(start?, end?, max_days))?, None));
        }
        if self.end_time.is_some() {
            faults.push(Invalid::new("end_time", NO_END));
        }
        let every = faults.take(Hours::new("interval_hours", self.interval_hours))?;
        Some((faults.take(every.first(start?, max_days))?, Some(every)))
    }
}

fn compression(value: i32, default: Compression) -> Result<Compression, Invalid> {
    match v1::Compression::try_from(value) {
        Ok(v1::Compression::Unspecified) => Ok(default),
        Ok(v1::Compression::None) => Ok(Compression::None),
        Ok(v1::Compression::Gzip) => Ok(Compression::Gzip),
        Ok(v1::Compression::Snappy) => Ok(Compression::Snappy),
        Ok(v1::Compression::Zstandard) => Ok(Compression::Zstandard),
        Err(_) => Err(Invalid::not_one_of("compression", &["none", "gzip", "snappy", "zstandard"])),
    }
}

fn file_format(value: i32) -> Result<FileFormat, Invalid> {
    match v1::FileFormat::try_from(value) {
        Ok(v1::FileFormat::Unspecified) => Ok(FileFormat::default()),
        Ok(v1::FileFormat::Parquet) => Ok(FileFormat::Parquet),
        Err(_) => Err(Invalid::not_one_of("file_format", &["Parquet"])),
    }
}

fn format_version(value: i32) -> Result<FormatVersion, Invalid> {
    match v1::FormatVersion::try_from(value) {
        Ok(v1::FormatVersion::Unspecified) => Ok(FormatVersion::default()),
        Ok(v1::FormatVersion::V1) => Ok(FormatVersion::V1),
        Ok(v1::FormatVersion::V2Beta) => Ok(FormatVersion::V2Beta),
        Err(_) => Err(Invalid::not_one_of("format_version", &["v1", "v2_beta"])),
    }
}

impl From<Compression> for v1::Compression {
    fn from(compression: Compression) -> Self {
        match compression {
            Compression::None => Self::None,
            Compression::Gzip => Self::Gzip,
            Compression::Snappy => Self::Snappy,
            Compression::Zstandard => Self::Zstandard,
        }
    }
}

impl From<FileFormat> for v1::FileFormat {
    fn from(format: FileFormat) -> Self {
        match format {
            FileFormat::Parquet => Self::Parquet,
        }
    }
}

impl From<FormatVersion> for v1::FormatVersion {
    fn from(version: FormatVersion) -> Self {
        match version {
            FormatVersion::V1 => Self::V1,
            FormatVersion::V2Beta => Self::V2Beta,
        }
    }
}

impl From<&ExportSpec> for v1::ExportSpec {
    fn from(spec: &ExportSpec) -> Self {
        let names = if spec.columns.is_default() { Vec::new() } else { spec.columns.names() };
        let session = spec.projects.one();
        Self {
            destination_id: spec.destination.to_string(),
            session_id: session.map(|session| session.to_string()).unwrap_or_default(),
            all_experiments: spec.projects == Projects::Experiments,
            start_time: Some(time_to(spec.window.start())),
            end_time: spec.every.is_none().then(|| time_to(spec.window.end())),
            compression: v1::Compression::from(spec.compression).into(),
            file_format: v1::FileFormat::from(spec.format).into(),
            format_version: v1::FormatVersion::from(spec.format_version).into(),
            export_fields: names.into_iter().map(str::to_owned).collect(),
            interval_hours: spec.every.map_or(0, Hours::get),
            filter: spec.filter.as_ref().map(|filter| filter.text().to_owned()).unwrap_or_default(),
        }
    }
}

impl From<&Export> for v1::Export {
    /// Leaves out progress, reconciliation and read times, which are derived from the export's
    /// tasks.
    fn from(export: &Export) -> Self {
        Self {
            id: export.id.to_string(),
            tenant_id: export.tenant.to_string(),
            spec: Some((&export.spec).into()),
            status: v1::ExportStatus::from(export.status).into(),
            created_at: Some(time_to(export.created_at)),
            updated_at: Some(time_to(export.updated_at)),
            finished_at: export.finished_at.map(time_to),
            source_export_id: export.source.map(|id| id.to_string()).unwrap_or_default(),
            progress: None,
            error: export.error.clone().unwrap_or_default(),
            reconciliation: None,
            read_at: None,
            window_open: false,
        }
    }
}

impl From<ExportStatus> for v1::ExportStatus {
    fn from(status: ExportStatus) -> Self {
        match status {
            ExportStatus::Created => Self::Created,
            ExportStatus::Running => Self::Running,
            ExportStatus::Completed => Self::Completed,
            ExportStatus::Failed => Self::Failed,
            ExportStatus::Cancelled => Self::Cancelled,
            ExportStatus::TimedOut => Self::TimedOut,
            ExportStatus::IntervalScheduled => Self::IntervalScheduled,
        }
    }
}

impl v1::ExportStatus {
    /// The domain status; `None` if unspecified.
    pub fn known(self) -> Option<ExportStatus> {
        ExportStatus::ALL.iter().copied().find(|status| Self::from(*status) == self)
    }

    /// The string used by the REST API; empty if unspecified.
    pub fn word(self) -> &'static str {
        self.known().map_or("", ExportStatus::as_str)
    }
}

impl From<RunStatus> for v1::RunStatus {
    fn from(status: RunStatus) -> Self {
        match status {
            RunStatus::Created => Self::Created,
            RunStatus::Running => Self::Running,
            RunStatus::Completed => Self::Completed,
            RunStatus::Failed => Self::Failed,
            RunStatus::Cancelled => Self::Cancelled,
            RunStatus::TimedOut => Self::TimedOut,
        }
    }
}

impl v1::RunStatus {
    /// The string used by the REST API; empty if unspecified.
    pub fn word(self) -> &'static str {
        RunStatus::ALL
            .into_iter()
            .find(|status| Self::from(*status) == self)
            .map_or("", RunStatus::as_str)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_wrong_field_of_a_spec_is_named_at_once() {
        let spec = v1::ExportSpec {
            compression: 99,
            file_format: 99,
            export_fields: vec!["colour".into()],
            filter: "eq(".into(),
            ..Default::default()
        };
        let fields: Vec<_> = spec
            .check(366, Compression::default())
            .unwrap_err()
            .into_iter()
            .map(|fault| fault.field)
            .collect();
        assert_eq!(
            fields,
            [
                "destination_id",
                "session_id",
                "start_time",
                "end_time",
                "compression",
                "file_format",
                "export_fields.0",
                "filter"
            ]
        );
    }

    #[test]
    fn an_export_is_of_one_project_or_of_all_experiments() {
        let id = "0190d1a2-0000-7000-8000-000000000001".to_owned();
        let time = |text| Some(time_to(tracelift_core::time::Timestamp::parse("t", text).unwrap()));
        let given = v1::ExportSpec {
            destination_id: id.clone(),
            all_experiments: true,
            start_time: time("2024-01-01"),
            end_time: time("2024-01-02"),
            compression: v1::Compression::Zstandard.into(),
            file_format: v1::FileFormat::Parquet.into(),
            format_version: v1::FormatVersion::V1.into(),
            ..Default::default()
        };
        let spec = given.check(366, Compression::default()).unwrap();
        assert_eq!(spec.projects, Projects::Experiments);
        assert_eq!(v1::ExportSpec::from(&spec), given);
        let fault = |spec: v1::ExportSpec| {
            spec.check(366, Compression::default())
                .unwrap_err()
                .into_iter()
                .map(|fault| fault.to_string())
                .collect::<Vec<_>>()
        };
        let neither = v1::ExportSpec { all_experiments: false, ..given.clone() };
        assert_eq!(fault(neither), ["session_id: is required, unless all_experiments is true"]);
        assert_eq!(
            fault(v1::ExportSpec { session_id: id, ..given }),
            ["session_id: must not be given together with all_experiments"]
        );
    }

    #[test]
    fn a_schedule_has_no_end_and_is_read_back_as_it_was() {
        let id = "0190d1a2-0000-7000-8000-000000000001".to_owned();
        let time = |text| Some(time_to(tracelift_core::time::Timestamp::parse("t", text).unwrap()));
        let given = v1::ExportSpec {
            destination_id: id.clone(),
            session_id: id,
            start_time: time("2024-01-01"),
            interval_hours: 24,
            compression: v1::Compression::Zstandard.into(),
            file_format: v1::FileFormat::Parquet.into(),
            format_version: v1::FormatVersion::V1.into(),
            ..Default::default()
        };
        let spec = given.check(366, Compression::default()).unwrap();
        assert_eq!((spec.window.days(), spec.every.map(Hours::get)), (1, Some(24)));
        assert_eq!(v1::ExportSpec::from(&spec), given);
        let spawned = v1::ExportSpec::from(&spec.spawned(2).unwrap());
        assert_eq!(
            (spawned.start_time, spawned.end_time, spawned.interval_hours),
            (time("2024-01-03"), time("2024-01-04"), 0)
        );

        let faults = |spec: v1::ExportSpec| {
            spec.check(366, Compression::default())
                .unwrap_err()
                .into_iter()
                .map(|fault| fault.field)
                .collect::<Vec<_>>()
        };
        assert_eq!(
            faults(v1::ExportSpec { end_time: time("2024-01-02"), ..given.clone() }),
            ["end_time"]
        );
        assert_eq!(
            faults(v1::ExportSpec { interval_hours: 169, ..given.clone() }),
            ["interval_hours"]
        );
        assert_eq!(faults(v1::ExportSpec { interval_hours: 0, ..given }), ["end_time"]);
    }

    #[test]
    fn every_status_has_a_word_on_the_wire() {
        for status in ExportStatus::ALL {
            assert_eq!(v1::ExportStatus::from(*status).word(), status.as_str());
        }
        for status in RunStatus::ALL {
            assert_eq!(v1::RunStatus::from(status).word(), status.as_str());
        }
    }
}
