//! Finds out what is wrong with a machine.
//!
//! Facts are gathered by [`crate::io::examine`], from the configuration and from the end that runs, if one does; what they
//! mean is said by functions that do nothing else, one for each check. Of what depends on something that is already found
//! wrong nothing is said: an interface that is missing has no carrier either.

mod ends;
mod files;
mod finding;
mod kernel;
mod machine;
mod report;
mod subject;
mod uplinks;
mod ways;

use std::io::{self, IsTerminal};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;

use super::{EndArguments, say};
use crate::io::examine;
use crate::run::EXIT_RUNTIME;
use finding::{Finding, Verdict};
use subject::Subject;

/// How.
#[derive(Debug, Args)]
pub(super) struct DoctorArguments {
    /// Tell it as JSON: a list of {check, uplink, result, found, advice}
    #[arg(long)]
    json: bool,
    /// Look at what this configuration file of braid-box or braid-gateway asks for, too
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

/// Examines the machine, what is configured, and what runs; says what was found. The code is 0 if an end can run here, though
/// perhaps not as well as it could, and 1 if something is in its way.
///
/// # Errors
/// That it cannot be said.
pub(super) fn run(end: &EndArguments, arguments: &DoctorArguments) -> Result<ExitCode, String> {
    let subject = Subject::find(end, arguments.config.as_deref());
    let mut findings = of_machine(&subject);
    findings.extend(subject.findings());
    let text = if arguments.json { report::json(&findings)? } else { report::text(&findings, is_colourful()) };
    say(&text)?;
    let is_ill = findings.iter().any(|finding| finding.result == Verdict::Fail);
    Ok(if is_ill { ExitCode::from(EXIT_RUNTIME) } else { ExitCode::SUCCESS })
}

/// Only where somebody looks, and has not said no (no-color.org).
fn is_colourful() -> bool {
    io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

/// What every end needs.
fn of_machine(subject: &Subject) -> Vec<Finding> {
    let mut findings = vec![kernel::release(&examine::kernel_release())];
    findings.extend(kernel::ring(examine::ring()));
    let capabilities = examine::capabilities();
    let (permissions, device) = (kernel::permissions(capabilities), kernel::tun_device(examine::tun_device()));
    let may_try = permissions.result == Verdict::Ok && device.result == Verdict::Ok;
    findings.extend([permissions, device]);
    if may_try {
        findings.push(kernel::tap(examine::scratch_tap()));
    }
    for option in ["UDP_SEGMENT", "UDP_GRO"] {
        findings.push(kernel::offload(option, examine::refused_offload(option)));
    }
    findings.extend(examine::receive_buffer().ok().map(kernel::receive_buffer));
    findings.push(machine::clock(examine::clock()));
    findings.push(machine::governor(&examine::governors()));
    findings.push(machine::cpus(&examine::allowed_cpus(), subject.pinned_to()));
    findings
}
