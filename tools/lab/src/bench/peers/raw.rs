//! No tunnel: the first uplink by itself.

use super::{Running, Site};
use crate::bench::stage::FAR_FIRST;

#[expect(clippy::unnecessary_wraps, reason = "all others can fail")]
pub fn start(_site: &Site<'_>) -> Result<Running, String> {
    Ok(Running::in_kernel(FAR_FIRST))
}
