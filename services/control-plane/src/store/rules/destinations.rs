//! The rules of destinations: repeating a request creates no second destination.

use tracelift_core::{id::TenantId, time::Timestamp};

use crate::store::{
    CreateDestinationOutcome, NewDestination, RequestKey, StoreError,
    tables::{
        destinations,
        requests::{self, DESTINATIONS, REQUEST_SECONDS},
        tenants,
    },
    transaction::Transaction,
};

pub(in crate::store) fn create(
    tx: &mut dyn Transaction,
    new: &NewDestination,
) -> Result<CreateDestinationOutcome, StoreError> {
    let NewDestination { destination, sealed, request } = new;
    let (tenant, now) = (destination.tenant, destination.created_at);
    if let Some(request) = request {
        tenants::lock(tx, tenant)?; // of two concurrent requests, the later one sees the other
        if let Some(known) = requested(tx, tenant, request, now)? {
            return Ok(known);
        }
    }
    destinations::create(tx, destination, sealed.as_ref())?;
    if let Some(request) = request {
        requests::remember(tx, &DESTINATIONS, tenant, request, destination.id.into(), now)?;
    }
    Ok(CreateDestinationOutcome::Now(Box::new(destination.clone())))
}

/// The outcome recorded for a key. A key is free again once its destination has been deleted.
pub(in crate::store) fn requested(
    tx: &mut dyn Transaction,
    tenant: TenantId,
    request: &RequestKey,
    now: Timestamp,
) -> Result<Option<CreateDestinationOutcome>, StoreError> {
    let Some(known) =
        requests::find(tx, &DESTINATIONS, tenant, request, now.plus_seconds(-REQUEST_SECONDS))?
    else {
        return Ok(None);
    };
    let Some(destination) = destinations::one(tx, tenant, known.made)? else { return Ok(None) };
    Ok(Some(if known.same {
        CreateDestinationOutcome::Before(Box::new(destination))
    } else {
        CreateDestinationOutcome::OtherRequest
    }))
}
