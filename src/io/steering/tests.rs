//! Sockets of one process stand for processes. Needs root: each test has mounts of its own.

use std::ffi::CStr;
use std::fs;
use std::net::UdpSocket;
use std::time::Duration;

use super::*;
use crate::io::buffers::Size;
use crate::io::datagram_port::receive::Received;
use crate::io::datagram_port::{DatagramPort, Sockets};
use crate::io::memory;
use crate::io::privileges::{self, Needs};
use crate::io::provided::ProvidedBuffers;
use crate::io::ring::{Files, Ring, Woken};
use crate::io::token::Token;

const SEALED_FRAME: u16 = 0x88b5;
const CONTROL: u16 = 0x88b6;
/// How long a datagram may take from one socket of this machine to another.
const PATIENCE: Duration = Duration::from_secs(2);

/// A member of those that share a port.
struct Member {
    steering: Steering,
    socket: UdpSocket,
}

impl Member {
    fn join(root: &Path, listen: SocketAddr, index: u8, of: u8) -> io::Result<Self> {
        let socket = Socket::new(Domain::for_address(listen), Type::DGRAM, Some(Protocol::UDP))?;
        if listen.is_ipv6() {
            socket.set_only_v6(false)?;
        }
        let steering = Steering::join(&socket, listen, Share { index, of }, root)?;
        socket.set_read_timeout(Some(PATIENCE))?;
        Ok(Self { steering, socket: socket.into() })
    }

    /// Ends as a process does that is killed: the kernel closes its socket, and it does nothing itself.
    fn be_killed(self) {
        std::mem::forget(self.steering);
    }

    fn receive(&self) -> Vec<u8> {
        let mut bytes = vec![0; 1 << 16];
        let length = self.socket.recv(&mut bytes).expect("a datagram comes");
        bytes.truncate(length);
        bytes
    }

    fn has_nothing(&self) -> bool {
        self.socket.set_nonblocking(true).expect("set");
        let nothing = self.socket.recv(&mut [0; 1]).is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock);
        self.socket.set_nonblocking(false).expect("set");
        nothing
    }
}

/// Does `test` in a thread with mounts of its own, which go with it, and an empty folder among them to mount at.
fn with_own_mounts(test: impl FnOnce(&Path) + Send + 'static) {
    let folder = tempfile::tempdir().expect("a folder");
    let root = folder.path().to_owned();
    let tested = std::thread::spawn(move || {
        if !leave_mounts() {
            eprintln!("SKIPPED: this test mounts the BPF file system and loads programs into it, and needs root");
            assert!(std::env::var_os("CI").is_none(), "with CI=true no test may be skipped");
            return;
        }
        test(&root);
    });
    if let Err(panic) = tested.join() {
        std::panic::resume_unwind(panic);
    }
}

fn leave_mounts() -> bool {
    // SAFETY: unshare(2) touches no memory of ours.
    if unsafe { libc::unshare(libc::CLONE_NEWNS) } != 0 {
        return false;
    }
    let (everywhere, nothing): (&CStr, _) = (c"/", std::ptr::null());
    // SAFETY: The path is terminated by a zero and outlives the call; what else may be null is.
    unsafe { libc::mount(nothing, everywhere.as_ptr(), nothing, libc::MS_REC | libc::MS_PRIVATE, nothing.cast()) == 0 }
}

/// An address of which nobody uses the port.
fn free(host: &str) -> SocketAddr {
    let socket = UdpSocket::bind((host, 0)).expect("bound");
    socket.local_addr().expect("bound")
}

fn datagram(protocol: u16, key: u32, counter: u32) -> Vec<u8> {
    [&0x3000_u16.to_be_bytes()[..], &protocol.to_be_bytes(), &key.to_be_bytes(), &counter.to_be_bytes()].concat()
}

/// Sends `bytes` from a port of its own.
fn send(bytes: &[u8], to: SocketAddr) {
    let from = if to.is_ipv6() { "[::1]:0" } else { "127.0.0.1:0" };
    UdpSocket::bind(from).expect("bound").send_to(bytes, to).expect("sent");
}

fn all(root: &Path, listen: SocketAddr, of: u8) -> Vec<Member> {
    (0..of).map(|index| Member::join(root, listen, index, of).expect("joined")).collect()
}

/// Sends what each of `members` must get, by key and by hint, and checks that it gets that and no more.
fn assert_steered(members: &[(u8, &Member)], of: u8, to: SocketAddr) {
    for round in 0..40_u32 {
        for (index, member) in members {
            let (index, of) = (u32::from(*index), u32::from(of));
            for expected in [
                datagram(SEALED_FRAME, round.wrapping_mul(0x9e37_79b9) << 8 | 1 << 31 | index, round),
                datagram(CONTROL, round << 16 | 1 << 8 | index, round),
                datagram(CONTROL, 0, (round + 0x0fff_0000) / of * of + index),
            ] {
                send(&expected, to);
                assert_eq!(member.receive(), expected, "for {index} of {of}");
            }
        }
    }
    assert!(members.iter().all(|(_, member)| member.has_nothing()));
}

