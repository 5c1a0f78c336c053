//! Pressure on the machine: processes that want every CPU, or much memory, at ordinary priority.

use std::hint::black_box;
use std::process::{Child, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use crate::lab::own_program;
use crate::namespaces::{BOX, command_in};

/// The most memory that is taken, and of what is available the most: one part in so many.
const MEMORY_BYTES_MAX: usize = 512 << 20;
const MEMORY_PARTS: usize = 8;
/// Memory is touched in steps of a page.
const PAGE: usize = 4096;

/// What is pressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Target {
    /// Every CPU.
    Cpu,
    /// Memory.
    Memory,
}

/// A process that presses; ended when dropped.
pub struct Pressure(Child);

impl Pressure {
    /// Starts one that presses for `span`.
    ///
    /// # Errors
    /// What went wrong.
    pub fn start(target: Target, span: Duration) -> Result<Self, String> {
        let name = if target == Target::Cpu { "cpu" } else { "memory" };
        // In a namespace of the lab, so that it ends with the lab, however that ends.
        command_in(BOX, own_program()?)
            .args(["press", name, &format!("{}ms", span.as_millis())])
            .stdin(Stdio::null())
            .spawn()
            .map(Self)
            .map_err(|error| format!("cannot start the pressure: {error}"))
    }

    /// Whether it has ended.
    pub fn is_over(&mut self) -> bool {
        !matches!(self.0.try_wait(), Ok(None))
    }
}

impl Drop for Pressure {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Presses for `span`: what such a process does.
pub fn press(target: Target, span: Duration) {
    let end = Instant::now() + span;
    match target {
        Target::Cpu => thread::scope(|scope| {
            for _ in 0..thread::available_parallelism().map_or(1, usize::from) {
                scope.spawn(|| while Instant::now() < end {});
            }
        }),
        Target::Memory => {
            let bytes = MEMORY_BYTES_MAX.min(memory_available() / MEMORY_PARTS);
            while Instant::now() < end {
                let mut memory = vec![0_u8; bytes];
                memory.iter_mut().step_by(PAGE).for_each(|byte| *byte = 1);
                black_box(&memory);
            }
        }
    }
}

/// What proc_meminfo(5) says is available, in bytes.
fn memory_available() -> usize {
    let text = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let line = text.lines().find(|line| line.starts_with("MemAvailable:"));
    let kib = line.and_then(|line| line.split_whitespace().nth(1)).and_then(|text| text.parse::<usize>().ok());
    kib.unwrap_or_default() << 10
}
