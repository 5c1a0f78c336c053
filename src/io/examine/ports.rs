//! Who has a UDP port.

use std::fs;
use std::path::Path;

/// A process that has a port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Holder {
    /// Its number.
    pub pid: u32,
    /// What it is called.
    pub name: String,
}

/// A process of this network namespace that has the UDP port, as far as we may see.
#[must_use]
pub fn holder(port: u16) -> Option<Holder> {
    let sockets: Vec<String> = ["/proc/net/udp", "/proc/net/udp6"]
        .iter()
        .flat_map(|table| sockets(&fs::read_to_string(table).unwrap_or_default(), port))
        .collect();
    let pids =
        fs::read_dir("/proc").ok()?.flatten().filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    let folder = |pid: u32| Path::new("/proc").join(pid.to_string());
    let pid = { pids }.find(|pid| holds(&folder(*pid), &sockets))?;
    let name = fs::read_to_string(folder(pid).join("comm")).unwrap_or_default();
    Some(Holder { pid, name: name.trim().to_owned() })
}

/// The sockets with this port in a table of the kernel's (proc_net_udp(5)), as links to them are called.
fn sockets(table: &str, port: u16) -> Vec<String> {
    let lines = table.lines().skip(1).map(|line| line.split_whitespace().collect::<Vec<_>>());
    let of_port = lines.filter(|fields| {
        let local = fields.get(1).and_then(|local| local.rsplit_once(':'));
        local.is_some_and(|(_, number)| u16::from_str_radix(number, 16) == Ok(port))
    });
    of_port.filter_map(|fields| fields.get(9).map(|inode| format!("socket:[{inode}]"))).collect()
}

fn holds(process: &Path, sockets: &[String]) -> bool {
    let files = fs::read_dir(process.join("fd")).into_iter().flatten().flatten();
    files.filter_map(|file| fs::read_link(file.path()).ok()).any(|target| {
        let target = target.to_string_lossy();
        sockets.iter().any(|socket| *socket == target)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn we_are_found_to_have_our_own_port() {
        let socket = std::net::UdpSocket::bind("127.0.0.1:0").expect("a socket");
        let port = socket.local_addr().expect("bound").port();
        // Other tests hide the memory of this process, and with it its files from all but root.
        if fs::read_dir("/proc/self/fd").is_err() {
            eprintln!("SKIPPED: our own files can only be looked at by root");
            assert!(std::env::var_os("CI").is_none(), "not to be skipped here");
            return;
        }
        let holder = holder(port).expect("it is ours");
        assert_eq!(holder.pid, std::process::id());
        assert!(!holder.name.is_empty());
    }

    #[test]
    fn lines_that_cannot_be_understood_have_no_sockets() {
        assert!(sockets("header\nnonsense\n 1: 0100007F:XYZ\n", 4754).is_empty());
        let line = "header\n 7: 00000000:1292 00000000:0000 07 0:0 0:0 0 0 0 4711 2 0\n";
        assert_eq!(sockets(line, 0x1292), ["socket:[4711]"]);
        assert!(sockets(line, 1).is_empty());
    }
}