fn numbered(members: &[Member]) -> Vec<(u8, &Member)> {
    members.iter().enumerate().map(|(index, member)| (index as u8, member)).collect()
}

#[test]
fn each_datagram_goes_to_the_process_that_its_key_or_hint_names() {
    with_own_mounts(|root| {
        for of in [2, 3, 7] {
            let listen = free("127.0.0.1");
            assert_steered(&numbered(&all(root, listen, of)), of, listen);
        }
    });
}

#[test]
fn both_families_of_one_socket_are_steered() {
    with_own_mounts(|root| {
        let listen = free("::");
        let members = all(root, listen, 3);
        for host in ["::1", "127.0.0.1"] {
            assert_steered(
                &numbered(&members),
                3,
                (host.parse::<std::net::IpAddr>().expect("one"), listen.port()).into(),
            );
        }
    });
}

#[test]
fn a_long_datagram_that_the_kernel_keeps_in_pieces_is_steered() {
    with_own_mounts(|root| {
        let listen = free("127.0.0.1");
        let members = all(root, listen, 3);
        for (index, member) in numbered(&members) {
            let mut long = datagram(SEALED_FRAME, 0xabcd_ef00 | u32::from(index), 1);
            long.resize(50_000, 7);
            send(&long, listen);
            assert_eq!(member.receive(), long);
        }
        assert!(members.iter().all(Member::has_nothing));
    });
}

#[test]
fn what_no_process_has_asked_for_wakes_none() {
    with_own_mounts(|root| {
        let listen = free("127.0.0.1");
        let members = all(root, listen, 2);
        let whole = datagram(SEALED_FRAME, 0x100, 0);
        let mut frame_in_plaintext = whole.clone();
        frame_in_plaintext[0] = 0x10;
        for length in 0..whole.len() {
            send(&whole[..length], listen);
        }
        send(&frame_in_plaintext, listen);
        send(&datagram(0x6558, 0x100, 0), listen);
        for index in 2..=255 {
            send(&datagram(SEALED_FRAME, 0x100 | index, 0), listen);
        }
        // It is worked off in order, so all of the above is gone when these have come.
        assert_steered(&numbered(&members), 2, listen);
    });
}

#[test]
fn a_process_that_restarts_has_its_place_again_and_no_other_gets_what_is_for_it() {
    with_own_mounts(|root| {
        let listen = free("127.0.0.1");
        let mut members: Vec<_> = all(root, listen, 3).into_iter().map(Some).collect();
        for (gone, is_killed) in [(1_u8, false), (0, true), (2, false), (1, true)] {
            let member = members[usize::from(gone)].take().expect("there");
            if is_killed {
                member.be_killed()
            } else {
                drop(member)
            }
            send(&datagram(SEALED_FRAME, 0x500 | u32::from(gone), 0), listen);
            send(&datagram(CONTROL, 0, gone.into()), listen);
            let left: Vec<_> = (0..3).zip(&members).filter_map(|(index, one)| Some((index, one.as_ref()?))).collect();
            assert_steered(&left, 3, listen);
            members[usize::from(gone)] = Some(Member::join(root, listen, gone, 3).expect("joined again"));
            let all: Vec<_> = (0..3).zip(&members).filter_map(|(index, one)| Some((index, one.as_ref()?))).collect();
            assert_steered(&all, 3, listen);
        }
    });
}

#[test]
fn processes_must_agree_on_how_many_they_are_while_there_are_any() {
    with_own_mounts(|root| {
        let listen = free("127.0.0.1");
        let first = Member::join(root, listen, 0, 2).expect("joined");
        let refused = Member::join(root, listen, 1, 3).err().expect("refused").to_string();
        assert!(refused.contains("are 2, not 3"), "{refused}");
        first.be_killed();
        assert_steered(&numbered(&all(root, listen, 3)), 3, listen);
    });
}

#[test]
fn a_place_and_a_port_are_not_taken_twice() {
    with_own_mounts(|root| {
        let in_use = |joined: io::Result<Member>| joined.err().and_then(|error| error.raw_os_error());
        let listen = free("127.0.0.1");
        let first = Member::join(root, listen, 0, 2).expect("joined");
        assert_eq!(in_use(Member::join(root, listen, 0, 2)), Some(libc::EADDRINUSE));
        let second = Member::join(root, listen, 1, 2).expect("joined");
        assert_steered(&[(0, &first), (1, &second)], 2, listen);
        // By one that would share it, but is none of us: it is not in the map.
        let stranger = Socket::new(Domain::IPV4, Type::DGRAM, Some(Protocol::UDP)).expect("a socket");
        stranger.set_reuse_port(true).expect("set");
        stranger.bind(&free("127.0.0.1").into()).expect("bound");
        let taken = stranger.local_addr().expect("bound").as_socket().expect("an address");
        assert_eq!(in_use(Member::join(root, taken, 0, 2)), Some(libc::EADDRINUSE));
    });
}

