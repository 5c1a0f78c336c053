//! Questions to rtnetlink(7), and their answers.

use std::io::{self, Read};
use std::time::Duration;

use netlink_packet_core::{NLM_F_REQUEST, NetlinkMessage, NetlinkPayload};
use netlink_packet_route::RouteNetlinkMessage;
use socket2::{Domain, Protocol, Socket, Type};

/// The kernel never writes more than this at a time (NLMSG_GOODSIZE, doubled for dumps).
const READ_LENGTH: usize = 32 << 10;
/// The kernel answers at once, or not at all.
const PATIENCE: Duration = Duration::from_secs(2);

/// All that the kernel answers. `flags` say how it is asked: NLM_F_DUMP for all there are, 0 for one.
///
/// # Errors
/// What it refuses, or what socket(2), send(2) and recv(2) say.
pub fn ask(question: RouteNetlinkMessage, flags: u16) -> io::Result<Vec<RouteNetlinkMessage>> {
    let domain = Domain::from(libc::AF_NETLINK);
    let mut socket = Socket::new(domain, Type::DGRAM, Some(Protocol::from(libc::NETLINK_ROUTE)))?;
    socket.set_read_timeout(Some(PATIENCE))?;
    let mut question = NetlinkMessage::from(question);
    question.header.flags = NLM_F_REQUEST | flags;
    question.finalize();
    let mut bytes = vec![0; question.buffer_len()];
    question.serialize(&mut bytes);
    socket.send(&bytes)?;
    let is_dump = flags != 0;
    let mut answers = vec![];
    let mut buffer = vec![0; READ_LENGTH];
    loop {
        let length = socket.read(&mut buffer)?;
        if !take(&buffer[..length], &mut answers)? || !is_dump {
            return Ok(answers);
        }
    }
}

/// Takes the answers in what the kernel has written, and says whether there may be more. What cannot be understood is left
/// out.
fn take(mut bytes: &[u8], answers: &mut Vec<RouteNetlinkMessage>) -> io::Result<bool> {
    while let Ok(message) = NetlinkMessage::<RouteNetlinkMessage>::deserialize(bytes) {
        let length = (message.header.length as usize).next_multiple_of(4);
        match message.payload {
            NetlinkPayload::InnerMessage(answer) => answers.push(answer),
            NetlinkPayload::Done(_) => return Ok(false),
            NetlinkPayload::Error(error) => return error.code.map_or(Ok(false), |_| Err(error.to_io())),
            _ => {}
        }
        match bytes.get(length..) {
            Some(rest) if length > 0 && !rest.is_empty() => bytes = rest,
            _ => break,
        }
    }
    Ok(true)
}
