//! admin.proto: permissions. The rest of it is text and ids that the handlers read directly.

use tracelift_core::Invalid;

use crate::v1::Permission;

impl Permission {
    /// The permission asked for; unspecified means manage.
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
