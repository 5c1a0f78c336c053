//! What the core costs, in time per packet: `cargo bench`, or `cargo bench -- receive` for some of it.
//!
//! Each iteration is one packet, and each sample a thousand of them, so the table reads in nanoseconds per packet. Run
//! without `--bench`, as the tests do, each is tried once.

mod offload;
mod packet;
mod receive;
mod scheduler;
mod session;
mod tunnel;
mod wire;

use std::time::Duration;

/// Packets in a sample: enough that reading the clock costs nothing beside them.
const SAMPLE_SIZE: u32 = 1000;
const SAMPLE_COUNT: u32 = 1000;
/// What takes longer than a packet, as a handshake does, has fewer samples.
const TIME_MAX: Duration = Duration::from_secs(3);

fn main() {
    let bench = divan::Divan::default().sample_size(SAMPLE_SIZE).sample_count(SAMPLE_COUNT).max_time(TIME_MAX);
    bench.items_count(1_u32).config_with_args().main();
}
