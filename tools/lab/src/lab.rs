//! The lab while it is up: namespaces, emulators, and what happens to the links.

use std::fs::{DirBuilder, File, OpenOptions, TryLockError};
use std::io::{BufRead, BufReader, ErrorKind, Read, Seek, Write};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use crate::action::{Action, spell_action};
use crate::emulator::EmulatorReport;
use crate::namespaces;
use crate::orders;
use crate::scenario::Scenario;

/// Held locked by the process that has the lab up, with its number inside.
const LOCK: &str = "/run/braid-lab.lock";
/// Where the keys of tunnels go while a lab is up, for root only.
const SECRETS: &str = "/run/braid-lab";
/// How long `down` waits for another process to clear up after itself.
const PATIENCE: Duration = Duration::from_secs(10);

struct Emulator {
    child: Child,
    orders: Option<ChildStdin>,
    output: BufReader<ChildStdout>,
}

/// A lab that is up; taken down when dropped.
pub struct Lab {
    scenario: Scenario,
    emulators: Vec<Emulator>,
    _lock: File,
}

impl Lab {
    /// Brings the lab up. `name` is how the emulators find the scenario again.
    ///
    /// # Errors
    /// What went wrong.
    pub fn up(scenario: &Scenario, name: &str) -> Result<Self, String> {
        if !rustix::process::geteuid().is_root() {
            return Err("network namespaces need root: run it with sudo".to_owned());
        }
        let lock = lock()?;
        // Left by a process that was killed.
        clear()?;
        let mut lab = Self { scenario: scenario.clone(), emulators: vec![], _lock: lock };
        let made = DirBuilder::new().mode(0o700).create(SECRETS);
        made.map_err(|error| format!("cannot make the folder {SECRETS}: {error}"))?;
        namespaces::create(scenario)?;
        for (index, uplink) in scenario.uplinks.iter().enumerate() {
            lab.emulators.push(start_emulator(name, index, scenario)?);
            namespaces::route_through_emulator(&uplink.name)?;
        }
        Ok(lab)
    }

    /// The scenario.
    #[must_use]
    pub const fn scenario(&self) -> &Scenario {
        &self.scenario
    }

    /// Where the keys of a tunnel may go, until the lab is down.
    #[must_use]
    pub fn secrets(&self) -> &Path {
        Path::new(SECRETS)
    }

    /// Has something happen to an uplink; `text` is as in the scenario.
    ///
    /// # Errors
    /// What went wrong.
    pub fn apply(&mut self, uplink: &str, action: Action) -> Result<(), String> {
        let index = self.scenario.uplinks.iter().position(|known| known.name == uplink);
        let index = index.ok_or_else(|| format!("there is no uplink '{uplink}'"))?;
        match action {
            Action::CarrierDown => namespaces::set_carrier(uplink, index, false),
            Action::CarrierUp => namespaces::set_carrier(uplink, index, true),
            Action::InterfaceRemove => namespaces::remove_interface(uplink),
            Action::InterfaceAdd => namespaces::add_interface(&self.scenario.uplinks[index], index),
            other => self.emulators[index].order(&spell_action(other)),
        }
    }

    /// Takes the lab down; what the emulators have counted.
    pub fn down(mut self) -> Vec<EmulatorReport> {
        self.emulators.drain(..).map(Emulator::finish).collect()
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        self.emulators.drain(..).for_each(|emulator| {
            emulator.finish();
        });
        if let Err(error) = clear() {
            eprintln!("braid-lab: not all could be removed: {error}");
        }
    }
}

impl Emulator {
    fn order(&mut self, order: &str) -> Result<(), String> {
        let orders = self.orders.as_mut().ok_or("the emulator has ended")?;
        writeln!(orders, "{order}").map_err(|error| format!("the emulator has ended: {error}"))
    }

