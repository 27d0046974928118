//! Request bodies for destinations. Credentials are copied into the message and nowhere else.

use serde_json::Value;
use tracelift_core::destination::{
    Addressing, Bucket, BucketInput, ClientOptions, DisplayName, RoleArn, UsEast1,
};
use tracelift_proto::{BucketSecrets, v1};

use crate::{
    json_reader::{Nullable, Object, Optional, Presence, Required, boolean, only, text, word},
    validation::{FieldError, ValidationErrors},
};

/// `BulkExportDestinationCreate`
pub(crate) fn create_destination(
    body: &Value,
) -> Result<v1::CreateDestinationRequest, ValidationErrors> {
    let (mut wrong, top) = (ValidationErrors::default(), Object::body(body)?);
    top.take(&mut wrong, "destination_type", Optional, only("enum", "s3"));
    let display_name = top.take(&mut wrong, "display_name", Required, word(DisplayName::parse));
    let config = top.json_reader(&mut wrong, "config", Required);
    let bucket = config.as_ref().and_then(|config| bucket(config, &mut wrong));
    let role = role(&top, config.as_ref(), &mut wrong);
    let credentials = credentials(&top, &mut wrong);
    either(&top, &mut wrong, &role);
    let request = (|| {
        Some(v1::CreateDestinationRequest {
            display_name: display_name?.as_str().to_owned(),
            config: Some((&bucket?).into()),
            credentials,
            aws_role_arn: role.unwrap_or_default(),
            ..Default::default()
        })
    })();
    wrong.finish(request)
}

/// `{"credentials": {…}}` or `{"aws_role_arn": "…"}`
pub(crate) fn new_identity(
    id: String,
    body: &Value,
) -> Result<v1::UpdateDestinationCredentialsRequest, ValidationErrors> {
    let (mut wrong, top) = (ValidationErrors::default(), Object::body(body)?);
    let role = role(&top, None, &mut wrong);
    let credentials = credentials(&top, &mut wrong);
    if top.present("credentials").is_none() && top.present("aws_role_arn").is_none() {
        wrong.add(top.at("credentials"), FieldError::missing());
    }
    either(&top, &mut wrong, &role);
    wrong.finish(Some(v1::UpdateDestinationCredentialsRequest {
        id,
        credentials,
        aws_role_arn: role.unwrap_or_default(),
    }))
}

/// A role instead of credentials, from either of the two places where it is accepted.
fn role(
    top: &Object<'_>,
    config: Option<&Object<'_>>,
    wrong: &mut ValidationErrors,
) -> Option<String> {
    let mut read = |place: &Object<'_>| {
        let arn = place.take(wrong, "aws_role_arn", Nullable, word(RoleArn::parse))?;
        Some((arn.as_str().to_owned(), place.at("aws_role_arn")))
    };
    let (outside, inside) = (read(top), config.and_then(&mut read));
    match (outside, inside) {
        (Some((one, _)), Some((other, at))) if one != other => {
            wrong.add(
                at,
                FieldError::new(
                    "value_error",
                    "differs from the aws_role_arn beside config: give one of them",
                ),
            );
            None
        }
        (outside, inside) => outside.or(inside).map(|(arn, _)| arn),
    }
}

/// Rejects a role together with credentials.
fn either(top: &Object<'_>, wrong: &mut ValidationErrors, role: &Option<String>) {
    if role.is_some() && top.present("credentials").is_some() {
        wrong.add(
            top.at("aws_role_arn"),
            FieldError::new("value_error", "cannot be given together with credentials"),
        );
    }
}

fn bucket(config: &Object<'_>, wrong: &mut ValidationErrors) -> Option<Bucket> {
    let mut string = |name, presence: Presence| {
        config.take(wrong, name, presence, text).unwrap_or_default().to_owned()
    };
    let (bucket_name, prefix) = (string("bucket_name", Required), string("prefix", Optional));
    let (region, endpoint_url) = (string("region", Nullable), string("endpoint_url", Nullable));
    let include_bucket_in_prefix =
        config.take(wrong, "include_bucket_in_prefix", Optional, boolean);
    let write_options = config
        .json_reader(wrong, "s3_additional_kwargs", Nullable)
        .map(|options| options.texts(wrong));
    let (addressing, client) = client(config, wrong);
    let write_options = write_options.unwrap_or_default();
    let input = BucketInput {
        bucket_name,
        prefix,
        region,
        endpoint_url,
        include_bucket_in_prefix,
        addressing,
        write_options,
        client,
    };
    let unread = wrong.has(&config.at("endpoint_url"));
    match input.check_new() {
        Ok(bucket) => Some(bucket),
        Err(mut faults) => {
            // The rules for these fields depend on the endpoint, which could not be read.
            faults.retain(|fault| {
                !(unread && ["region", "include_bucket_in_prefix"].contains(&fault.field.as_str()))
            });
            wrong.add_rules(config.loc(), faults);
            None
        }
    }
}

/// `config_kwargs_s3`
fn client(config: &Object<'_>, wrong: &mut ValidationErrors) -> (Addressing, ClientOptions) {
    let Some(client) = config.json_reader(wrong, "config_kwargs_s3", Nullable) else {
        return Default::default();
    };
    let addressing = client
        .take(wrong, "addressing_style", Nullable, word(Addressing::parse))
        .unwrap_or_default();
    let options = ClientOptions {
        use_accelerate_endpoint: client
            .take(wrong, "use_accelerate_endpoint", Nullable, boolean)
            .unwrap_or_default(),
        payload_signing_enabled: client.take(wrong, "payload_signing_enabled", Nullable, boolean),
        us_east_1_regional_endpoint: client.take(
            wrong,
            "us_east_1_regional_endpoint",
            Nullable,
            word(UsEast1::parse),
        ),
    };
    (addressing, options)
}

/// Optional: the control plane checks whether its operator allows destinations without credentials.
fn credentials(top: &Object<'_>, wrong: &mut ValidationErrors) -> Option<v1::Credentials> {
    let keys = top.json_reader(wrong, "credentials", Nullable)?;
    let mut string = |name, presence: Presence| {
        keys.take(wrong, name, presence, text).unwrap_or_default().to_owned()
    };
    let credentials = v1::Credentials {
        access_key_id: string("access_key_id", Required),
        secret_access_key: string("secret_access_key", Required),
        session_token: string("session_token", Nullable),
    };
    if let Err(faults) = BucketSecrets::try_from(credentials.clone()) {
        wrong.add_rules(keys.loc(), faults);
        return None;
    }
    Some(credentials)
}
