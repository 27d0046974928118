//! admin.proto: permissions and the audit log. Everything else is text and ids, which the handlers
//! read directly.

use tracelift_core::{
    Invalid,
    audit::{Chained, Hash, Link, Record},
    id::TenantId,
};

use super::{time_from, time_to};
use crate::v1::{self, Permission};

impl Permission {
    /// Reads the permission of a new API key; unspecified means manage.
    pub fn requested(value: i32) -> Result<Self, Invalid> {
        match Self::try_from(value) {
            Ok(Self::Unspecified) => Ok(Self::Manage),
            Ok(permission) => Ok(permission),
            Err(_) => Err(Invalid::new(
                "permission",
                "must be PERMISSION_READ, PERMISSION_MANAGE or PERMISSION_ADMIN",
            )),
        }
    }

    /// `read`, `manage` or `admin`.
    pub fn word(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Admin => "admin",
            Self::Manage | Self::Unspecified => "manage",
        }
    }
}

impl From<Link> for v1::AuditLink {
    fn from(link: Link) -> Self {
        Self { number: link.number, hash: link.hash.to_vec() }
    }
}

impl TryFrom<v1::AuditLink> for Link {
    type Error = Invalid;

    fn try_from(link: v1::AuditLink) -> Result<Self, Invalid> {
        Ok(Self { number: link.number, hash: hash(&link.hash)? })
    }
}

impl From<Chained> for v1::AuditRecord {
    fn from(Chained { record, hash }: Chained) -> Self {
        Self {
            number: record.number,
            time: Some(time_to(record.at)),
            tenant_id: record.tenant.map(|tenant| tenant.to_string()).unwrap_or_default(),
            actor_kind: record.actor_kind,
            actor: record.actor,
            action: record.action,
            object: record.object,
            refused: record.refused,
            request_id: record.request_id,
            peer_address: record.address,
            hash: hash.to_vec(),
        }
    }
}

impl TryFrom<v1::AuditRecord> for Chained {
    type Error = Invalid;

    fn try_from(message: v1::AuditRecord) -> Result<Self, Invalid> {
        let tenant = Some(message.tenant_id.as_str()).filter(|id| !id.is_empty());
        let record = Record {
            number: message.number,
            at: time_from("time", message.time.as_ref())?,
            tenant: tenant.map(|id| TenantId::parse("tenant_id", id)).transpose()?,
            actor_kind: message.actor_kind,
            actor: message.actor,
            action: message.action,
            object: message.object,
            refused: message.refused,
            request_id: message.request_id,
            address: message.peer_address,
        };
        Ok(Self { record, hash: hash(&message.hash)? })
    }
}

fn hash(bytes: &[u8]) -> Result<Hash, Invalid> {
    Hash::try_from(bytes).map_err(|_| Invalid::new("hash", "must have 32 bytes"))
}

#[cfg(test)]
mod tests {
    use tracelift_core::time::Timestamp;
    use uuid::Uuid;

    use super::*;

    #[test]
    fn a_record_survives_the_wire_with_all_that_its_hash_covers() {
        let record = Record {
            number: 7,
            at: Timestamp::EPOCH.plus_seconds(9),
            tenant: Some(TenantId(Uuid::from_u128(1))),
            actor_kind: "api_key".into(),
            actor: "k".into(),
            action: "create_bulk_export".into(),
            object: "o".into(),
            refused: Some("no".into()),
            request_id: "r".into(),
            address: "192.0.2.1".into(),
        };
        let chained = Chained { hash: record.hash(&[1; 32]), record };
        assert_eq!(v1::AuditRecord::from(chained.clone()).try_into(), Ok(chained));
        let cut = v1::AuditLink { number: 1, hash: vec![0; 31] };
        assert_eq!(Link::try_from(cut).unwrap_err().field, "hash");
    }
}
