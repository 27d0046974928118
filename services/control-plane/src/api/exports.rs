//! ExportService: create, read, cancel and watch exports.

use std::{pin::Pin, sync::Arc, time::Duration};

use futures::{Stream, stream};
use prost::Message as _;
use sha2::{Digest as _, Sha256};
use tokio::sync::broadcast;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status};
use tracelift_core::{
    Invalid,
    export::{ExportSpec, ExportStatus},
    filter::Filter,
    id::{DestinationId, ExportId, KeyId, SessionId, TaskId, TenantId},
    invalid::Faults,
    schedule,
    task::MAX_ATTEMPTS,
    time::Timestamp,
};
use tracelift_proto::{
    status::{invalid, overloaded, retry_later},
    v1::{self, export_service_server::ExportService},
};
use tracelift_runtime::shares::{Full, Place as WatchPlace, Places};

use super::{
    OTHER_REQUEST,
    limits::{self, Terms},
    pages::{self, page},
    request_key, unavailable, view,
};
use crate::{
    admission::RETRY_SECONDS,
    auth::{Caller, act},
    keys::Keys,
    planning::planned,
    store::{
        Actor, Change, CreateOutcome, ExportFilter, ExportView, NewExport, Permission, Place,
        RequestKey, Retry, RunView, Store,
    },
};

#[derive(Clone)]
pub(crate) struct Exports {
    pub(crate) store: Arc<Store>,
    /// The limits of a workspace.
    pub(crate) terms: Terms,
    /// Places for watches.
    pub(crate) watches: Places<TenantId>,
    pub(crate) keys: Keys,
    pub(crate) stopping: CancellationToken,
}

/// The prefixes of the page tokens of each list.
const EXPORTS: &str = "exports";
const RUNS: &str = "runs";
const SCHEDULE_RUNS: &str = "schedule-runs";
const FILES: &str = "files";
/// Exports in one response unless the caller asks for another number.
const DEFAULT_LIMIT: u32 = 100;
/// Shortest time between two responses of a watch.
const WATCH_INTERVAL: Duration = Duration::from_millis(250);
/// A watch rereads its export this often even without a notification: notifications can be lost.
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

/// The requested export and its idempotency key, or every invalid field. Requests are compared
/// after all defaults have been filled in.
fn asked(
    spec: &v1::ExportSpec,
    key: String,
    terms: &Terms,
    now: Timestamp,
) -> Result<(ExportSpec, Option<RequestKey>), Vec<Invalid>> {
    let mut faults = Faults::default();
    let spec = faults.take_all("spec", spec.check(terms.max_days, terms.compression));
    if let Some(schedule) = spec.as_ref().filter(|spec| spec.every.is_some()) {
        let start = schedule::check_start(schedule.window.start(), terms.max_days_back, now);
        faults.take(start.map_err(|fault| fault.within("spec")));
    }
    let key = faults.take(request_key(key));
    let (spec, key) = faults.finish(spec.zip(key))?;
    let digest = || Sha256::digest(v1::ExportSpec::from(&spec).encode_to_vec()).into();
    let request = key.map(|key| RequestKey { key, digests: vec![digest()] });
    Ok((spec, request))
}

/// Which exports to list, or every invalid field.
fn wanted(request: &v1::ListExportsRequest) -> Result<ExportFilter, Vec<Invalid>> {
    let mut faults = Faults::default();
    let given = |text: &str| Some(text.to_owned()).filter(|text| !text.is_empty());
    let destination = given(&request.destination_id)
        .and_then(|id| faults.take(DestinationId::parse("destination_id", &id)));
    let session =
        given(&request.session_id).and_then(|id| faults.take(SessionId::parse("session_id", &id)));
    let known = |(index, status): (usize, &i32)| {
        let known = v1::ExportStatus::try_from(*status).ok().and_then(v1::ExportStatus::known);
        faults.take(known.ok_or_else(|| {
            Invalid::new(format!("statuses.{index}"), "must be a status of exports")
        }))
    };
    // Each once: every number of statuses is a statement of its own, which connections keep.
    let mut statuses = Vec::new();
    for status in request.statuses.iter().enumerate().filter_map(known) {
        if !statuses.contains(&status) {
            statuses.push(status);
        }
    }
    faults.finish(Some(ExportFilter { statuses, destination, session }))
}

fn no_run(export: ExportId, run: TaskId) -> Status {
    Status::not_found(format!("run {run} of export {export} does not exist"))
}

fn shown_run(view: RunView) -> (Place, v1::ExportRun) {
    (pages::of_run(&view), view::run(&view))
}