#[test]
fn the_last_to_leave_takes_the_name_away_without_any_privileges() {
    with_own_mounts(|root| {
        let names = || fs::read_dir(root.join("braid")).expect("read").count();
        let listen = free("127.0.0.1");
        let members = all(root, listen, 2);
        assert_eq!(names(), 1);
        std::thread::scope(|scope| {
            let leaving = scope.spawn(|| {
                let needs = Needs { leaves_shared_port: true, ..Needs::NOTHING };
                privileges::drop_all(needs, true).expect("dropped");
                drop(members);
            });
            leaving.join().expect("left");
        });
        assert_eq!(names(), 0);
    });
}

#[test]
fn processes_that_start_at_once_meet_at_one_place() {
    with_own_mounts(|root| {
        let listen = free("127.0.0.1");
        let members: Vec<_> = std::thread::scope(|scope| {
            let joining: Vec<_> =
                (0..8).map(|index| scope.spawn(move || Member::join(root, listen, index, 8))).collect();
            joining.into_iter().map(|thread| thread.join().expect("no panic").expect("joined")).collect()
        });
        assert_steered(&numbered(&members), 8, listen);
    });
}

#[test]
fn without_permission_or_a_place_it_says_what_is_needed() {
    with_own_mounts(|root| {
        let listen = free("127.0.0.1");
        drop(Member::join(root, listen, 0, 2).expect("joined, and mounted"));
        let nowhere = Member::join(Path::new("/nowhere"), listen, 0, 2).err().expect("refused").to_string();
        assert!(nowhere.contains("cannot mount the BPF file system"), "{nowhere}");
        privileges::drop_all(Needs::NOTHING, false).expect("dropped");
        let refused = Member::join(root, listen, 0, 2).err().expect("refused").to_string();
        assert!(refused.contains("CAP_BPF") && refused.lines().count() == 1, "{refused}");
    });
}

/// A member that receives by a ring of its own.
struct Receiver {
    ring: Ring,
    provided: ProvidedBuffers,
    port: DatagramPort,
    _files: Files,
    _member: Member,
}

impl Receiver {
    fn new(member: Member) -> Self {
        let mut ring = Ring::new().expect("a ring");
        let mut files = Files::register(&ring).expect("a table");
        let arena = memory::arena(1, 1500, Size::Small, Size::Small).expect("mapped");
        let mut provided = ProvidedBuffers::register(&ring, &arena, Size::Small).expect("provided");
        ring.start().expect("started");
        let mut port = DatagramPort::new(Sockets::Shared, 1, false);
        let descriptor = std::os::fd::AsRawFd::as_raw_fd(&member.socket);
        port.open(&mut ring, &mut files, 0, descriptor).expect("registered");
        provided.fill(0);
        port.arm(&mut ring, &provided).expect("armed");
        Self { ring, provided, port, _files: files, _member: member }
    }

    /// The next datagram, if one comes in time.
    fn receive(&mut self, timeout: Duration) -> Option<Vec<u8>> {
        while self.ring.submit_and_wait(timeout).expect("waited") == Woken::ByCompletion {
            let Some(entry) = self.ring.reap() else { continue };
            let Some(Token::Receive { socket, generation }) = Token::unpack(entry.user_data()) else { continue };
            match self.port.on_received(&mut self.provided, socket, generation, &entry) {
                Received::Datagrams(datagrams) => return datagrams.each().next().map(|one| one.bytes().to_vec()),
                other => panic!("{other:?}"),
            }
        }
        None
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        self.ring.cancel_all();
    }
}

#[test]
fn a_multishot_receive_of_a_registered_socket_gets_what_is_steered_to_it() {
    with_own_mounts(|root| {
        let listen = free("127.0.0.1");
        let mut receivers: Vec<_> = all(root, listen, 2).into_iter().map(Receiver::new).collect();
        for round in 0..20 {
            for index in [0, 1] {
                let sent = datagram(SEALED_FRAME, (round + 1) << 8 | index, round);
                send(&sent, listen);
                assert_eq!(receivers[index as usize].receive(PATIENCE), Some(sent));
            }
        }
        for receiver in &mut receivers {
            assert_eq!(receiver.receive(Duration::from_millis(1)), None);
        }
    });
}
