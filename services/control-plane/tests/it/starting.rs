//! What stops a control plane from starting is said in words, and keys can be rotated by a restart.

use std::{fmt::Write as _, sync::Arc};

use secrecy::SecretString;
use tempfile::TempDir;
use tokio::net::TcpListener;
use tracelift_control_plane::{ControlPlane, store::Store};
use tracelift_proto::fleet::v1;

use crate::{
    exporter::Exporter,
    plane::{HandClock, MASTER_KEYS, plane_over, settings},
};

const NEWER: &str = "k2:HwECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";

#[tokio::test]
async fn wrong_settings_are_told_with_what_to_do() {
    let taken = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let folder = TempDir::new().unwrap();
    let mut text = String::new();
    for what in [
        "a taken port",
        "no master key",
        "a master key that is none",
        "no fleet token",
        "a missing file",
        "a short lease",
        "no folder",
    ] {
        let mut settings = settings();
        settings.database = folder.path().join("t.db").as_path().into();
        match what {
            "a taken port" => settings.listen = taken.local_addr().unwrap(),
            "no master key" => settings.master_keys = None,
            "a master key that is none" => {
                settings.master_keys = Some(SecretString::from("k1:c2hvcnQ="))
            }
            "no fleet token" => settings.fleet_token = None,
            "a missing file" => settings.admin_token_file = Some("/nowhere/token".into()),
            "a short lease" => (settings.heartbeat_seconds, settings.lease_seconds) = (20, 30),
            _ => settings.database = folder.path().join("nowhere/t.db").as_path().into(),
        }
        let _ = writeln!(text, "{what}: {}", ControlPlane::bind(settings).await.unwrap_err());
    }
    let text = text.replace(&taken.local_addr().unwrap().to_string(), "127.0.0.1:PORT");
    insta::assert_snapshot!(text.replace(folder.path().to_str().unwrap(), "[folder]"));
}

#[tokio::test]
async fn a_restart_under_a_new_master_key_seals_everything_anew() {
    let store = Arc::new(Store::in_memory().unwrap());
    let clock = Arc::new(HandClock::default());
    let plane = plane_over(store.clone(), clock.clone(), |_| {}).await.unwrap();
    let mine = plane.workspace(1).await;
    mine.export(&plane, 1).await;
    plane.stop();
    plane.stopped().await.unwrap();

    let both = SecretString::from(format!("{NEWER},{MASTER_KEYS}"));
    let plane =
        plane_over(store.clone(), clock.clone(), |settings| settings.master_keys = Some(both))
            .await
            .unwrap();
    plane.stop();
    plane.stopped().await.unwrap();

    // The old key can be taken away now.
    let plane = plane_over(store.clone(), clock.clone(), |settings| {
        settings.master_keys = Some(SecretString::from(NEWER))
    })
    .await
    .unwrap();
    let task = Exporter::connect(&plane, "a", 1).await.assignment().await;
    let (task_id, fence) = (task.task_id, task.fence);
    let request = v1::GetDestinationAccessRequest {
        task_id,
        fence,
        exporter_id: "a".into(),
        incarnation: "first".into(),
    };
    let access = plane.fleet().fleet().get_destination_access(request).await.unwrap().into_inner();
    assert_eq!(crate::exporter::keys(access).secret_access_key, "sk-test");

    // But not the one that sealed.
    let error = plane_over(store, clock, |settings| {
        settings.master_keys = Some(SecretString::from(MASTER_KEYS))
    })
    .await
    .err()
    .unwrap();
    insta::assert_snapshot!(error);
}
