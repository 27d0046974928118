//! Destinations and their sealed credentials.

use std::collections::BTreeMap;

use rusqlite::{OptionalExtension as _, Row, Transaction, named_params};
use tracelift_core::{
    destination::{Addressing, Bucket, Destination, DisplayName, WriteOptions},
    id::{DestinationId, TenantId},
    time::Timestamp,
};

use super::record;
use crate::{store::StoreError, vault::Sealed};

pub(super) fn create(tx: &Transaction<'_>, destination: &Destination, sealed: &Sealed) -> Result<(), StoreError> {
    let bucket = &destination.bucket;
    let options: BTreeMap<_, _> = bucket.write_options.iter().collect();
    let values = named_params! {
        ":id": destination.id.to_string(), ":tenant_id": destination.tenant.to_string(),
        ":display_name": destination.display_name.as_str(), ":bucket_name": bucket.name, ":prefix": bucket.prefix,
        ":region": bucket.region, ":endpoint_url": bucket.endpoint_url,
        ":include_bucket_in_prefix": bucket.include_bucket_in_prefix, ":addressing": bucket.addressing.as_str(),
        ":write_options": record::to_json(&options)?, ":sealed": sealed.0,
        ":credentials_keys": record::to_json(&destination.credentials_keys)?,
        ":created_at": destination.created_at.micros(), ":updated_at": destination.updated_at.micros(),
    };
    tx.execute(
        "INSERT INTO destinations (id, tenant_id, display_name, bucket_name, prefix, region, endpoint_url, include_bucket_in_prefix,
                                   addressing, write_options, sealed, credentials_keys, created_at, updated_at)
         VALUES (:id, :tenant_id, :display_name, :bucket_name, :prefix, :region, :endpoint_url, :include_bucket_in_prefix,
                 :addressing, :write_options, :sealed, :credentials_keys, :created_at, :updated_at)",
        values,
    )?;
    Ok(())
}

pub(super) fn one(tx: &Transaction<'_>, tenant: TenantId, id: DestinationId) -> Result<Option<Destination>, StoreError> {
    let mut query = tx.prepare_cached("SELECT * FROM destinations WHERE id = ?1 AND tenant_id = ?2")?;
    Ok(query.query_row((id.to_string(), tenant.to_string()), destination).optional()?)
}

pub(super) fn all(tx: &Transaction<'_>, tenant: TenantId) -> Result<Vec<Destination>, StoreError> {
    let mut query = tx.prepare_cached("SELECT * FROM destinations WHERE tenant_id = ?1 ORDER BY created_at DESC, id DESC")?;
    let destinations = query.query_map([tenant.to_string()], destination)?;
    Ok(destinations.collect::<Result<_, _>>()?)
}

pub(super) fn replace_credentials(
    tx: &Transaction<'_>,
    tenant: TenantId,
    id: DestinationId,
    sealed: &Sealed,
    keys: &[String],
    now: Timestamp,
) -> Result<Option<Destination>, StoreError> {
    let values = named_params! {
        ":id": id.to_string(), ":tenant_id": tenant.to_string(), ":sealed": sealed.0,
        ":credentials_keys": record::to_json(&keys)?, ":updated_at": now.micros(),
    };
    tx.execute(
        "UPDATE destinations SET sealed = :sealed, credentials_keys = :credentials_keys, updated_at = :updated_at
         WHERE id = :id AND tenant_id = :tenant_id",
        values,
    )?;
    one(tx, tenant, id)
}

pub(super) fn all_sealed(tx: &Transaction<'_>) -> Result<Vec<(TenantId, DestinationId, Sealed)>, StoreError> {
    let mut query = tx.prepare_cached("SELECT tenant_id, id, sealed FROM destinations")?;
    let rows = query.query_map([], |row| Ok((record::id(row, "tenant_id")?, record::id(row, "id")?, sealed(row)?)))?;
    Ok(rows.collect::<Result<_, _>>()?)
}

pub(super) fn reseal(tx: &Transaction<'_>, id: DestinationId, old: &Sealed, new: &Sealed) -> Result<(), StoreError> {
    tx.execute("UPDATE destinations SET sealed = ?3 WHERE id = ?1 AND sealed = ?2", (id.to_string(), &old.0, &new.0))?;
    Ok(())
}

/// The sealed credentials in a row of `destinations`.
pub(super) fn sealed(row: &Row<'_>) -> rusqlite::Result<Sealed> {
    Ok(Sealed(row.get("sealed")?))
}

/// The bucket in a row that has the columns of `destinations`.
pub(super) fn bucket(row: &Row<'_>) -> rusqlite::Result<Bucket> {
    let options: BTreeMap<String, String> = record::json(row, "write_options")?;
    Ok(Bucket {
        name: row.get("bucket_name")?,
        prefix: row.get("prefix")?,
        region: row.get("region")?,
        endpoint_url: row.get("endpoint_url")?,
        include_bucket_in_prefix: row.get("include_bucket_in_prefix")?,
        addressing: record::word(row, "addressing", |word| Addressing::parse("addressing", word))?,
        write_options: WriteOptions::parse("", options).map_err(|faults| record::all_unreadable("write_options", &faults))?,
    })
}

fn destination(row: &Row<'_>) -> rusqlite::Result<Destination> {
    Ok(Destination {
        id: record::id(row, "id")?,
        tenant: record::id(row, "tenant_id")?,
        display_name: record::word(row, "display_name", |text| DisplayName::parse("display_name", text))?,
        bucket: bucket(row)?,
        credentials_keys: record::json(row, "credentials_keys")?,
        created_at: record::time(row, "created_at")?,
        updated_at: record::time(row, "updated_at")?,
    })
}