/// The ids of a run and of its export.
fn run_id(export: &str, run: &str) -> Result<(ExportId, TaskId), Status> {
    Ok((
        export_id("export_id", export)?,
        TaskId::parse("run_id", run).map_err(|fault| invalid([fault]))?,
    ))
}

fn export_id(field: &str, text: &str) -> Result<ExportId, Status> {
    ExportId::parse(field, text).map_err(|fault| invalid([fault]))
}

#[tonic::async_trait]
impl ExportService for Exports {
    async fn create_export(
        &self,
        request: Request<v1::CreateExportRequest>,
    ) -> Result<Response<v1::CreateExportResponse>, Status> {
        let (tenant, act) = (Caller::actor(&request, Permission::Manage)?.tenant, act(&request)?);
        let v1::CreateExportRequest { spec, idempotency_key } = request.into_inner();
        let now = self.now().await?;
        let (spec, request) =
            asked(&spec.unwrap_or_default(), idempotency_key, &self.terms, now).map_err(invalid)?;
        let destination = spec.destination;
        let (export, runs) = planned(tenant, spec, None, now);
        let new = NewExport { export, tasks: runs, quota: self.terms.quota, request };
        match self.store.create_export(act, new).await.map_err(unavailable)? {
            CreateOutcome::Now(view) | CreateOutcome::Before(view) => {
                Ok(Response::new(v1::CreateExportResponse { export: self.shown(&view).await? }))
            }
            CreateOutcome::NoDestination => {
                Err(Status::not_found(format!("destination {destination} does not exist")))
            }
            CreateOutcome::OtherRequest => Err(Status::already_exists(OTHER_REQUEST)),
            CreateOutcome::Full(full) => Err(limits::refusal(full)),
        }
    }

    async fn get_export(
        &self,
        request: Request<v1::GetExportRequest>,
    ) -> Result<Response<v1::GetExportResponse>, Status> {
        let tenant = Caller::actor(&request, Permission::Read)?.tenant;
        let view = self.view(tenant, export_id("id", &request.get_ref().id)?).await?;
        Ok(Response::new(v1::GetExportResponse { export: self.shown(&view).await? }))
    }

    async fn list_exports(
        &self,
        request: Request<v1::ListExportsRequest>,
    ) -> Result<Response<v1::ListExportsResponse>, Status> {
        let tenant = Caller::actor(&request, Permission::Read)?.tenant;
        let v1::ListExportsRequest { limit, offset, page_token, .. } = request.get_ref();
        let asked = page(EXPORTS, *limit, *offset, page_token, Some(DEFAULT_LIMIT))?;
        let (wanted, now) = (wanted(request.get_ref()).map_err(invalid)?, self.now().await?);
        let read = async |page| {
            self.store.exports(tenant, wanted.clone(), page).await.map_err(unavailable)
        };
        let show = |view: ExportView| (pages::of_export(&view), view::export(&view, now));
        let (exports, next_page_token) = pages::fill(
            EXPORTS,
            asked.limit,
            asked.after,
            |after, most| read(asked.from(after, most)),
            show,
        )
        .await?;
        Ok(Response::new(v1::ListExportsResponse { exports, next_page_token }))
    }

    async fn cancel_export(
        &self,
        request: Request<v1::CancelExportRequest>,
    ) -> Result<Response<v1::CancelExportResponse>, Status> {
        let (tenant, act) = (Caller::actor(&request, Permission::Manage)?.tenant, act(&request)?);
        let id = export_id("id", &request.get_ref().id)?;
        let view = self
            .store
            .cancel_export(act, tenant, id, self.now().await?)
            .await
            .map_err(unavailable)?
            .ok_or_else(|| absent(id))?;
        match view.export.status {
            ExportStatus::Cancelled => {
                Ok(Response::new(v1::CancelExportResponse { export: self.shown(&view).await? }))
            }
            ended => Err(Status::failed_precondition(format!(
                "export {id} has ended already: {}",
                ended.as_str()
            ))),
        }
    }

    type WatchExportStream =
        Pin<Box<dyn Stream<Item = Result<v1::WatchExportResponse, Status>> + Send>>;

