//! The body of the fuzz target for scenarios. It lives here so that everyone compiles it, and the tests replay the
//! corpus.

use std::path::Path;

use crate::action::parse_action;
use crate::scenario::{Scenario, UPLINKS_MAX};

/// A scenario file, and each of its lines as an order to a lab that is up.
///
/// # Panics
/// If what is accepted cannot be run, or what is refused is not told in one line.
pub fn scenario(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else { return };
    for line in text.lines() {
        if let Err(message) = parse_action(line) {
            assert!(!message.contains('\n'), "{message:?}");
        }
    }
    // No trace is looked for beside it: a fuzzer is not to read files.
    let is_harmless = !text.contains("trace");
    match Scenario::parse("fuzzed", text, Path::new("/nonexistent")) {
        Ok(scenario) if is_harmless => {
            assert!((1..=UPLINKS_MAX).contains(&scenario.uplinks.len()));
            let is_known = |name: &str| scenario.uplinks.iter().any(|uplink| uplink.name == name);
            assert!(scenario.events.iter().all(|event| is_known(&event.uplink)));
            assert!(scenario.uplinks.iter().all(|uplink| uplink.rate != Some(0)), "no packet would ever leave");
        }
        Ok(_) => {}
        Err(error) => assert_eq!(error.to_string().lines().count(), 1, "{error}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_corpus_passes() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/corpus/scenario");
        let files = std::fs::read_dir(folder).expect("the corpus is committed");
        let seeds = files.map(|file| scenario(&std::fs::read(file.expect("an entry").path()).expect("a seed")));
        assert!(seeds.count() >= 5, "there is a seed for every kind of table");
    }
}
