//! Standard output, which may be closed: a lab goes on when nobody reads what it says.

use std::io::{self, Write};

/// Prints `text`, line ends included, at once.
pub fn say(text: &str) {
    let mut stdout = io::stdout().lock();
    // Nothing better can be done about a reader that has gone.
    let _ = stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush());
}