    /// Ends it by ending its standard input.
    fn finish(mut self) -> EmulatorReport {
        drop(self.orders.take());
        let mut last = String::new();
        let _ = self.output.read_to_string(&mut last);
        let _ = self.child.wait();
        serde_json::from_str(last.trim()).unwrap_or_default()
    }
}

fn start_emulator(name: &str, index: usize, scenario: &Scenario) -> Result<Emulator, String> {
    let program = own_program()?;
    let uplink = &scenario.uplinks[index].name;
    let mut child = namespaces::prompt_command_in(&namespaces::provider(uplink), program)
        .args(["emulate", name, &index.to_string(), &scenario.seed.to_string()])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .map_err(|error| format!("cannot start the emulator of '{uplink}': {error}"))?;
    let orders = child.stdin.take();
    let output = child.stdout.take().ok_or("no output of the emulator")?;
    let mut output = BufReader::new(output);
    let mut line = String::new();
    let read = output.read_line(&mut line).map_err(|error| error.to_string())?;
    if read == 0 || line.trim() != "ready" {
        return Err(format!("the emulator of '{uplink}' has not started: {}", line.trim()));
    }
    Ok(Emulator { child, orders, output })
}

/// This very program.
///
/// # Errors
/// If the system does not tell.
pub fn own_program() -> Result<PathBuf, String> {
    std::env::current_exe().map_err(|error| format!("cannot find my own program: {error}"))
}

/// Where braid's programs are: in the folder given, or beside this one.
///
/// # Errors
/// If the system does not tell.
pub fn program_folder(given: Option<&Path>) -> Result<PathBuf, String> {
    match given {
        Some(folder) => Ok(folder.to_owned()),
        None => Ok(own_program()?.parent().map(Path::to_owned).unwrap_or_default()),
    }
}

fn open_lock() -> Result<File, String> {
    OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .open(LOCK)
        .map_err(|error| format!("cannot open {LOCK}: {error}"))
}

fn lock() -> Result<File, String> {
    let mut file = open_lock()?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => return Err("a lab is up already: end it with 'braid-lab down'".to_owned()),
        Err(TryLockError::Error(error)) => return Err(format!("cannot lock {LOCK}: {error}")),
    }
    let written = file.set_len(0).and_then(|()| write!(file, "{}", std::process::id()));
    written.map_err(|error| format!("cannot write {LOCK}: {error}"))?;
    Ok(file)
}

/// Takes down whatever lab there is, also one whose process has crashed.
///
/// # Errors
/// What could not be removed.
pub fn take_down() -> Result<(), String> {
    end_holder()?;
    let _lock = lock()?;
    clear()
}

/// Ends the process that holds the lab up, if there is one; first by asking.
fn end_holder() -> Result<(), String> {
    for signal in [Signal::TERM, Signal::KILL] {
        let mut file = open_lock()?;
        if file.try_lock().is_ok() {
            return Ok(());
        }
        let mut text = String::new();
        file.rewind().and_then(|()| file.read_to_string(&mut text)).map_err(|error| error.to_string())?;
        // The lock is held, so the process that wrote its number there is alive, and is a lab.
        if let Some(holder) = text.trim().parse().ok().and_then(Pid::from_raw) {
            let _ = kill_process(holder, signal);
        }
        let begun = Instant::now();
        while begun.elapsed() < PATIENCE {
            if file.try_lock().is_ok() {
                return Ok(());
            }
            thread::sleep(Duration::from_millis(20));
        }
    }
    Err("the process that holds the lab up does not end".to_owned())
}

/// Ends every process in the lab's namespaces, and removes them and all keys.
fn clear() -> Result<(), String> {
    orders::remove_socket();
    for namespace in namespaces::existing()? {
        namespaces::end_all_in(&namespace);
    }
    namespaces::remove_all()?;
    match std::fs::remove_dir_all(SECRETS) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(format!("cannot remove {SECRETS}: {error}")),
        _ => Ok(()),
    }
}
