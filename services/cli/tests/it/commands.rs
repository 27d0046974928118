//! Each command once, and what is told when it did not work.

use tonic::Status;
use tracelift_core::Invalid;
use tracelift_proto::status;
use tracelift_test_grpc::DESTINATION;

use crate::talk::{ACCESS_KEY_ID, ID, SECRET_ACCESS_KEY, command, shown, world};

#[tokio::test]
async fn each_command_asks_once_and_prints_the_answer() {
    let world = world().await;
    let commands: [&[&str]; 28] = [
        &[
            "destination",
            "create",
            "--name",
            "mine",
            "--bucket",
            "traces",
            "--region",
            "us-east-1",
            "--option",
            "StorageClass=STANDARD_IA",
        ],
        &["destination", "list"],
        &["destination", "get", ID],
        &[
            "export",
            "create",
            "--destination",
            ID,
            "--project",
            ID,
            "--start",
            "2024-01-01",
            "--end",
            "2024-01-02",
            "--field",
            "id",
            "--filter",
            "eq(run_type,'llm')",
        ],
        &["filter", "check", "eq(run_type, 'llm')"],
        &["filter", "check", "eq(wrong, 'llm')"],
        &["export", "get", ID],
        &["export", "list", "--limit", "5"],
        &["export", "runs", ID],
        &["export", "cancel", ID],
        &[
            "export",
            "create",
            "--destination",
            ID,
            "--project",
            ID,
            "--start",
            "2024-01-01",
            "--every",
            "24",
            "--idempotency-key",
            "k1",
        ],
        &[
            "export",
            "create",
            "--destination",
            ID,
            "--all-experiments",
            "--start",
            "2024-01-01",
            "--end",
            "2024-01-02",
        ],
        &[
            "export",
            "list",
            "--status",
            "Failed",
            "--status",
            "TimedOut",
            "--destination",
            ID,
            "--project",
            ID,
        ],
        &["export", "schedule-runs", ID],
        &["runs", "retry", ID, ID],
        &["limits"],
        &["key", "create", "--tenant", ID, "--name", "ci", "--permission", "read"],
        &["tenant", "create", "--name", "acme"],
        &["key", "list", "--tenant", ID],
        &["key", "rotate", ID, "--overlap", "60"],
        &["key", "revoke", ID],
        &["tenant", "list"],
        &["tenant", "suspend", ID],
        &["tenant", "resume", ID],
        &["tenant", "delete", ID, "--confirm", ID],
        &["audit", "list", "--start", "2024-01-01", "--action", "create_tenant", "--limit", "5"],
        &["audit", "list", "--json"],
        &["audit", "verify"],
    ];
    let mut all = Vec::new();
    for args in commands {
        let output = world.run(args).await;
        all.push(format!("$ tracelift {}\n{}", args.join(" "), shown(&output)));
    }
    insta::assert_snapshot!(all.join("\n"));
    insta::assert_snapshot!(world.fake.asked().join("\n"));
    let keys = world.fake.credentials().unwrap();
    assert_eq!(
        (keys.access_key_id.as_str(), keys.secret_access_key.as_str()),
        (ACCESS_KEY_ID, SECRET_ACCESS_KEY)
    );
}

#[tokio::test]
async fn tenants_go_with_a_key_and_operators_with_a_token() {
    let world = world().await;
    assert!(world.run(&["export", "list", "--tenant", ID]).await.status.success());
    assert_eq!(world.fake.metadata("x-api-key").as_deref(), Some("tl_key"));
    assert_eq!(world.fake.metadata("x-tenant-id").as_deref(), Some(ID));
    assert_eq!(world.fake.metadata("authorization"), None);
    assert!(world.run(&["key", "create", "--tenant", ID, "--name", "ci"]).await.status.success());
    assert_eq!(world.fake.metadata("authorization").as_deref(), Some("Bearer admin"));
    assert_eq!(world.fake.metadata("x-api-key"), None);
}

