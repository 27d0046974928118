//! The three public services, each of which returns the responses in `answers`.

use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status};
use tracelift_proto::v1::{
    self, admin_service_server::AdminService, destination_service_server::DestinationService,
    export_service_server::ExportService,
};

use crate::{
    answers::{EXPORT, RUN, TENANT, at, audit, destination, export, limits},
    control_plane::{Change, FakeControlPlane},
};

#[tonic::async_trait]
impl ExportService for FakeControlPlane {
    async fn create_export(
        &self,
        request: Request<v1::CreateExportRequest>,
    ) -> Result<Response<v1::CreateExportResponse>, Status> {
        let all_experiments =
            request.get_ref().spec.as_ref().is_some_and(|spec| spec.all_experiments);
        self.hear(request).await?;
        let mut made = export();
        if let Some(spec) = made.spec.as_mut().filter(|_| all_experiments) {
            (spec.session_id, spec.all_experiments) = (String::new(), true);
        }
        Ok(Response::new(v1::CreateExportResponse { export: Some(made) }))
    }

    async fn get_export(
        &self,
        request: Request<v1::GetExportRequest>,
    ) -> Result<Response<v1::GetExportResponse>, Status> {
        self.hear(request).await?;
        let mut export = export();
        if self.has_ended() {
            export.set_status(v1::ExportStatus::Completed);
        }
        Ok(Response::new(v1::GetExportResponse { export: Some(export) }))
    }

    async fn list_exports(
        &self,
        request: Request<v1::ListExportsRequest>,
    ) -> Result<Response<v1::ListExportsResponse>, Status> {
        self.hear(request).await?;
        Ok(Response::new(v1::ListExportsResponse {
            exports: vec![export()],
            next_page_token: String::new(),
        }))
    }

    async fn cancel_export(
        &self,
        request: Request<v1::CancelExportRequest>,
    ) -> Result<Response<v1::CancelExportResponse>, Status> {
        self.hear(request).await?;
        let cancelled = v1::Export {
            status: v1::ExportStatus::Cancelled.into(),
            finished_at: at(20),
            ..export()
        };
        Ok(Response::new(v1::CancelExportResponse { export: Some(cancelled) }))
    }

    type WatchExportStream = ReceiverStream<Change>;

    async fn watch_export(
        &self,
        request: Request<v1::WatchExportRequest>,
    ) -> Result<Response<Self::WatchExportStream>, Status> {
        self.hear(request).await?;
        Ok(Response::new(ReceiverStream::new(self.begin_watch())))
    }

    async fn list_runs(
        &self,
        request: Request<v1::ListRunsRequest>,
    ) -> Result<Response<v1::ListRunsResponse>, Status> {
        let (limit, page_token) = (request.get_ref().limit, request.get_ref().page_token.clone());
        self.hear(request).await?;
        let next_page_token = if self.has_pages() && page_token.is_empty() && limit != 2 {
            "second".to_owned()
        } else {
            String::new()
        };
        Ok(Response::new(v1::ListRunsResponse { runs: self.runs(), next_page_token }))
    }

    async fn list_run_files(
        &self,
        request: Request<v1::ListRunFilesRequest>,
    ) -> Result<Response<v1::ListRunFilesResponse>, Status> {
        let token = request.get_ref().page_token.clone();
        self.hear(request).await?;
        let next_page_token = if token.is_empty() { "second".to_owned() } else { String::new() };
        Ok(Response::new(v1::ListRunFilesResponse {
            files: vec![format!("bucket/{token}")],
            next_page_token,
        }))
    }

    async fn get_run(
        &self,
        request: Request<v1::GetRunRequest>,
    ) -> Result<Response<v1::GetRunResponse>, Status> {
        self.hear(request).await?;
        Ok(Response::new(v1::GetRunResponse { run: self.runs().into_iter().next() }))
    }

    async fn retry_run(
        &self,
        request: Request<v1::RetryRunRequest>,
    ) -> Result<Response<v1::RetryRunResponse>, Status> {
        self.hear(request).await?;
        Ok(Response::new(v1::RetryRunResponse { run: self.runs().pop() }))
    }

    async fn get_limits(
        &self,
        request: Request<v1::GetLimitsRequest>,
    ) -> Result<Response<v1::GetLimitsResponse>, Status> {
        self.hear(request).await?;
        Ok(Response::new(v1::GetLimitsResponse { limits: Some(limits()) }))
    }

    async fn list_schedule_runs(
        &self,
        request: Request<v1::ListScheduleRunsRequest>,
    ) -> Result<Response<v1::ListScheduleRunsResponse>, Status> {
        self.hear(request).await?;
        Ok(Response::new(v1::ListScheduleRunsResponse::default()))
    }

    async fn validate_filter(
        &self,
        request: Request<v1::ValidateFilterRequest>,
    ) -> Result<Response<v1::ValidateFilterResponse>, Status> {
        let wrong = request.get_ref().filter.contains("wrong");
        self.hear(request).await?;
        let error = v1::FilterError {
            field: "filter".into(),
            message: "at character 4: \"wrong\" is not a field".into(),
        };
        Ok(Response::new(v1::ValidateFilterResponse {
            valid: !wrong,
            errors: if wrong { vec![error] } else { Vec::new() },
        }))
    }
}

#[tonic::async_trait]
impl DestinationService for FakeControlPlane {
    async fn create_destination(
        &self,
        request: Request<v1::CreateDestinationRequest>,
    ) -> Result<Response<v1::CreateDestinationResponse>, Status> {
        self.keep(request.get_ref().credentials.clone());
        self.hear(request).await?;
        Ok(Response::new(v1::CreateDestinationResponse { destination: Some(destination()) }))
    }

