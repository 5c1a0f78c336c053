//! Where a frame goes.

use std::time::Duration;

use braid::proto::scheduler::standing::Standing;
use braid::proto::scheduler::{Mode, Scheduler, SchedulerConfig};
use braid::proto::time::Instant;
use braid::proto::uplink::monitor::Uplink;
use braid::proto::uplink::{UplinkId, UplinkName};
use divan::Bencher;

#[divan::bench(args = Mode::AT_ONCE.map(Mode::name))]
fn schedule(bencher: Bencher, mode: &str) {
    let mode = Mode::ALL.into_iter().find(|known| known.name() == mode).expect("one of them");
    let config = SchedulerConfig::new(mode);
    let uplinks = std::array::from_fn(|_| {
        let mut uplink = Uplink::new(Instant::ZERO, UplinkName::default(), 1, Duration::from_millis(20));
        uplink.attach();
        uplink
    });
    let mut scheduler = Scheduler::new(&config);
    scheduler.refresh(&Standing::of(&uplinks, UplinkId::all().take(2).collect()));
    bencher.bench_local(|| scheduler.schedule());
}