    async fn watch_export(
        &self,
        request: Request<v1::WatchExportRequest>,
    ) -> Result<Response<Self::WatchExportStream>, Status> {
        let Actor { tenant, key } = Caller::actor(&request, Permission::Read)?;
        let id = export_id("id", &request.get_ref().id)?;
        let place = self.watches.take(tenant).map_err(too_many_watches)?;
        let notifications = self.store.changes();
        self.view(tenant, id).await?;
        let watch = Watch {
            exports: self.clone(),
            tenant,
            key,
            id,
            notifications,
            first: true,
            ended: false,
            is_to_ask_for_key: false,
            _place: place,
        };
        Ok(Response::new(Box::pin(stream::unfold(watch, Watch::next))))
    }

    async fn list_runs(
        &self,
        request: Request<v1::ListRunsRequest>,
    ) -> Result<Response<v1::ListRunsResponse>, Status> {
        let tenant = Caller::actor(&request, Permission::Read)?.tenant;
        let id = export_id("export_id", &request.get_ref().export_id)?;
        let asked = page(
            RUNS,
            request.get_ref().limit,
            request.get_ref().offset,
            &request.get_ref().page_token,
            None,
        )?;
        let read = async |page| {
            self.store.tasks(tenant, id, page).await.map_err(unavailable)?.ok_or_else(|| absent(id))
        };
        let (runs, next_page_token) = pages::fill(
            RUNS,
            asked.limit,
            asked.after,
            |after, most| read(asked.from(after, most)),
            shown_run,
        )
        .await?;
        Ok(Response::new(v1::ListRunsResponse { runs, next_page_token }))
    }

    async fn list_run_files(
        &self,
        request: Request<v1::ListRunFilesRequest>,
    ) -> Result<Response<v1::ListRunFilesResponse>, Status> {
        let tenant = Caller::actor(&request, Permission::Read)?.tenant;
        let v1::ListRunFilesRequest { limit, page_token, .. } = request.get_ref();
        let (id, run) = run_id(&request.get_ref().export_id, &request.get_ref().run_id)?;
        let read = async |after, most| {
            let found = self
                .store
                .run_files(tenant, id, run, after, most)
                .await
                .map_err(unavailable)?
                .ok_or_else(|| no_run(id, run))?;
            Ok(found
                .keys
                .into_iter()
                .map(|(number, key)| (number, format!("{}/{key}", found.bucket.name)))
                .collect())
        };
        let (limit, after) = (pages::limited(*limit)?, pages::place(FILES, page_token)?);
        let (files, next_page_token) =
            pages::fill(FILES, limit, after, read, std::convert::identity).await?;
        Ok(Response::new(v1::ListRunFilesResponse { files, next_page_token }))
    }

    async fn get_run(
        &self,
        request: Request<v1::GetRunRequest>,
    ) -> Result<Response<v1::GetRunResponse>, Status> {
        let tenant = Caller::actor(&request, Permission::Read)?.tenant;
        let (id, run) = run_id(&request.get_ref().export_id, &request.get_ref().run_id)?;
        let found = self.store.run(tenant, id, run).await.map_err(unavailable)?;
        let found = found.ok_or_else(|| no_run(id, run))?;
        Ok(Response::new(v1::GetRunResponse { run: Some(view::run(&found)) }))
    }

    async fn retry_run(
        &self,
        request: Request<v1::RetryRunRequest>,
    ) -> Result<Response<v1::RetryRunResponse>, Status> {
        let (tenant, act) = (Caller::actor(&request, Permission::Manage)?.tenant, act(&request)?);
        let (id, run) = run_id(&request.get_ref().export_id, &request.get_ref().run_id)?;
        let now = self.now().await?;
        match self.store.retry_run(act, tenant, id, run, now).await.map_err(unavailable)? {
            Some(Retry::Queued(queued)) => {
                Ok(Response::new(v1::RetryRunResponse { run: Some(view::run(&queued)) }))
            }
            Some(Retry::Cancelled) => Err(Status::failed_precondition(format!(
                "export {id} was cancelled: make a new one"
            ))),
            Some(Retry::NoDestination) => Err(Status::failed_precondition(format!(
                "the destination of export {id} was deleted: make a new export to another"
            ))),
            Some(Retry::Spent) => Err(Status::failed_precondition(format!(
                "run {run} was tried {MAX_ATTEMPTS} times: make a new export"
            ))),
            Some(Retry::Not(status)) => {
                let text = format!(
                    "run {run} is {}: only one that has Failed or TimedOut can be retried",
                    status.as_str()
                );
                Err(Status::failed_precondition(text))
            }
            None => Err(no_run(id, run)),
        }
    }