    async fn get_destination(
        &self,
        request: Request<v1::GetDestinationRequest>,
    ) -> Result<Response<v1::GetDestinationResponse>, Status> {
        self.hear(request).await?;
        Ok(Response::new(v1::GetDestinationResponse { destination: Some(destination()) }))
    }

    async fn list_destinations(
        &self,
        request: Request<v1::ListDestinationsRequest>,
    ) -> Result<Response<v1::ListDestinationsResponse>, Status> {
        self.hear(request).await?;
        Ok(Response::new(v1::ListDestinationsResponse {
            destinations: vec![destination()],
            next_page_token: String::new(),
        }))
    }

    async fn update_destination_credentials(
        &self,
        request: Request<v1::UpdateDestinationCredentialsRequest>,
    ) -> Result<Response<v1::UpdateDestinationCredentialsResponse>, Status> {
        self.hear(request).await?;
        Ok(Response::new(v1::UpdateDestinationCredentialsResponse {
            destination: Some(destination()),
        }))
    }

    async fn delete_destination(
        &self,
        request: Request<v1::DeleteDestinationRequest>,
    ) -> Result<Response<v1::DeleteDestinationResponse>, Status> {
        self.hear(request).await?;
        Ok(Response::new(v1::DeleteDestinationResponse {}))
    }
}

#[tonic::async_trait]
impl AdminService for FakeControlPlane {
    async fn create_tenant(
        &self,
        request: Request<v1::CreateTenantRequest>,
    ) -> Result<Response<v1::CreateTenantResponse>, Status> {
        self.hear(request).await?;
        Ok(Response::new(v1::CreateTenantResponse { tenant: Some(tenant()) }))
    }

    async fn list_tenants(
        &self,
        request: Request<v1::ListTenantsRequest>,
    ) -> Result<Response<v1::ListTenantsResponse>, Status> {
        self.hear(request).await?;
        let tenants = vec![tenant()];
        Ok(Response::new(v1::ListTenantsResponse { tenants, next_page_token: String::new() }))
    }

    async fn suspend_tenant(
        &self,
        request: Request<v1::SuspendTenantRequest>,
    ) -> Result<Response<v1::SuspendTenantResponse>, Status> {
        self.hear(request).await?;
        let tenant = v1::Tenant { suspended_at: at(5), ..tenant() };
        Ok(Response::new(v1::SuspendTenantResponse { tenant: Some(tenant) }))
    }

    async fn resume_tenant(
        &self,
        request: Request<v1::ResumeTenantRequest>,
    ) -> Result<Response<v1::ResumeTenantResponse>, Status> {
        self.hear(request).await?;
        Ok(Response::new(v1::ResumeTenantResponse { tenant: Some(tenant()) }))
    }

    async fn delete_tenant(
        &self,
        request: Request<v1::DeleteTenantRequest>,
    ) -> Result<Response<v1::DeleteTenantResponse>, Status> {
        self.hear(request).await?;
        let tenant = v1::Tenant { deleted_at: at(6), ..tenant() };
        Ok(Response::new(v1::DeleteTenantResponse { tenant: Some(tenant) }))
    }

    async fn create_api_key(
        &self,
        request: Request<v1::CreateApiKeyRequest>,
    ) -> Result<Response<v1::CreateApiKeyResponse>, Status> {
        self.hear(request).await?;
        let api_key = Some(api_key());
        Ok(Response::new(v1::CreateApiKeyResponse { api_key, key: "tl_new".into() }))
    }

    async fn list_api_keys(
        &self,
        request: Request<v1::ListApiKeysRequest>,
    ) -> Result<Response<v1::ListApiKeysResponse>, Status> {
        self.hear(request).await?;
        let api_keys = vec![api_key()];
        Ok(Response::new(v1::ListApiKeysResponse { api_keys, next_page_token: String::new() }))
    }

    async fn rotate_api_key(
        &self,
        request: Request<v1::RotateApiKeyRequest>,
    ) -> Result<Response<v1::RotateApiKeyResponse>, Status> {
        self.hear(request).await?;
        let previous = Some(v1::ApiKey { id: RUN.into(), expires_at: at(7), ..api_key() });
        let (api_key, key) = (Some(api_key()), "tl_new".into());
        Ok(Response::new(v1::RotateApiKeyResponse { api_key, key, previous }))
    }

    async fn list_audit_records(
        &self,
        request: Request<v1::ListAuditRecordsRequest>,
    ) -> Result<Response<v1::ListAuditRecordsResponse>, Status> {
        let mut answer = audit();
        match (request.get_ref().limit, request.get_ref().page_token.as_str()) {
            (1, "") => {
                answer.records.truncate(1);
                answer.next_page_token = "more".into();
            }
            (_, "") => {}
            _ => drop(answer.records.remove(0)),
        }
        self.hear(request).await?;
        if self.is_tampered() {
            answer.records.iter_mut().for_each(|record| record.actor.push('x'));
        }
        Ok(Response::new(answer))
    }

    async fn revoke_api_key(
        &self,
        request: Request<v1::RevokeApiKeyRequest>,
    ) -> Result<Response<v1::RevokeApiKeyResponse>, Status> {
        self.hear(request).await?;
        let api_key = v1::ApiKey { revoked_at: at(8), ..api_key() };
        Ok(Response::new(v1::RevokeApiKeyResponse { api_key: Some(api_key) }))
    }
}

fn tenant() -> v1::Tenant {
    v1::Tenant { id: TENANT.into(), display_name: "acme".into(), ..Default::default() }
}

fn api_key() -> v1::ApiKey {
    v1::ApiKey {
        id: EXPORT.into(),
        tenant_id: TENANT.into(),
        display_name: "ci".into(),
        last_used_at: at(4),
        ..Default::default()
    }
}
