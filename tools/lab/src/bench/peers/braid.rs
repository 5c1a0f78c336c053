//! braid itself, over both uplinks.

use super::{PATIENCE, Running, Site};
use crate::addresses::{TUNNEL_BOX, TUNNEL_GATEWAY};
use crate::bench::stage::{DEVICE, FAR, FAR_ANY, NEAR, TUNNEL_MTU, UPLINKS};
use crate::bench::wait::wait_until;
use crate::end::{End, Which};
use crate::protection::Protection;

pub fn start_sealed(site: &Site<'_>) -> Result<Running, String> {
    start(site, false, &["--mode=balance-rr"], &[])
}

pub fn start_rekey(site: &Site<'_>) -> Result<Running, String> {
    start(site, false, &["--mode=balance-rr"], &["--rekey-interval=1s"])
}

pub fn start_balance_rr(site: &Site<'_>) -> Result<Running, String> {
    start(site, true, &["--mode=balance-rr"], &[])
}

pub fn start_active_backup(site: &Site<'_>) -> Result<Running, String> {
    start(site, true, &["--mode=active-backup"], &[])
}

pub fn start_busy_poll(site: &Site<'_>) -> Result<Running, String> {
    start(site, true, &["--mode=balance-rr", "--busy-poll=20ms"], &[])
}

fn start(site: &Site<'_>, is_plaintext: bool, flags: &[&str], box_flags: &[&str]) -> Result<Running, String> {
    let protection = Protection::new(is_plaintext, site.folder)?;
    let mut ends = [(Which::Gateway, FAR), (Which::Box, NEAR)]
        .into_iter()
        .map(|(which, namespace)| {
            let log = site.folder.join(format!("{}.log", which.program()));
            End::start_in(
                namespace,
                which,
                site.programs,
                &arguments(which, site, &protection, (flags, box_flags)),
                log,
            )
        })
        .collect::<Result<Vec<_>, _>>()?;
    let are_up = || {
        ends.iter_mut().try_for_each(End::check)?;
        Ok(ends.iter().all(|end| end.uplinks_come_up() >= UPLINKS.len()))
    };
    wait_until(are_up, PATIENCE, site.stop, || "not all uplinks come up".to_owned())?;
    Ok(Running::ready(ends.into_iter().map(End::into_daemon).collect()))
}

/// What an end is started with, of flags for both ends and for the box.
fn arguments(
    which: Which,
    site: &Site<'_>,
    protection: &Protection,
    (flags, box_flags): (&[&str], &[&str]),
) -> Vec<String> {
    let mut arguments = vec![format!("--tap={DEVICE}"), format!("--mtu={TUNNEL_MTU}"), "--control=off".to_owned()];
    arguments.extend(protection.flags(which));
    arguments.extend(flags.iter().map(|flag| (*flag).to_owned()));
    match which {
        Which::Gateway => {
            arguments.extend(["--listen=0.0.0.0:4754".to_owned(), format!("--address={TUNNEL_GATEWAY}/24")]);
            arguments.extend_from_slice(site.extra_gateway);
        }
        Which::Box => {
            arguments.extend([format!("--gateway={FAR_ANY}"), format!("--address={TUNNEL_BOX}/24")]);
            arguments.extend(box_flags.iter().map(|flag| (*flag).to_owned()));
            arguments.extend(UPLINKS.iter().map(|uplink| format!("--uplink=dev={uplink}")));
            arguments.extend_from_slice(site.extra_box);
        }
    }
    arguments
}
