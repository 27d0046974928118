//! No secret in a log, at the finest level of every crate in the process.

use std::{
    io,
    sync::{Arc, Mutex},
};

use tracelift_proto::{fleet::v1 as fleet, v1};
use tracing_subscriber::fmt::MakeWriter;

use crate::{
    bucket::Bucket,
    exporter::{Exporter, keys},
    plane::{ADMIN, FLEET, MASTER_KEYS, plane, spec},
};

const SECRET: &str = "Zq9SecretAccessKeyThatMustNeverShow";

#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<u8>>>);

impl io::Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Lines {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}

#[tokio::test]
async fn no_secret_is_ever_logged() {
    let lines = Lines::default();
    // For the whole process: the store works on other threads. The other tests' lines are looked at
    // as well.
    let everything = tracing_subscriber::fmt()
        .with_max_level(tracing::Level::TRACE)
        .with_ansi(false)
        .with_writer(lines.clone());
    tracing::subscriber::set_global_default(everything.finish()).unwrap();

    let plane = plane().await;
    let mut admin = plane.admin().admin();
    let tenant = v1::CreateTenantRequest { id: String::new(), display_name: "Acme".into() };
    let tenant = admin.create_tenant(tenant).await.unwrap().into_inner().tenant.unwrap();
    let request = v1::CreateApiKeyRequest {
        tenant_id: tenant.id,
        display_name: "ci".into(),
        ..Default::default()
    };
    let key = admin.create_api_key(request).await.unwrap().into_inner().key;
    let caller = plane.caller(&[("x-api-key", &key)]);

    let credentials = v1::Credentials {
        access_key_id: "AKIDLOG".into(),
        secret_access_key: SECRET.into(),
        session_token: "ses-0ken".into(),
    };
    let request = |bucket: &Bucket| v1::CreateDestinationRequest {
        display_name: "bucket".into(),
        config: Some(v1::BucketConfig {
            bucket_name: "traces".into(),
            endpoint_url: format!("http://{}", bucket.address),
            ..Default::default()
        }),
        credentials: Some(credentials.clone()),
        ..Default::default()
    };
    let refusing = Bucket::answering(|_| {
        (403, "<Error><Code>AccessDenied</Code><Message>No such key: AKIDLOG</Message></Error>")
    })
    .await;
    caller.destinations().create_destination(request(&refusing)).await.unwrap_err();
    let good = Bucket::good().await;
    let made = caller
        .destinations()
        .create_destination(request(&good))
        .await
        .unwrap()
        .into_inner()
        .destination
        .unwrap();
    let update = v1::UpdateDestinationCredentialsRequest {
        id: made.id.clone(),
        credentials: Some(credentials.clone()),
        ..Default::default()
    };
    caller.destinations().update_destination_credentials(update).await.unwrap();

    let spec = Some(spec(&made.id, "2024-01-01", "2024-01-02"));
    caller
        .exports()
        .create_export(v1::CreateExportRequest { spec, ..Default::default() })
        .await
        .unwrap();
    let task = Exporter::connect(&plane, "a", 1).await.assignment().await;
    let (task_id, fence) = (task.task_id, task.fence);
    let request = fleet::GetDestinationAccessRequest {
        task_id,
        fence,
        exporter_id: "a".into(),
        incarnation: "first".into(),
    };
    let access = plane.fleet().fleet().get_destination_access(request).await.unwrap().into_inner();
    assert_eq!(keys(access).secret_access_key, SECRET);

    let text = String::from_utf8(lines.0.lock().unwrap().clone()).unwrap();
    for expected in [
        "tracelift::audit: ",
        "answered",
        "a destination was refused",
        "task assigned",
        "h2",
        "aws_",
    ] {
        assert!(text.contains(expected), "nothing was captured of {expected:?}");
    }
    for secret in [SECRET, ADMIN, FLEET, &MASTER_KEYS[3..], key.as_str()] {
        let line = text.lines().find(|line| line.contains(secret));
        assert_eq!(line, None, "a secret was logged");
    }
    // What a request must carry in a header, the S3 client's own TRACE shows; ours never does.
    for secret in ["AKIDLOG", "ses-0ken"] {
        let line = text.lines().find(|line| line.contains(" tracelift_") && line.contains(secret));
        assert_eq!(line, None, "a credential was logged");
    }
}
