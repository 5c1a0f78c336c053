//! The boxes of a gateway: `--box`, and what they must not have in common.

use std::path::PathBuf;

use super::UsageError;
use super::values::parse_cidr;
use crate::config::{BOXES_MAX, Cidr, InterfaceName, Share, Window, parse_mode};
use crate::proto::scheduler::Mode;
use crate::proto::session::keys::PublicKey;
use crate::proto::uplink::UplinkName;

/// A box, as the user described it.
#[derive(Clone, Debug)]
pub(super) struct BoxDescription {
    pub(super) name: UplinkName,
    pub(super) peer: PublicKey,
    pub(super) preshared_key_file: Option<PathBuf>,
    pub(super) tap: InterfaceName,
    pub(super) addresses: Vec<Cidr>,
    pub(super) bridge: Option<InterfaceName>,
    /// Unless it is the gateway's.
    pub(super) mode: Option<Mode>,
    /// Unless it is the gateway's.
    pub(super) window: Option<Window>,
}

/// What has been read of a description.
#[derive(Default)]
struct Parts {
    name: Option<UplinkName>,
    peer: Option<PublicKey>,
    preshared_key_file: Option<PathBuf>,
    tap: Option<InterfaceName>,
    addresses: Vec<Cidr>,
    bridge: Option<InterfaceName>,
    mode: Option<Mode>,
    window: Option<Window>,
}

pub(super) fn parse_box(text: &str) -> Result<BoxDescription, String> {
    let mut parts = Parts::default();
    for part in text.split(',') {
        let (key, value) = part.split_once('=').ok_or_else(|| format!("'{part}' has no '=': write KEY=VALUE"))?;
        let is_twice = parts.take(key, value).map_err(|error| format!("{key}: {error}"))?;
        if is_twice {
            return Err(format!("'{key}' is given twice"));
        }
    }
    parts.finish()
}

impl Parts {
    /// Returns whether there was one already, of what there can only be one.
    fn take(&mut self, key: &str, value: &str) -> Result<bool, String> {
        Ok(match key {
            "name" => self.name.replace(parse_name(value)?).is_some(),
            "peer" => self.peer.replace(PublicKey::parse(value)?).is_some(),
            "tap" => self.tap.replace(InterfaceName::new(value)?).is_some(),
            "bridge" => self.bridge.replace(InterfaceName::new(value)?).is_some(),
            "mode" => self.mode.replace(parse_mode(value)?).is_some(),
            "window" => self.window.replace(value.parse()?).is_some(),
            "preshared-key-file" if value.is_empty() => return Err("which file?".to_owned()),
            "preshared-key-file" => self.preshared_key_file.replace(value.into()).is_some(),
            "address" => {
                self.addresses.push(parse_cidr(value)?);
                false
            }
            _ => {
                let known = "name, peer, tap, address, bridge, mode, window and preshared-key-file";
                return Err(format!("'{key}' is not known: {known} are"));
            }
        })
    }

    fn finish(self) -> Result<BoxDescription, String> {
        Ok(BoxDescription {
            name: self.name.ok_or("'name' is missing: what are logs to call the box?")?,
            peer: self.peer.ok_or("'peer' is missing: the box's public key, as 'braidctl pubkey' prints it there")?,
            tap: self.tap.ok_or("'tap' is missing: which interface to create for the box?")?,
            preshared_key_file: self.preshared_key_file,
            addresses: self.addresses,
            bridge: self.bridge,
            mode: self.mode,
            window: self.window,
        })
    }
}

fn parse_name(text: &str) -> Result<UplinkName, String> {
    UplinkName::new(text).map_err(|error| error.replace("an uplink name", "a name for a box"))
}

/// Each must be told from the others, and have an interface of its own; and this process's must not be too many.
pub(super) fn check_boxes(boxes: &[BoxDescription], share: Share) -> Result<(), UsageError> {
    let ours = boxes.iter().filter(|one| share.has(one.peer.hint())).count();
    if ours > BOXES_MAX {
        return Err(UsageError::new(format!(
            "{ours} boxes are too many for one process, which serves up to {BOXES_MAX} (--box): have several share the \
             port (--share), or more of them"
        )));
    }
    boxes.iter().enumerate().try_for_each(|(index, one)| {
        boxes[..index]
            .iter()
            .find_map(|other| what_is_shared(one, other))
            .map_or(Ok(()), |error| Err(UsageError::new(format!("{error} (--box)"))))
    })
}

fn what_is_shared(one: &BoxDescription, other: &BoxDescription) -> Option<String> {
    let names = format!("'{}' and '{}'", other.name, one.name);
    if one.name == other.name {
        Some(format!("two boxes are called '{}': give each a name of its own", one.name))
    } else if one.peer == other.peer {
        Some(format!("boxes {names} have the same key: make one for each, with 'braidctl keygen'"))
    } else if one.tap == other.tap {
        Some(format!("boxes {names} have the same TAP, {}: give each one of its own", one.tap))
    } else {
        None
    }
}
