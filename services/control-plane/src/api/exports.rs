//! ExportService: planning, looking, cancelling, watching.

use std::{pin::Pin, sync::Arc, time::Duration};

use futures::{Stream, stream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, broadcast};
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status};
use tracelift_core::{
    Invalid,
    export::{Export, ExportStatus},
    filter::Filter,
    id::{ExportId, RunId, TenantId},
    plan,
    run::{Run, Work},
    time::Timestamp,
};
use tracelift_proto::{
    status::{invalid, overloaded, retry_later},
    v1::{self, export_service_server::ExportService},
};
use uuid::Uuid;

use super::{page, unavailable, view};
use crate::{
    admission::RETRY_SECONDS,
    auth::Caller,
    store::{Change, ExportView, Permission, Store},
};

#[derive(Clone)]
pub(crate) struct Exports {
    pub(crate) store: Arc<dyn Store>,
    pub(crate) max_days: u64,
    /// Room for watches.
    pub(crate) watches: Arc<Semaphore>,
    pub(crate) stopping: CancellationToken,
}

/// Exports in one answer unless the caller says otherwise.
const DEFAULT_LIMIT: u32 = 100;
/// Shortest time between two answers of a watch.
const WATCH_INTERVAL: Duration = Duration::from_millis(250);
/// A watch looks again after that long even when it heard nothing: news can be lost.
const WATCH_SWEEP: Duration = Duration::from_secs(5);

impl Exports {
    async fn view(&self, tenant: TenantId, id: ExportId) -> Result<ExportView, Status> {
        self.store.export(tenant, id).await.map_err(unavailable)?.ok_or_else(|| absent(id))
    }

    async fn shown(&self, view: &ExportView) -> Result<Option<v1::Export>, Status> {
        Ok(Some(view::export(view, self.now().await?)))
    }

    async fn now(&self) -> Result<Timestamp, Status> {
        self.store.now().await.map_err(unavailable)
    }
}

fn absent(id: ExportId) -> Status {
    Status::not_found(format!("export {id} does not exist"))
}

fn export_id(field: &str, text: &str) -> Result<ExportId, Status> {
    ExportId::parse(field, text).map_err(|fault| invalid([fault]))
}

#[tonic::async_trait]
impl ExportService for Exports {
    async fn create_export(&self, request: Request<v1::CreateExportRequest>) -> Result<Response<v1::CreateExportResponse>, Status> {
        let tenant = Caller::of(&request, Permission::Manage)?.tenant;
        let spec = request.into_inner().spec.unwrap_or_default();
        let spec = spec.check(self.max_days).map_err(|faults| invalid(faults.into_iter().map(|fault| fault.within("spec"))))?;
        let (id, now) = (ExportId(Uuid::now_v7()), self.now().await?);
        let partitions = plan::partitions(spec.window).into_iter().map(Work::Partition);
        let runs: Vec<_> = partitions.map(|work| Run::new(RunId(Uuid::now_v7()), id, tenant, spec.session, work, now)).collect();
        let destination = spec.destination;
        let export = Export {
            id,
            tenant,
            spec,
            status: ExportStatus::Created,
            source: None,
            error: None,
            created_at: now,
            updated_at: now,
            finished_at: None,
        };
        let view = ExportView::planned(export.clone(), runs.len());
        if !self.store.create_export(export, runs).await.map_err(unavailable)? {
            return Err(Status::not_found(format!("destination {destination} does not exist")));
        }
        Ok(Response::new(v1::CreateExportResponse { export: self.shown(&view).await? }))
    }

    async fn get_export(&self, request: Request<v1::GetExportRequest>) -> Result<Response<v1::GetExportResponse>, Status> {
        let tenant = Caller::of(&request, Permission::Read)?.tenant;
        let view = self.view(tenant, export_id("id", &request.get_ref().id)?).await?;
        Ok(Response::new(v1::GetExportResponse { export: self.shown(&view).await? }))
    }

    async fn list_exports(&self, request: Request<v1::ListExportsRequest>) -> Result<Response<v1::ListExportsResponse>, Status> {
        let tenant = Caller::of(&request, Permission::Read)?.tenant;
        let page = page(request.get_ref().limit, request.get_ref().offset, Some(DEFAULT_LIMIT))?;
        let views = self.store.exports(tenant, page).await.map_err(unavailable)?;
        let now = self.now().await?;
        Ok(Response::new(v1::ListExportsResponse { exports: views.iter().map(|view| view::export(view, now)).collect() }))
    }

    async fn cancel_export(&self, request: Request<v1::CancelExportRequest>) -> Result<Response<v1::CancelExportResponse>, Status> {
        let tenant = Caller::of(&request, Permission::Manage)?.tenant;
        let id = export_id("id", &request.get_ref().id)?;
        let view = self.store.cancel_export(tenant, id, self.now().await?).await.map_err(unavailable)?.ok_or_else(|| absent(id))?;
        match view.export.status {
            ExportStatus::Cancelled => Ok(Response::new(v1::CancelExportResponse { export: self.shown(&view).await? })),
            ended => Err(Status::failed_precondition(format!("export {id} has ended already: {}", ended.as_str()))),
        }
    }

    type WatchExportStream = Pin<Box<dyn Stream<Item = Result<v1::WatchExportResponse, Status>> + Send>>;