#[tokio::test]
async fn json_is_for_scripts() {
    let world = world().await;
    let mut answers = Vec::new();
    for args in [
        &["export", "list", "--json"] as &[&str],
        &["destination", "list", "--json"],
        &["--json", "export", "get", ID],
    ] {
        let output = world.run(args).await;
        answers.push(serde_json::from_slice::<serde_json::Value>(&output.stdout).unwrap());
    }
    assert_eq!(answers[0][0], answers[2]);
    assert_eq!(answers[0][0]["status"], "Running");
    assert_eq!(answers[1][0]["id"], DESTINATION);
}

#[tokio::test]
async fn every_wrong_field_has_its_own_line() {
    let world = world().await;
    world.fake.refuse(status::invalid([
        Invalid::new("spec.end_time", "must be after start_time"),
        Invalid::new("spec.export_fields.0", "\"colour\" is not a column"),
    ]));
    let output = world
        .run(&[
            "export",
            "create",
            "--destination",
            ID,
            "--project",
            ID,
            "--start",
            "2024-01-02",
            "--end",
            "2024-01-01",
        ])
        .await;
    insta::assert_snapshot!(shown(&output));
}

#[tokio::test]
async fn failures_say_what_to_do() {
    let world = world().await;
    world.fake.refuse(Status::unauthenticated("The API key is not known"));
    let wrong_key = world.run(&["export", "list"]).await;
    let unreachable = command("http://127.0.0.1:1", &["export", "list"]).output().await.unwrap();
    let no_key =
        world.command(&["export", "list"]).env_remove("TRACELIFT_API_KEY").output().await.unwrap();
    let no_token = world
        .command(&["tenant", "create", "--name", "x"])
        .env_remove("TRACELIFT_ADMIN_TOKEN")
        .output()
        .await
        .unwrap();
    let mut create = world.command(&["destination", "create", "--name", "x", "--bucket", "y"]);
    let no_credentials = create.env_remove("S3_SECRET_ACCESS_KEY").output().await.unwrap();
    let no_scheme = command("localhost:7700", &["export", "list"]).output().await.unwrap();
    let no_tenant = world.run(&["key", "create", "--name", "x"]).await;
    let all = [wrong_key, unreachable, no_key, no_token, no_credentials, no_scheme, no_tenant];
    insta::assert_snapshot!(all.each_ref().map(shown).join("\n"));
}

#[tokio::test]
async fn completions_name_the_commands() {
    let world = world().await;
    for shell in ["bash", "zsh", "fish"] {
        let output = world.run(&["completions", shell]).await;
        assert!(
            output.status.success()
                && String::from_utf8_lossy(&output.stdout).contains("destination"),
            "{shell}"
        );
    }
}

#[tokio::test]
async fn a_log_that_was_changed_is_named_by_its_record() {
    let world = world().await;
    let whole = world.run(&["audit", "verify", "--operator", "--tenant", ID]).await;
    assert!(whole.status.success(), "{}", shown(&whole));
    assert_eq!(world.fake.metadata("authorization").as_deref(), Some("Bearer admin"));
    world.fake.tamper();
    let output = world.run(&["audit", "verify"]).await;
    assert_eq!(world.fake.metadata("x-api-key").as_deref(), Some("tl_key"));
    insta::assert_snapshot!(shown(&output));
}

#[tokio::test]
async fn admins_of_a_workspace_go_with_their_key() {
    let world = world().await;
    let mut list = world.command(&["key", "list"]);
    let output = list.env_remove("TRACELIFT_ADMIN_TOKEN").output().await.unwrap();
    assert!(output.status.success(), "{}", shown(&output));
    assert_eq!(world.fake.metadata("x-api-key").as_deref(), Some("tl_key"));
    assert_eq!(world.fake.metadata("authorization"), None);
    let wrong = world.run(&["tenant", "delete", ID, "--confirm", DESTINATION]).await;
    assert!(String::from_utf8_lossy(&wrong.stderr).contains("is for good"), "{}", shown(&wrong));
    assert_eq!(world.fake.asked().len(), 1, "nothing was deleted");
}
