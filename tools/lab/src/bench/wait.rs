//! Waiting for others, and for a signal at the same time.

use std::io::Read;
use std::process::Child;
use std::thread;
use std::time::{Duration, Instant};

use crate::stop::Stop;

const LOOK: Duration = Duration::from_millis(10);

/// Waits until something is true, which is asked now and then.
///
/// # Errors
/// `what` it did not do, if patience runs out, or a signal.
pub fn wait_until(
    mut is_true: impl FnMut() -> Result<bool, String>,
    patience: Duration,
    stop: &Stop,
    what: impl Fn() -> String,
) -> Result<(), String> {
    let begun = Instant::now();
    while !is_true()? {
        stop.check()?;
        if begun.elapsed() > patience {
            return Err(what());
        }
        thread::sleep(LOOK);
    }
    Ok(())
}

/// Waits for the end of a child, whose standard output is piped; what it has said there. Ends it on a signal.
///
/// # Errors
/// That its output cannot be read, or a signal.
pub fn wait_for(mut child: Child, stop: &Stop) -> Result<String, String> {
    let mut output = child.stdout.take().ok_or("the child's output is not piped")?;
    // Read meanwhile, or it would wait for a reader when it says much.
    let reader = thread::spawn(move || {
        let mut text = String::new();
        output.read_to_string(&mut text).map(|_| text)
    });
    while matches!(child.try_wait(), Ok(None)) {
        if let Err(stopped) = stop.check() {
            let _ = child.kill();
            let _ = child.wait();
            return Err(stopped);
        }
        thread::sleep(LOOK);
    }
    let read = reader.join().map_err(|_| "the reader has failed".to_owned())?;
    read.map_err(|error| format!("cannot read what it says: {error}"))
}
