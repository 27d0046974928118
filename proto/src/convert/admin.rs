//! admin.proto: permissions. Everything else is text and ids, which the handlers read directly.

use tracelift_core::Invalid;

use crate::v1::Permission;

impl Permission {
    /// Reads the permission of a new API key; unspecified means manage.
    pub fn requested(value: i32) -> Result<Self, Invalid> {
        match Self::try_from(value) {
            Ok(Self::Unspecified) => Ok(Self::Manage),
            Ok(permission) => Ok(permission),
            Err(_) => {
                Err(Invalid::new("permission", "must be PERMISSION_READ or PERMISSION_MANAGE"))
            }
        }
    }
}
