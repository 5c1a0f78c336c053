//! The program that the kernel runs for each datagram to a shared port: which process it is for.
//!
//! ```text
//! head = 12 bytes of payload                      shorter: drop
//! flags and protocol are of a sealed datagram     others: drop
//! slot = key == 0 ? hint % of : key & 0xff        no such slot: drop
//! the socket in that slot                         none: drop
//! ```
//!
//! What no process can have asked for is dropped, rather than given to the first: so a flood of it wakes nobody. The
//! kernel answers as for a port where nobody listens, with as many ICMP messages as its limits allow. A datagram for a
//! process that is not there is dropped, too, since no other has its keys.
//!
//! Datagrams of one sender that the kernel has put together (UDP_GRO) go where the first of them belongs: a box's all
//! belong to one process.

/// `struct bpf_insn`.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Instruction {
    code: u8,
    registers: u8,
    offset: i16,
    immediate: i32,
}

/// Opcodes: class, operation and kind of source put together (linux/bpf.h, RFC 9669).
mod code {
    pub const LOAD_IMMEDIATE_64: u8 = 0x18;
    pub const LOAD_32: u8 = 0x61;
    pub const STORE_32: u8 = 0x63;
    pub const ADD: u8 = 0x07;
    pub const MOVE: u8 = 0xb7;
    pub const MOVE_REGISTER: u8 = 0xbf;
    pub const AND: u8 = 0x57;
    pub const MODULO_32: u8 = 0x94;
    pub const TO_BIG_ENDIAN: u8 = 0xdc;
    pub const JUMP: u8 = 0x05;
    pub const JUMP_IF_EQUAL: u8 = 0x15;
    pub const JUMP_IF_NOT_EQUAL: u8 = 0x55;
    pub const JUMP_IF_AT_LEAST: u8 = 0x35;
    pub const CALL: u8 = 0x85;
    pub const EXIT: u8 = 0x95;
}

/// BPF_PSEUDO_MAP_FD: the immediate is a map's file descriptor.
const IS_MAP: u8 = 1;
/// Helpers.
const SKB_LOAD_BYTES: i32 = 26;
const SK_SELECT_REUSEPORT: i32 = 82;
/// What the program returns.
const SK_DROP: i32 = 0;
const SK_PASS: i32 = 1;

/// How a sealed frame and a control message begin: flags (a key, a sequence number), and the protocol.
const SEALED_FRAME: i32 = 0x3000_88b5;
const CONTROL: i32 = 0x3000_88b6;

/// Where the payload begins: the kernel shows datagrams from the UDP header on.
const PAYLOAD: i32 = 8;
/// The head of a sealed datagram, 12 bytes, on the stack: where each field is, relative to the frame pointer.
const HEAD_LENGTH: i32 = 12;
const FLAGS_AND_PROTOCOL: i16 = -16;
const KEY: i16 = -12;
const HINT: i16 = -8;
/// The slot that was chosen, behind it.
const SLOT: i16 = -4;

/// Registers: what a helper returns, its arguments, what it leaves alone, the frame pointer.
const R0: u8 = 0;
const R1: u8 = 1;
const R2: u8 = 2;
const R3: u8 = 3;
const R4: u8 = 4;
const R6: u8 = 6;
const R10: u8 = 10;

/// The program for a port shared by `of` processes whose sockets are in the map of descriptor `sockets`.
pub fn assemble(sockets: i32, of: u8) -> Vec<Instruction> {
    let mut program = vec![plain(code::MOVE_REGISTER, R6, R1, 0)];
    program.extend(load_head());
    program.extend(check_kind());
    program.extend(find_slot(of));
    program.extend(select(sockets));
    program.extend([immediate(code::MOVE, R0, SK_PASS), immediate(code::EXIT, 0, 0)]);
    // Jumps to a drop were left open, since only now it is known where that is.
    let drop_at = program.len();
    for (at, instruction) in program.iter_mut().enumerate() {
        if instruction.offset == TO_DROP {
            instruction.offset = (drop_at - at - 1) as i16;
        }
    }
    program.extend([immediate(code::MOVE, R0, SK_DROP), immediate(code::EXIT, 0, 0)]);
    program
}

/// By a helper and not directly: of what a network card has received, only the headers need lie in one piece.
fn load_head() -> [Instruction; 6] {
    [
        immediate(code::MOVE, R2, PAYLOAD),
        plain(code::MOVE_REGISTER, R3, R10, 0),
        immediate(code::ADD, R3, FLAGS_AND_PROTOCOL.into()),
        immediate(code::MOVE, R4, HEAD_LENGTH),
        immediate(code::CALL, 0, SKB_LOAD_BYTES),
        jump(code::JUMP_IF_NOT_EQUAL, R0, 0, TO_DROP),
    ]
}

fn check_kind() -> [Instruction; 4] {
    [
        plain(code::LOAD_32, R1, R10, FLAGS_AND_PROTOCOL),
        immediate(code::TO_BIG_ENDIAN, R1, 32),
        jump(code::JUMP_IF_EQUAL, R1, SEALED_FRAME, 1),
        jump(code::JUMP_IF_NOT_EQUAL, R1, CONTROL, TO_DROP),
    ]
}

/// Leaves it on the stack.
fn find_slot(of: u8) -> [Instruction; 9] {
    [
        plain(code::LOAD_32, R2, R10, KEY),
        immediate(code::TO_BIG_ENDIAN, R2, 32),
        jump(code::JUMP_IF_NOT_EQUAL, R2, 0, 4),
        plain(code::LOAD_32, R2, R10, HINT),
        immediate(code::TO_BIG_ENDIAN, R2, 32),
        immediate(code::MODULO_32, R2, of.into()),
        jump(code::JUMP, 0, 0, 2),
        immediate(code::AND, R2, 0xff),
        jump(code::JUMP_IF_AT_LEAST, R2, of.into(), TO_DROP),
    ]
}

fn select(sockets: i32) -> [Instruction; 9] {
    [
        plain(code::STORE_32, R10, R2, SLOT),
        plain(code::MOVE_REGISTER, R1, R6, 0),
        instruction(code::LOAD_IMMEDIATE_64, R2, IS_MAP, 0, sockets),
        // Its upper half.
        instruction(0, 0, 0, 0, 0),
        plain(code::MOVE_REGISTER, R3, R10, 0),
        immediate(code::ADD, R3, SLOT.into()),
        immediate(code::MOVE, R4, 0),
        immediate(code::CALL, 0, SK_SELECT_REUSEPORT),
        jump(code::JUMP_IF_NOT_EQUAL, R0, 0, TO_DROP),
    ]
}

/// Stands for the way to the drop at the end; no jump is so long.
const TO_DROP: i16 = i16::MAX;

const fn plain(code: u8, to: u8, from: u8, offset: i16) -> Instruction {
    instruction(code, to, from, offset, 0)
}

const fn immediate(code: u8, to: u8, immediate: i32) -> Instruction {
    instruction(code, to, 0, 0, immediate)
}

const fn jump(code: u8, register: u8, immediate: i32, offset: i16) -> Instruction {
    instruction(code, register, 0, offset, immediate)
}

const fn instruction(code: u8, to: u8, from: u8, offset: i16, immediate: i32) -> Instruction {
    let registers = if cfg!(target_endian = "little") { from << 4 | to } else { to << 4 | from };
    Instruction { code, registers, offset, immediate }
}
