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

/// Packets in a sample: enough that reading the clock costs nothing beside them.
const SAMPLE_SIZE: u32 = 1000;
const SAMPLE_COUNT: u32 = 1000;

fn main() {
    let bench = divan::Divan::default().sample_size(SAMPLE_SIZE).sample_count(SAMPLE_COUNT).items_count(1_u32);
    bench.config_with_args().main();
}
