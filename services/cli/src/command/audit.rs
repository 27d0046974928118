//! `tracelift audit …`: the audit log and its hash chain.

use std::process::ExitCode;

use serde_json::json;
use tonic::Response;
use tracelift_core::audit::{Chained, Verifier};
use tracelift_proto::{pages, time_to, v1};

use super::answer;
use crate::{
    args::{Audit, Global, Whose},
    connection::Connection,
    error::CliError,
    json, show,
};

pub(super) async fn run(global: &Global, command: Audit) -> Result<ExitCode, CliError> {
    match command {
        Audit::List { start, end, actions, limit, whose } => {
            let request = v1::ListAuditRecordsRequest {
                start_time: start.map(time_to),
                end_time: end.map(time_to),
                actions,
                limit,
                ..of(global)
            };
            list(global, &connection(global, whose)?, request).await
        }
        Audit::Verify { whose } => verify(global, &connection(global, whose)?).await,
    }
}

fn connection(global: &Global, whose: Whose) -> Result<Connection, CliError> {
    if whose.operator { Connection::admin(global) } else { Connection::tenant(global) }
}

fn of(global: &Global) -> v1::ListAuditRecordsRequest {
    let tenant_id = global.tenant.map(|tenant| tenant.to_string()).unwrap_or_default();
    v1::ListAuditRecordsRequest { tenant_id, ..Default::default() }
}

async fn list(
    global: &Global,
    connection: &Connection,
    request: v1::ListAuditRecordsRequest,
) -> Result<ExitCode, CliError> {
    let records = pages::follow(request.limit, |limit, page_token| {
        let mut calls = connection.administration();
        let request = v1::ListAuditRecordsRequest { limit, page_token, ..request.clone() };
        let request = connection.call(request);
        async move { calls.list_audit_records(request).await.map(Response::into_inner) }
    });
    let records = records.await.map_err(|status| connection.refused(status))?;
    answer(global.json, || records.iter().map(json::record).collect(), || show::records(&records))
}

/// Page by page, so that a log of any length is verified.
async fn verify(global: &Global, connection: &Connection) -> Result<ExitCode, CliError> {
    let (mut calls, mut request) = (connection.administration(), of(global));
    let mut verifier: Option<Verifier> = None;
    loop {
        let page = calls.list_audit_records(connection.call(request.clone())).await;
        let page = page.map_err(|status| connection.refused(status))?.into_inner();
        let head = connection.present(page.head)?.try_into()?;
        let verifier = verifier.get_or_insert_with(|| Verifier::new(head));
        for record in page.records {
            verifier.check(Chained::try_from(record)?)?;
        }
        if page.next_page_token.is_empty() {
            request.page_token.clear();
            let anchor = connection.present(page.anchor)?.try_into()?;
            let count = std::mem::replace(verifier, Verifier::new(head)).finish(anchor)?;
            return answer(
                global.json,
                || json!({"verified": true, "records": count, "removed": anchor.number}),
                || format!("{} verified, nothing was changed\n", show::counted(count, "record")),
            );
        }
        request.page_token = page.next_page_token;
    }
}
