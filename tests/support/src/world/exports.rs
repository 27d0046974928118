//! Destinations and exports of a world: what its customer asks for, and waits for.

use tonic::{Response, Status};
use tracelift_proto::{pages, time_to, v1};

use super::{DESTINATION_BUCKET, World};
use crate::{
    dataset::PROJECT_ID,
    s3::{ACCESS_KEY_ID, SECRET_ACCESS_KEY},
};

impl World {
    /// Creates a destination with this prefix.
    pub async fn destination(&self, prefix: &str) -> String {
        self.destination_with(prefix, |_| {}).await.expect("a destination").id
    }

    /// Creates a destination with this prefix and a modified bucket configuration.
    pub async fn destination_with(
        &self,
        prefix: &str,
        change: impl FnOnce(&mut v1::BucketConfig),
    ) -> Result<v1::Destination, Status> {
        let mut request = v1::CreateDestinationRequest {
            display_name: "test".to_owned(),
            config: Some(v1::BucketConfig {
                bucket_name: DESTINATION_BUCKET.to_owned(),
                prefix: prefix.to_owned(),
                endpoint_url: self.s3.url(),
                ..Default::default()
            }),
            credentials: Some(v1::Credentials {
                access_key_id: ACCESS_KEY_ID.to_owned(),
                secret_access_key: SECRET_ACCESS_KEY.to_owned(),
                session_token: String::new(),
            }),
            ..Default::default()
        };
        change(request.config.as_mut().expect("just given"));
        let made = self.destinations().create_destination(request).await?.into_inner();
        Ok(made.destination.expect("a destination"))
    }

    /// Creates an export of the data set's project.
    pub async fn export(&self, start: &str, end: &str) -> String {
        self.export_with(start, end, |_| {}).await
    }

    pub async fn export_with(
        &self,
        start: &str,
        end: &str,
        change: impl FnOnce(&mut v1::ExportSpec),
    ) -> String {
        let at = |text| {
            Some(time_to(tracelift_core::time::Timestamp::parse("t", text).expect("a time")))
        };
        let mut spec = v1::ExportSpec {
            destination_id: self.destination("test").await,
            session_id: PROJECT_ID.to_owned(),
            start_time: at(start),
            end_time: at(end),
            ..Default::default()
        };
        change(&mut spec);
        let made = self
            .exports()
            .create_export(v1::CreateExportRequest { spec: Some(spec), ..Default::default() })
            .await
            .expect("an export")
            .into_inner();
        made.export.expect("an export").id
    }

    /// Watches an export until it has ended, reopening a broken stream.
    pub async fn ended(&self, id: &str) -> v1::Export {
        self.watched(id, |export| {
            export.status().known().is_some_and(tracelift_core::export::ExportStatus::ended)
        })
        .await
    }

    /// Watches an export until it satisfies `wanted`.
    pub async fn watched(&self, id: &str, wanted: impl Fn(&v1::Export) -> bool) -> v1::Export {
        loop {
            let request = v1::WatchExportRequest { id: id.to_owned() };
            let Ok(stream) = self.exports().watch_export(request).await else {
                tokio::task::yield_now().await;
                continue;
            };
            let mut stream = stream.into_inner();
            while let Ok(Some(answer)) = stream.message().await {
                let export = answer.export.expect("an export");
                if wanted(&export) {
                    return export;
                }
            }
        }
    }

    /// Polls until the export satisfies `wanted`; for changes after an export has ended, which a
    /// watch does not report.
    async fn asked(&self, id: &str, wanted: impl Fn(&v1::Export) -> bool) -> v1::Export {
        loop {
            let answer = self
                .exports()
                .get_export(v1::GetExportRequest { id: id.to_owned() })
                .await
                .expect("an export")
                .into_inner();
            let export = answer.export.expect("an export");
            if wanted(&export) {
                return export;
            }
        }
    }

    /// Waits until the export's rows have been counted in ClickHouse.
    pub async fn reconciled(&self, id: &str) -> v1::Reconciliation {
        let counted = self.asked(id, |export| export.reconciliation.is_some()).await;
        counted.reconciliation.expect("just seen")
    }

    /// Waits until an ended export has no open uploads, and returns its runs.
    pub async fn cleaned_up(&self, id: &str) -> Vec<v1::ExportRun> {
        loop {
            let runs = self.runs(id).await;
            let pending = |run: &v1::ExportRun| {
                run.result.as_ref().is_some_and(|result| result.pending_upload.is_some())
            };
            let open = self.s3.open_uploads().iter().any(|(key, _)| key.contains(id));
            if !open && !runs.iter().any(pending) {
                return runs;
            }
        }
    }

    /// The runs of an export.
    pub async fn runs(&self, id: &str) -> Vec<v1::ExportRun> {
        let runs = pages::follow(0, |limit, page_token| {
            let request =
                v1::ListRunsRequest { export_id: id.to_owned(), limit, offset: 0, page_token };
            let mut exports = self.exports();
            async move { exports.list_runs(request).await.map(Response::into_inner) }
        });
        runs.await.expect("runs")
    }
}
