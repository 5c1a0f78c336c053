//! Standard output, which may be closed: a lab goes on when nobody reads what it says. And files, where results are
//! wanted there.

use std::io::{self, Write};
use std::path::Path;

use serde::Serialize;

/// Prints `text`, line ends included, at once.
pub fn say(text: &str) {
    let mut stdout = io::stdout().lock();
    // Nothing better can be done about a reader that has gone.
    let _ = stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush());
}

/// A result as text on standard output, and as JSON where it is wanted; `-` is standard output, and has nothing else then.
///
/// # Errors
/// That the file cannot be written.
pub fn tell(report: &impl Serialize, text: String, json: Option<&Path>) -> Result<(), String> {
    let as_json = serde_json::to_string_pretty(report).map_err(|error| error.to_string())? + "\n";
    match json {
        Some(path) if path == Path::new("-") => say(&as_json),
        Some(path) => {
            say(&text);
            write_file(path, &as_json)?;
        }
        None => say(&text),
    }
    Ok(())
}

/// Writes a result to a file.
///
/// # Errors
/// That it cannot be written.
pub fn write_file(path: &Path, text: &str) -> Result<(), String> {
    std::fs::write(path, text).map_err(|error| format!("cannot write {}: {error}", path.display()))
}
