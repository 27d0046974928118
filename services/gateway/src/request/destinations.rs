//! Bodies about destinations. Credential values go into the message and nowhere else.

use serde_json::Value;
use tracelift_core::destination::{Addressing, Bucket, BucketInput, DisplayName};
use tracelift_proto::{BucketSecrets, v1};

use crate::{
    fields::{Wrong, WrongFields},
    object::{Nullable, Object, Optional, Presence, Required, boolean, only, text, word},
};

/// `BulkExportDestinationCreate`
pub(crate) fn create_destination(body: &Value) -> Result<v1::CreateDestinationRequest, WrongFields> {
    let (mut wrong, top) = (WrongFields::default(), Object::body(body)?);
    top.take(&mut wrong, "destination_type", Optional, only("enum", "s3"));
    let display_name = top.take(&mut wrong, "display_name", Required, word(DisplayName::parse));
    let config = top.object(&mut wrong, "config", Required);
    let bucket = config.as_ref().and_then(|config| bucket(config, &mut wrong));
    let role = refuse_role(&top, config.as_ref(), &mut wrong);
    let credentials = credentials(&top, &mut wrong, role);
    let request = (|| {
        Some(v1::CreateDestinationRequest {
            display_name: display_name?.as_str().to_owned(),
            config: Some((&bucket?).into()),
            credentials: Some(credentials?),
        })
    })();
    wrong.finish(request)
}

/// `{"credentials": {…}}`
pub(crate) fn new_credentials(body: &Value) -> Result<v1::Credentials, WrongFields> {
    let (mut wrong, top) = (WrongFields::default(), Object::body(body)?);
    let role = refuse_role(&top, None, &mut wrong);
    let credentials = credentials(&top, &mut wrong, role);
    wrong.finish(credentials)
}

/// A role instead of keys, wherever it may be written; whether one was given.
fn refuse_role(top: &Object<'_>, config: Option<&Object<'_>>, wrong: &mut WrongFields) -> bool {
    let places = [Some(top), config].into_iter().flatten();
    places.map(|place| place.refuse_yet(wrong, "aws_role_arn")).fold(false, |any, refused| any | refused)
}

fn bucket(config: &Object<'_>, wrong: &mut WrongFields) -> Option<Bucket> {
    let mut string = |name, presence: Presence| config.take(wrong, name, presence, text).unwrap_or_default().to_owned();
    let (bucket_name, prefix) = (string("bucket_name", Required), string("prefix", Optional));
    let (region, endpoint_url) = (string("region", Nullable), string("endpoint_url", Nullable));
    let include_bucket_in_prefix = config.take(wrong, "include_bucket_in_prefix", Optional, boolean);
    let write_options = config.object(wrong, "s3_additional_kwargs", Nullable).map(|options| options.texts(wrong));
    let addressing = addressing(config, wrong);
    let write_options = write_options.unwrap_or_default();
    let input = BucketInput { bucket_name, prefix, region, endpoint_url, include_bucket_in_prefix, addressing, write_options };
    let unread = wrong.has(&config.at("endpoint_url"));
    match input.check() {
        Ok(bucket) => Some(bucket),
        Err(mut faults) => {
            // What is asked of these fields depends on an endpoint that could not be read.
            faults.retain(|fault| !(unread && ["region", "include_bucket_in_prefix"].contains(&fault.field.as_str())));
            wrong.add_rules(config.loc(), faults);
            None
        }
    }
}

fn addressing(config: &Object<'_>, wrong: &mut WrongFields) -> Addressing {
    let Some(client) = config.object(wrong, "config_kwargs_s3", Nullable) else { return Addressing::default() };
    client.refuse_true(wrong, "use_accelerate_endpoint");
    client.refuse_yet(wrong, "payload_signing_enabled");
    client.refuse_yet(wrong, "us_east_1_regional_endpoint");
    client.take(wrong, "addressing_style", Nullable, word(Addressing::parse)).unwrap_or_default()
}

/// Needed, unless a role was given instead, which is refused by itself.
fn credentials(top: &Object<'_>, wrong: &mut WrongFields, role: bool) -> Option<v1::Credentials> {
    if top.given("credentials").is_none() {
        if !role {
            let message = "access_key_id and secret_access_key are needed: credentials of the environment are not available yet";
            wrong.add(top.at("credentials"), Wrong::new("value_error", message));
        }
        return None;
    }
    let keys = top.object(wrong, "credentials", Required)?;
    let mut string = |name, presence: Presence| keys.take(wrong, name, presence, text).unwrap_or_default().to_owned();
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
