//! The files that an end reads and writes.

use std::io;
use std::path::Path;

use super::finding::Finding;
use crate::cli::keys::{KeyFile, key_in};
use crate::io::examine::Access;
use crate::proto::session::keys::PrivateKey;

/// Whether the file at `path` holds a key, and keeps it to its owner.
pub(super) fn key(path: &Path, read: &io::Result<KeyFile>) -> Finding {
    let shown = path.display();
    let file = match read {
        Ok(file) => file,
        Err(error) => {
            let advice = match error.kind() {
                io::ErrorKind::NotFound => {
                    format!("make one by 'braidctl keygen {shown}', and tell the other end what it prints")
                }
                _ => "run as its owner, or as root (sudo)".to_owned(),
            };
            return Finding::fail("key file", format!("{shown} cannot be read: {error}"), advice);
        }
    };
    if file.is_regular && file.mode & 0o077 != 0 {
        let found = format!("others than its owner can get at {shown} (mode {:04o})", file.mode & 0o7777);
        return Finding::fail("key file", found, format!("run 'chmod 600 {shown}'"));
    }
    // Both kinds of keys are written in the same way.
    match key_in(file, path, PrivateKey::parse) {
        Ok(_) => Finding::ok("key file", format!("{shown} is its owner's alone")),
        Err(error) => Finding::fail(
            "key file",
            format!("{shown}: {error}"),
            "put back the key that was there, or make another by 'braidctl keygen' and tell the other end what it prints",
        ),
    }
}

/// Whether what uplinks have carried can be kept at `path`.
pub(super) fn usage(path: &Path, access: &Access) -> Finding {
    written("usage file", path, access, |error| {
        Finding::fail(
            "usage file",
            error,
            "a box with budgets does not start without it: name another place (usage-file), or let this user write there",
        )
    })
}

/// Whether a control socket can be made at `path`. One that was not asked for (`is_wanted`) is done without.
pub(super) fn control(path: &Path, is_wanted: bool, access: &Access) -> Finding {
    written("control socket", path, access, |error| {
        let verdict = if is_wanted { Finding::fail } else { Finding::warn };
        let advice = "braidctl cannot ask an end without one: let this user write there (RuntimeDirectory=braid), or name another \
                      place (control)";
        verdict("control socket", error, advice.to_owned())
    })
}

fn written(check: &'static str, path: &Path, access: &Access, refuse: impl FnOnce(String) -> Finding) -> Finding {
    let (path_text, place) = (path.display(), access.place.display());
    match &access.refused {
        Some(error) if access.place == path => refuse(format!("{path_text} cannot be written: {error}")),
        Some(error) => refuse(format!("{path_text} cannot be made: {place} cannot be written: {error}")),
        None if access.place == path => Finding::ok(check, format!("{path_text} can be written")),
        None => Finding::ok(check, format!("{path_text} is not there yet, and can be made")),
    }
}

#[cfg(test)]
mod tests {
    use zeroize::Zeroizing;

    use super::super::finding::{Verdict, assert_says};
    use super::*;

    const KEY: &str = "dwdtCnMYpX08FsFyUbJmRd9ML4frwJkqsXf7pR25LCo=\n";

    fn key_of(mode: u32, contents: &str) -> Finding {
        let contents = Zeroizing::new(contents.as_bytes().to_vec());
        key(Path::new("/etc/braid/key"), &Ok(KeyFile { is_regular: true, mode, contents }))
    }

    #[test]
    fn a_key_is_its_owners_alone() {
        assert_says(&key_of(0o100_600, KEY), "key file", Verdict::Ok, &["/etc/braid/key"]);
        assert_says(&key_of(0o100_644, KEY), "key file", Verdict::Fail, &["0644", "chmod 600 /etc/braid/key"]);
        assert_says(&key_of(0o100_600, "nonsense"), "key file", Verdict::Fail, &["44 characters", "put back"]);
        let missing = key(Path::new("/k"), &Err(io::Error::from_raw_os_error(libc::ENOENT)));
        assert_says(&missing, "key file", Verdict::Fail, &["braidctl keygen /k"]);
        let kept = key(Path::new("/k"), &Err(io::Error::from_raw_os_error(libc::EACCES)));
        assert_says(&kept, "key file", Verdict::Fail, &["as its owner"]);
    }

    #[test]
    fn what_cannot_be_written_is_told_with_the_place_that_is_to_blame() {
        let path = Path::new("/var/lib/braid/braid0.usage");
        let access = |place: &str, errno: Option<i32>| Access {
            place: place.into(),
            refused: errno.map(io::Error::from_raw_os_error),
        };
        assert_says(&usage(path, &access("/var/lib", None)), "usage file", Verdict::Ok, &["can be made"]);
        let refused = usage(path, &access("/var/lib", Some(libc::EROFS)));
        assert_says(&refused, "usage file", Verdict::Fail, &["/var/lib cannot be written", "Read-only", "usage-file"]);
        let kept = usage(path, &access("/var/lib/braid/braid0.usage", Some(libc::EACCES)));
        assert_says(&kept, "usage file", Verdict::Fail, &["braid0.usage cannot be written", "denied"]);
        let folder = control(Path::new("/run/braid"), false, &access("/run", Some(libc::EACCES)));
        assert_says(&folder, "control socket", Verdict::Warn, &["/run cannot be written", "RuntimeDirectory"]);
        let wanted = control(Path::new("/run/b.sock"), true, &access("/run", Some(libc::EACCES)));
        assert_says(&wanted, "control socket", Verdict::Fail, &["/run/b.sock", "(control)"]);
    }
}
