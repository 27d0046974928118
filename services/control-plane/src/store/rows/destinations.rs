//! Destinations and their sealed credentials.

use std::collections::BTreeMap;

use tracelift_core::{
    destination::{Addressing, Bucket, Destination, DisplayName, WriteOptions},
    id::{DestinationId, TenantId},
    run::Run,
    time::Timestamp,
};

use crate::{
    store::{
        Access, StoreError,
        sql::{self, Row},
        transaction::Transaction,
    },
    vault::Sealed,
};

pub(crate) fn create(tx: &mut dyn Transaction, destination: &Destination, sealed: &Sealed) -> Result<(), StoreError> {
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
        ("sealed", (&sealed.0).into()),
        ("credentials_keys", sql::json(&destination.credentials_keys)?),
        ("created_at", destination.created_at.into()),
        ("updated_at", destination.updated_at.into()),
    ];
    sql::insert(tx, "destinations", columns)
}

pub(crate) fn one(tx: &mut dyn Transaction, tenant: TenantId, id: DestinationId) -> Result<Option<Destination>, StoreError> {
    let found = sql::one(tx, "SELECT * FROM destinations WHERE id = $1 AND tenant_id = $2", &[id.into(), tenant.into()])?;
    found.as_ref().map(destination).transpose()
}

pub(crate) fn all(tx: &mut dyn Transaction, tenant: TenantId) -> Result<Vec<Destination>, StoreError> {
    let rows = tx.query("SELECT * FROM destinations WHERE tenant_id = $1 ORDER BY created_at DESC, id DESC", &[tenant.into()])?;
    rows.iter().map(destination).collect()
}

pub(crate) fn replace_credentials(
    tx: &mut dyn Transaction,
    tenant: TenantId,
    id: DestinationId,
    sealed: &Sealed,
    keys: &[String],
    now: Timestamp,
) -> Result<Option<Destination>, StoreError> {
    tx.execute(
        "UPDATE destinations SET sealed = $3, credentials_keys = $4, updated_at = $5 WHERE id = $1 AND tenant_id = $2",
        &[id.into(), tenant.into(), (&sealed.0).into(), sql::json(&keys)?, now.into()],
    )?;
    one(tx, tenant, id)
}

pub(crate) fn all_sealed(tx: &mut dyn Transaction) -> Result<Vec<(TenantId, DestinationId, Sealed)>, StoreError> {
    let rows = tx.query("SELECT tenant_id, id, sealed FROM destinations", &[])?;
    rows.iter().map(|row| Ok((row.get("tenant_id")?, row.get("id")?, sealed(row)?))).collect()
}

pub(crate) fn reseal(tx: &mut dyn Transaction, id: DestinationId, old: &Sealed, new: &Sealed) -> Result<(), StoreError> {
    tx.execute("UPDATE destinations SET sealed = $3 WHERE id = $1 AND sealed = $2", &[id.into(), (&old.0).into(), (&new.0).into()])
}

/// The destination that a run writes to, with its sealed credentials.
pub(crate) fn access(tx: &mut dyn Transaction, run: &Run) -> Result<Option<Access>, StoreError> {
    let sql = "SELECT d.* FROM destinations d JOIN exports e ON e.destination_id = d.id WHERE e.id = $1 AND d.tenant_id = $2";
    let found = sql::one(tx, sql, &[run.export.into(), run.tenant.into()])?;
    let access = |row: Row| Ok(Access { tenant: run.tenant, destination: row.get("id")?, bucket: bucket(&row)?, sealed: sealed(&row)? });
    found.map(access).transpose()
}

fn sealed(row: &Row) -> Result<Sealed, StoreError> {
    Ok(Sealed(row.get("sealed")?))
}

/// The bucket in a row that has the columns of `destinations`.
pub(crate) fn bucket(row: &Row) -> Result<Bucket, StoreError> {
    let options: BTreeMap<String, String> = row.json("write_options")?;
    Ok(Bucket {
        name: row.get("bucket_name")?,
        prefix: row.get("prefix")?,
        region: row.get("region")?,
        endpoint_url: row.get("endpoint_url")?,
        include_bucket_in_prefix: row.get("include_bucket_in_prefix")?,
        addressing: row.word("addressing", |word| Addressing::parse("addressing", word))?,
        write_options: row.checked("write_options", WriteOptions::parse("", options))?,
    })
}

fn destination(row: &Row) -> Result<Destination, StoreError> {
    Ok(Destination {
        id: row.get("id")?,
        tenant: row.get("tenant_id")?,
        display_name: row.word("display_name", |text| DisplayName::parse("display_name", text))?,
        bucket: bucket(row)?,
        credentials_keys: row.json("credentials_keys")?,
        created_at: row.get("created_at")?,
        updated_at: row.get("updated_at")?,
    })
}
