//! One TCP stream, by iperf3.

use std::net::Ipv4Addr;
use std::process::Stdio;
use std::thread;
use std::time::Duration;

use serde_json::Value;

use super::stage::{FAR, NEAR};
use super::wait::wait_for;
use crate::namespaces::command_in;
use crate::stop::Stop;

/// How long its server may take to listen.
const SERVER_START: Duration = Duration::from_millis(200);

/// What a stream has come to.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Stream {
    /// Mbit/s received, without the first second.
    pub mbps: f64,
    /// Bytes received, with the first second.
    pub bytes: f64,
}

/// Sends for one second, which does not count for the rate, and then `seconds`.
///
/// # Errors
/// What went wrong, or a signal.
pub fn stream(to: Ipv4Addr, seconds: u64, stop: &Stop) -> Result<Stream, String> {
    let address = to.to_string();
    let missing = |error: std::io::Error| format!("cannot run iperf3 ({error}): install it");
    let mut server = command_in(FAR, "iperf3");
    server.args(["-s", "-1", "-J", "-B", &address]).stdout(Stdio::null()).stderr(Stdio::null());
    let mut server = server.spawn().map_err(missing)?;
    thread::sleep(SERVER_START);
    let mut client = command_in(NEAR, "iperf3");
    client.args(["-c", &address, "-J", "-O", "1", "--get-server-output", "-t", &seconds.to_string()]);
    let client = client.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().map_err(missing);
    let said = client.and_then(|client| wait_for(client, stop));
    let _ = server.kill();
    let _ = server.wait();
    parse(&said?)
}

/// What iperf3 says, and within it what its server says: the receiver's figures.
fn parse(said: &str) -> Result<Stream, String> {
    let said: Value = serde_json::from_str(said).map_err(|error| format!("iperf3 says nothing: {error}"))?;
    let failed = || format!("iperf3 failed: {}", said["error"].as_str().unwrap_or("it has no result"));
    let rate = said["end"]["sum_received"]["bits_per_second"].as_f64().ok_or_else(failed)?;
    let intervals = said["server_output_json"]["intervals"].as_array().ok_or_else(failed)?;
    let bytes: f64 = intervals.iter().filter_map(|interval| interval["sum"]["bytes"].as_f64()).sum();
    if rate <= 0.0 || bytes <= 0.0 {
        return Err("iperf3 failed: nothing arrived".to_owned());
    }
    Ok(Stream { mbps: rate / 1e6, bytes })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_receivers_figures_are_taken() {
        let said = r#"{"intervals": [{"sum": {"bytes": 1}}],
            "end": {"sum_sent": {"bits_per_second": 9e8}, "sum_received": {"bits_per_second": 8.5e8}},
            "server_output_json": {"intervals": [{"sum": {"bytes": 300, "omitted": true}}, {"sum": {"bytes": 700}}]}}"#;
        assert_eq!(parse(said), Ok(Stream { mbps: 850.0, bytes: 1000.0 }));
    }

    #[test]
    fn what_went_wrong_is_told() {
        let refused = r#"{"start": {}, "intervals": [], "end": {}, "error": "unable to connect to server"}"#;
        assert!(parse(refused).is_err_and(|error| error.contains("unable to connect")));
        assert!(parse("").is_err_and(|error| error.contains("says nothing")));
        let nothing = r#"{"end": {"sum_received": {"bits_per_second": 0}}, "server_output_json": {"intervals": []}}"#;
        assert!(parse(nothing).is_err_and(|error| error.contains("nothing arrived")));
    }
}