    async fn get_limits(
        &self,
        request: Request<v1::GetLimitsRequest>,
    ) -> Result<Response<v1::GetLimitsResponse>, Status> {
        let tenant = Caller::actor(&request, Permission::Read)?.tenant;
        let usage = self.store.usage(tenant, self.now().await?).await.map_err(unavailable)?;
        Ok(Response::new(v1::GetLimitsResponse {
            limits: Some(limits::limits(&self.terms, usage)),
        }))
    }

    async fn list_schedule_runs(
        &self,
        request: Request<v1::ListScheduleRunsRequest>,
    ) -> Result<Response<v1::ListScheduleRunsResponse>, Status> {
        let tenant = Caller::actor(&request, Permission::Read)?.tenant;
        let source = export_id("source_export_id", &request.get_ref().source_export_id)?;
        let asked = page(
            SCHEDULE_RUNS,
            request.get_ref().limit,
            request.get_ref().offset,
            &request.get_ref().page_token,
            None,
        )?;
        let read = async |page| {
            self.store
                .schedule_runs(tenant, source, page)
                .await
                .map_err(unavailable)?
                .ok_or_else(|| absent(source))
        };
        let next = |after, most| read(asked.from(after, most));
        let (runs, next_page_token) =
            pages::fill(SCHEDULE_RUNS, asked.limit, asked.after, next, shown_run).await?;
        Ok(Response::new(v1::ListScheduleRunsResponse { runs, next_page_token }))
    }

    async fn validate_filter(
        &self,
        request: Request<v1::ValidateFilterRequest>,
    ) -> Result<Response<v1::ValidateFilterResponse>, Status> {
        Caller::actor(&request, Permission::Read)?;
        let errors = filter_errors(request.get_ref());
        Ok(Response::new(v1::ValidateFilterResponse { valid: errors.is_empty(), errors }))
    }
}

/// The errors in each filter of a request.
fn filter_errors(request: &v1::ValidateFilterRequest) -> Vec<v1::FilterError> {
    let filters = [
        ("filter", &request.filter),
        ("trace_filter", &request.trace_filter),
        ("tree_filter", &request.tree_filter),
    ];
    let faults =
        filters.into_iter().filter_map(|(field, text)| Filter::parse(field, text).err()).flatten();
    faults.map(|Invalid { field, message, .. }| v1::FilterError { field, message }).collect()
}

fn too_many_watches(full: Full) -> Status {
    let text = match full {
        Full::Share => "the workspace has as many watches under way as it may; end one of them",
        Full::All => "the control plane has too many watches under way; try again shortly",
    };
    overloaded(text, RETRY_SECONDS)
}

/// A caller's watch of one export.
struct Watch {
    exports: Exports,
    tenant: TenantId,
    key: KeyId,
    id: ExportId,
    notifications: broadcast::Receiver<Change>,
    first: bool,
    ended: bool,
    /// Whether its key may have been revoked since it was last looked at.
    is_to_ask_for_key: bool,
    /// Held until the watch ends.
    _place: WatchPlace<TenantId>,
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
                // Late or not, the export is reread.
                tokio::time::timeout(WATCH_SWEEP, self.something_new()).await.is_err()
            });
            let waited = waited.await;
            if waited == Some(true) {
                self.is_to_ask_for_key = true;
            }
            if waited.is_none() {
                self.ended = true;
                return Some((
                    Err(retry_later("the control plane is stopping; watch again", 1)),
                    self,
                ));
            }
        }
        let answer = self.resync().await;
        self.ended |= answer.is_err();
        Some((answer, self))
    }

    async fn resync(&mut self) -> Result<v1::WatchExportResponse, Status> {
        if std::mem::take(&mut self.is_to_ask_for_key) {
            self.exports.keys.check(self.key).await?;
        }
        let view = self.exports.view(self.tenant, self.id).await?;
        self.ended = view.export.status.ended();
        Ok(v1::WatchExportResponse { export: self.exports.shown(&view).await? })
    }

    /// Waits for a notification about this export, then drains the others that have arrived.
    async fn something_new(&mut self) {
        loop {
            match self.notifications.recv().await {
                Ok(Change::Export(id)) if id == self.id => break,
                Ok(Change::KeyRevoked(key)) if key != self.key => {}
                Ok(Change::Tenant(tenant)) if tenant != self.tenant => {}
                Ok(Change::Missed | Change::KeyRevoked(_) | Change::Tenant(_))
                | Err(broadcast::error::RecvError::Lagged(_)) => {
                    self.is_to_ask_for_key = true;
                    break;
                }
                Ok(_) => {}
                Err(broadcast::error::RecvError::Closed) => std::future::pending().await,
            }
        }
        self.notifications = self.notifications.resubscribe();
    }
}
