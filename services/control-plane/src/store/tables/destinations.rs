//! Destinations and their sealed credentials.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use tracelift_core::{
    Invalid,
    destination::{
        Addressing, Bucket, ClientOptions, Destination, DisplayName, Identity, StoreFeatures,
        UsEast1, WriteOptions,
    },
    id::{DestinationId, TenantId},
    task::Task,
    time::Timestamp,
};

use crate::{
    sealer::Sealed,
    store::{
        Access, Deletion, StoreError,
        sql::{self, Row},
        transaction::{Transaction, for_update},
    },
};

pub(crate) fn create(
    tx: &mut dyn Transaction,
    destination: &Destination,
    sealed: Option<&Sealed>,
) -> Result<(), StoreError> {
    let bucket = &destination.bucket;
    let options: BTreeMap<_, _> = bucket.write_options.iter().collect();
    let columns = vec![
        ("id", destination.id.into()),
        ("tenant_id", destination.tenant.into()),
        ("display_name", destination.display_name.as_str().into()),
        ("bucket_name", (&bucket.name).into()),
        ("prefix", (&bucket.prefix).into()),
        ("region", bucket.region.as_ref().into()),
        ("endpoint_url", bucket.endpoint_url.as_ref().into()),
        ("include_bucket_in_prefix", bucket.include_bucket_in_prefix.into()),
        ("addressing", bucket.addressing.as_str().into()),
        ("write_options", sql::json(&options)?),
        ("client_options", sql::json(&ClientRecord::from(bucket))?),
        ("identity", destination.identity.as_str().into()),
        ("sealed", text(sealed).into()),
        ("credentials_keys", sql::json(&destination.credentials_keys)?),
        ("created_at", destination.created_at.into()),
        ("updated_at", destination.updated_at.into()),
    ];
    sql::insert(tx, "destinations", columns)
}

pub(crate) fn one(
    tx: &mut dyn Transaction,
    tenant: TenantId,
    id: DestinationId,
) -> Result<Option<Destination>, StoreError> {
    let found = sql::one(
        tx,
        "SELECT * FROM destinations WHERE id = $1 AND tenant_id = $2 AND deleted_at IS NULL",
        &[id.into(), tenant.into()],
    )?;
    found.as_ref().map(destination).transpose()
}

pub(crate) fn all(
    tx: &mut dyn Transaction,
    tenant: TenantId,
) -> Result<Vec<Destination>, StoreError> {
    let sql = "SELECT * FROM destinations WHERE tenant_id = $1 AND deleted_at IS NULL ORDER BY created_at DESC, id DESC";
    let rows = tx.query(sql, &[tenant.into()])?;
    rows.iter().map(destination).collect()
}

/// Keeps others from using or deleting it until this transaction ends; returns whether it exists.
pub(crate) fn lock(
    tx: &mut dyn Transaction,
    tenant: TenantId,
    id: DestinationId,
) -> Result<bool, StoreError> {
    let sql = format!(
        "SELECT id FROM destinations WHERE id = $1 AND tenant_id = $2 AND deleted_at IS NULL{}",
        for_update(tx)
    );
    Ok(sql::one(tx, &sql, &[id.into(), tenant.into()])?.is_some())
}

pub(crate) fn replace_identity(
    tx: &mut dyn Transaction,
    tenant: TenantId,
    id: DestinationId,
    identity: &Identity,
    sealed: Option<&Sealed>,
    keys: &[String],
    now: Timestamp,
) -> Result<Option<Destination>, StoreError> {
    tx.execute(
        "UPDATE destinations SET identity = $3, sealed = $4, credentials_keys = $5, updated_at = $6
         WHERE id = $1 AND tenant_id = $2 AND deleted_at IS NULL",
        &[
            id.into(),
            tenant.into(),
            identity.as_str().into(),
            text(sealed).into(),
            sql::json(&keys)?,
            now.into(),
        ],
    )?;
    one(tx, tenant, id)
}

pub(crate) fn remember_features(
    tx: &mut dyn Transaction,
    tenant: TenantId,
    id: DestinationId,
    features: StoreFeatures,
) -> Result<(), StoreError> {
    let Some(known) = one(tx, tenant, id)? else { return Ok(()) };
    let record = ClientRecord::from(&Bucket { features, ..known.bucket });
    let sql = "UPDATE destinations SET client_options = $3 WHERE id = $1 AND tenant_id = $2";
    tx.execute(sql, &[id.into(), tenant.into(), sql::json(&record)?])
}

/// The row stays, without credentials: ended exports are still shown with their bucket.
pub(crate) fn delete(
    tx: &mut dyn Transaction,
    tenant: TenantId,
    id: DestinationId,
    now: Timestamp,
) -> Result<Deletion, StoreError> {
    if !lock(tx, tenant, id)? {
        return Ok(Deletion::Absent);
    }
    let using = "SELECT e.id FROM exports e WHERE e.destination_id = $1 AND e.tenant_id = $2 AND (e.finished_at IS NULL
         OR EXISTS (SELECT 1 FROM runs r WHERE r.export_id = e.id AND r.kind <> 'reconcile' AND r.state IN ('queued', 'leased'))) LIMIT 1";
    if let Some(export) = sql::one(tx, using, &[id.into(), tenant.into()])? {
        return Ok(Deletion::InUse(export.get("id")?));
    }
    let gone =
        "UPDATE destinations SET sealed = '', deleted_at = $3 WHERE id = $1 AND tenant_id = $2";
    tx.execute(gone, &[id.into(), tenant.into(), now.into()])?;
    Ok(Deletion::Done)
}