    async fn watch_export(&self, request: Request<v1::WatchExportRequest>) -> Result<Response<Self::WatchExportStream>, Status> {
        let tenant = Caller::of(&request, Permission::Read)?.tenant;
        let id = export_id("id", &request.get_ref().id)?;
        let full = |_| overloaded("the control plane has too many watches under way; try again shortly", RETRY_SECONDS);
        let place = self.watches.clone().try_acquire_owned().map_err(full)?;
        let news = self.store.changes();
        self.view(tenant, id).await?;
        let watch = Watch { exports: self.clone(), tenant, id, news, first: true, ended: false, _place: place };
        Ok(Response::new(Box::pin(stream::unfold(watch, Watch::next))))
    }

    async fn list_runs(&self, request: Request<v1::ListRunsRequest>) -> Result<Response<v1::ListRunsResponse>, Status> {
        let tenant = Caller::of(&request, Permission::Read)?.tenant;
        let id = export_id("export_id", &request.get_ref().export_id)?;
        let page = page(request.get_ref().limit, request.get_ref().offset, None)?;
        let runs = self.store.runs(tenant, id, page).await.map_err(unavailable)?.ok_or_else(|| absent(id))?;
        Ok(Response::new(v1::ListRunsResponse { runs: runs.iter().map(view::run).collect() }))
    }

    async fn get_run(&self, request: Request<v1::GetRunRequest>) -> Result<Response<v1::GetRunResponse>, Status> {
        let tenant = Caller::of(&request, Permission::Read)?.tenant;
        let id = export_id("export_id", &request.get_ref().export_id)?;
        let run = RunId::parse("run_id", &request.get_ref().run_id).map_err(|fault: Invalid| invalid([fault]))?;
        let found = self.store.run(tenant, id, run).await.map_err(unavailable)?;
        let found = found.ok_or_else(|| Status::not_found(format!("run {run} of export {id} does not exist")))?;
        Ok(Response::new(v1::GetRunResponse { run: Some(view::run(&found)) }))
    }

    async fn list_schedule_runs(
        &self,
        request: Request<v1::ListScheduleRunsRequest>,
    ) -> Result<Response<v1::ListScheduleRunsResponse>, Status> {
        let tenant = Caller::of(&request, Permission::Read)?.tenant;
        let source = export_id("source_export_id", &request.get_ref().source_export_id)?;
        let page = page(request.get_ref().limit, request.get_ref().offset, None)?;
        let runs = self.store.schedule_runs(tenant, source, page).await.map_err(unavailable)?.ok_or_else(|| absent(source))?;
        Ok(Response::new(v1::ListScheduleRunsResponse { runs: runs.iter().map(view::run).collect() }))
    }

    async fn validate_filter(&self, request: Request<v1::ValidateFilterRequest>) -> Result<Response<v1::ValidateFilterResponse>, Status> {
        Caller::of(&request, Permission::Read)?;
        let errors = filter_errors(request.get_ref());
        Ok(Response::new(v1::ValidateFilterResponse { valid: errors.is_empty(), errors }))
    }
}

/// What is wrong with each filter of a request.
fn filter_errors(request: &v1::ValidateFilterRequest) -> Vec<v1::FilterError> {
    let filters = [("filter", &request.filter), ("trace_filter", &request.trace_filter), ("tree_filter", &request.tree_filter)];
    let faults = filters.into_iter().filter_map(|(field, text)| Filter::parse(field, text).err()).flatten();
    faults.map(|Invalid { field, message }| v1::FilterError { field, message }).collect()
}

/// One caller's watch of one export.
struct Watch {
    exports: Exports,
    tenant: TenantId,
    id: ExportId,
    news: broadcast::Receiver<Change>,
    first: bool,
    ended: bool,
    /// Its place among the watches, until it ends.
    _place: OwnedSemaphorePermit,
}

type Watched = Option<(Result<v1::WatchExportResponse, Status>, Watch)>;

impl Watch {
    async fn next(mut self) -> Watched {
        if self.ended {
            return None;
        }
        if !std::mem::take(&mut self.first) {
            let stopping = self.exports.stopping.clone();
            let waited = stopping.run_until_cancelled(async {
                tokio::time::sleep(WATCH_INTERVAL).await;
                let _ = tokio::time::timeout(WATCH_SWEEP, self.something_new()).await; // late or not, it looks again
            });
            if waited.await.is_none() {
                self.ended = true;
                return Some((Err(retry_later("the control plane is stopping; watch again", 1)), self));
            }
        }
        let answer = self.look().await;
        self.ended |= answer.is_err();
        Some((answer, self))
    }

    async fn look(&mut self) -> Result<v1::WatchExportResponse, Status> {
        let view = self.exports.view(self.tenant, self.id).await?;
        self.ended = view.export.status.ended();
        Ok(v1::WatchExportResponse { export: self.exports.shown(&view).await? })
    }

    /// Waits for news of this export and takes in what else has come meanwhile.
    async fn something_new(&mut self) {
        loop {
            match self.news.recv().await {
                Ok(Change::Export(id)) if id == self.id => break,
                Ok(Change::Missed) => break,
                Ok(_) => {}
                Err(broadcast::error::RecvError::Lagged(_)) => break,
                Err(broadcast::error::RecvError::Closed) => std::future::pending().await,
            }
        }
        self.news = self.news.resubscribe();
    }
}
