//! Answers whoever asks for the metrics by HTTP.

use std::io::{self, Write};
use std::net::{SocketAddr, TcpListener};
use std::thread;

use tiny_http::{Header, Method, Request, Response, Server};

use crate::braidctl::PROGRAM;
use crate::braidctl::status::figures::plain;

/// How many requests are answered at once.
const WORKERS: usize = 4;
const PATH: &str = "/metrics";
/// So that no browser takes an answer for what it is not.
const PLAIN_TEXT: &str = "text/plain; charset=utf-8";

/// Answers for good, each time with what `ask` says then.
///
/// # Errors
/// Why nobody can be answered (any more).
pub(super) fn serve(address: SocketAddr, ask: impl Fn() -> Result<String, String> + Sync) -> Result<(), String> {
    let listener = TcpListener::bind(address).map_err(|error| explain(address, &error))?;
    let shown = listener.local_addr().map_err(|error| explain(address, &error))?;
    let server = Server::from_listener(listener, None).map_err(|error| format!("--listen {address}: {error}"))?;
    // Not on standard output, where the metrics would be. Nobody need read it.
    let _ = writeln!(io::stderr(), "{PROGRAM}: http://{shown}{PATH} is answered");
    thread::scope(|scope| {
        let workers: Vec<_> = (0..WORKERS).map(|_| scope.spawn(|| work(&server, &ask))).collect();
        workers.into_iter().try_for_each(|worker| worker.join().unwrap_or_else(|_| Err("a worker is gone".to_owned())))
    })
}

fn explain(address: SocketAddr, error: &io::Error) -> String {
    let advice = match error.kind() {
        io::ErrorKind::AddrInUse => "another program listens there: choose another port",
        io::ErrorKind::AddrNotAvailable => "this machine does not have that address: 127.0.0.1 it always has",
        io::ErrorKind::PermissionDenied => "ports below 1024 are root's: choose another",
        _ => "choose another address or port",
    };
    format!("--listen {address}: {error}: {advice}")
}

/// Answers until there is nobody to be answered, which the other workers are told, too.
fn work(server: &Server, ask: &impl Fn() -> Result<String, String>) -> Result<(), String> {
    loop {
        match server.recv() {
            // Who has hung up before the answer need not have it.
            Ok(request) => drop(answer(request, ask)),
            Err(error) => {
                (0..WORKERS).for_each(|_| server.unblock());
                return Err(format!("no more requests can be taken: {error}"));
            }
        }
    }
}

fn answer(request: Request, ask: &impl Fn() -> Result<String, String>) -> io::Result<()> {
    let path = request.url().split('?').next().unwrap_or_default();
    let is_read = matches!(request.method(), Method::Get | Method::Head);
    let (code, kind, text) = if path != PATH {
        (404, PLAIN_TEXT, format!("there is only {PATH} here\n"))
    } else if !is_read {
        (405, PLAIN_TEXT, format!("{PATH} can only be read\n"))
    } else {
        match ask() {
            Ok(metrics) => (200, prometheus::TEXT_FORMAT, metrics),
            Err(error) => (503, PLAIN_TEXT, format!("{}\n", plain(&error))),
        }
    };
    let mut headers = vec![("Content-Type", kind)];
    if code == 405 {
        headers.push(("Allow", "GET, HEAD"));
    }
    let mut response = Response::from_data(text).with_status_code(code);
    let headers = headers.into_iter().filter_map(|(name, value)| Header::from_bytes(name, value).ok());
    headers.for_each(|header| response.add_header(header));
    request.respond(response)
}