pub(crate) fn all_sealed(
    tx: &mut dyn Transaction,
) -> Result<Vec<(TenantId, DestinationId, Sealed)>, StoreError> {
    let rows =
        tx.query("SELECT tenant_id, id, sealed FROM destinations WHERE sealed <> ''", &[])?;
    rows.iter()
        .map(|row| Ok((row.get("tenant_id")?, row.get("id")?, Sealed(row.get("sealed")?))))
        .collect()
}

pub(crate) fn reseal(
    tx: &mut dyn Transaction,
    id: DestinationId,
    old: &Sealed,
    new: &Sealed,
) -> Result<(), StoreError> {
    tx.execute(
        "UPDATE destinations SET sealed = $3 WHERE id = $1 AND sealed = $2",
        &[id.into(), (&old.0).into(), (&new.0).into()],
    )
}

/// The destination that a task writes to, with its sealed credentials.
pub(crate) fn access(tx: &mut dyn Transaction, task: &Task) -> Result<Option<Access>, StoreError> {
    let sql = "SELECT d.* FROM destinations d JOIN exports e ON e.destination_id = d.id WHERE e.id = $1 AND d.tenant_id = $2";
    let found = sql::one(tx, sql, &[task.export.into(), task.tenant.into()])?;
    let access = |row: Row| {
        let (identity, sealed) = (identity(&row)?, sealed(&row)?);
        Ok(Access {
            tenant: task.tenant,
            destination: row.get("id")?,
            bucket: bucket(&row)?,
            identity,
            sealed,
        })
    };
    found.map(access).transpose()
}

/// The stored form: a destination without keys has an empty text.
fn text(sealed: Option<&Sealed>) -> &str {
    sealed.map_or("", |sealed| &sealed.0)
}

fn sealed(row: &Row) -> Result<Option<Sealed>, StoreError> {
    Ok(Some(row.get("sealed")?).filter(|text: &String| !text.is_empty()).map(Sealed))
}

fn identity(row: &Row) -> Result<Identity, StoreError> {
    row.word("identity", |text| Identity::parse("identity", text))
}

/// `ClientOptions` as stored, with the features that the object store supports.
#[derive(Serialize, Deserialize)]
struct ClientRecord {
    #[serde(default)]
    use_accelerate_endpoint: bool,
    payload_signing_enabled: Option<bool>,
    us_east_1_regional_endpoint: Option<String>,
    #[serde(default)]
    features: FeaturesRecord,
}

/// `StoreFeatures` as stored.
#[derive(Serialize, Deserialize)]
struct FeaturesRecord {
    checksums: bool,
    conditional_writes: bool,
    object_size: bool,
}

impl Default for FeaturesRecord {
    fn default() -> Self {
        StoreFeatures::default().into()
    }
}

impl From<StoreFeatures> for FeaturesRecord {
    fn from(StoreFeatures { checksums, conditional_writes, object_size }: StoreFeatures) -> Self {
        Self { checksums, conditional_writes, object_size }
    }
}

impl From<FeaturesRecord> for StoreFeatures {
    fn from(FeaturesRecord { checksums, conditional_writes, object_size }: FeaturesRecord) -> Self {
        Self { checksums, conditional_writes, object_size }
    }
}

impl From<&Bucket> for ClientRecord {
    fn from(bucket: &Bucket) -> Self {
        let options = &bucket.client;
        Self {
            features: bucket.features.into(),
            use_accelerate_endpoint: options.use_accelerate_endpoint,
            payload_signing_enabled: options.payload_signing_enabled,
            us_east_1_regional_endpoint: options
                .us_east_1_regional_endpoint
                .map(|host| host.as_str().to_owned()),
        }
    }
}

impl TryFrom<ClientRecord> for ClientOptions {
    type Error = Invalid;

    fn try_from(record: ClientRecord) -> Result<Self, Invalid> {
        let host = record
            .us_east_1_regional_endpoint
            .map(|word| UsEast1::parse("us_east_1_regional_endpoint", &word))
            .transpose()?;
        Ok(Self {
            use_accelerate_endpoint: record.use_accelerate_endpoint,
            payload_signing_enabled: record.payload_signing_enabled,
            us_east_1_regional_endpoint: host,
        })
    }
}

/// The bucket in a row with the columns of `destinations`.
pub(crate) fn bucket(row: &Row) -> Result<Bucket, StoreError> {
    let options: BTreeMap<String, String> = row.json("write_options")?;
    let mut client: ClientRecord = row.json("client_options")?;
    let features = std::mem::take(&mut client.features).into();
    Ok(Bucket {
        name: row.get("bucket_name")?,
        prefix: row.get("prefix")?,
        region: row.get("region")?,
        endpoint_url: row.get("endpoint_url")?,
        include_bucket_in_prefix: row.get("include_bucket_in_prefix")?,
        addressing: row.word("addressing", |word| Addressing::parse("addressing", word))?,
        write_options: row.checked("write_options", WriteOptions::parse("", options))?,
        client: client.try_into().map_err(|fault| sql::unreadable("client_options", fault))?,
        features,
    })
}

fn destination(row: &Row) -> Result<Destination, StoreError> {
    Ok(Destination {
        id: row.get("id")?,
        tenant: row.get("tenant_id")?,
        display_name: row.word("display_name", |text| DisplayName::parse("display_name", text))?,
        bucket: bucket(row)?,
        identity: identity(row)?,
        credentials_keys: row.json("credentials_keys")?,
        created_at: row.get("created_at")?,
        updated_at: row.get("updated_at")?,
    })
}
