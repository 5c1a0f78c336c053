//! What uplinks with a data budget have carried this month: counted by the sockets, kept in a file, and told to the core
//! when a budget is spent.
//!
//! The time of day, [`period`], [`account`] and [`record`] are arithmetic; [`file`] is the disk. Once a second what has been
//! carried is added up, and every few seconds written, so a crash forgets a few seconds, and a power cut what the kernel has
//! not written yet: half a minute. Nothing waits for the disk.

mod account;
mod file;
mod period;
mod record;

use std::os::fd::RawFd;
use std::path::Path;
use std::time::Duration;

use account::{Account, News};
use file::UsageFile;
pub use file::UsageFileError;
use period::Day;

use super::Endpoint;
use super::datagram_port::{Carried, DatagramPort};
use super::links::Links;
use super::sys;
use crate::config::{Budget, UplinkConfig};
use crate::control::BudgetStatus;
use crate::proto::time::Instant;
use crate::proto::uplink::{UplinkId, UplinkName};

/// How often it is added up.
const INTERVAL: Duration = Duration::from_secs(1);
/// How often an account is written at most, save when something happens to it.
const WRITE_EVERY: Duration = Duration::from_secs(5);
/// Less than this is not worth a write, in bytes.
const WRITE_WORTH: u64 = 100_000;
/// The number of a box's one tunnel.
const BOX_TUNNEL: usize = 0;

/// An uplink with a budget.
struct Counted {
    uplink: UplinkId,
    account: Account,
    /// Its place in the file.
    place: usize,
    /// What its sockets had carried when that was last added up.
    added: Carried,
    /// What was used when that was last written.
    written: Option<u64>,
    written_at: Instant,
}

/// All of them.
pub struct Usage {
    file: UsageFile,
    uplinks: Vec<Counted>,
    next: Instant,
    /// Whether the file could not be written.
    is_failing: bool,
}

impl Usage {
    /// Opens the file at `path` for those of `uplinks` that have budgets.
    ///
    /// # Errors
    /// Why not, and what to do.
    pub fn open(path: &Path, uplinks: &[UplinkConfig]) -> Result<Self, UsageFileError> {
        let mut file = UsageFile::open(path)?;
        let today = today();
        let names: Vec<_> = uplinks.iter().map(|uplink| uplink.name).collect();
        let mut counted = vec![];
        for (uplink, config) in UplinkId::all().zip(uplinks) {
            let Some(budget) = config.budget else { continue };
            let (place, record) = file.place(config.name, &names, today)?;
            let account = Account::open(config.name, budget, record, today);
            let mut one =
                Counted { uplink, account, place, added: Carried::default(), written: None, written_at: Instant::ZERO };
            // At once, so that a place is taken by one uplink only, and a file that cannot be written is not found out later.
            one.write(Instant::ZERO, &mut file).map_err(|error| file::unwritable(path, &error))?;
            one.log_opening(today);
            counted.push(one);
        }
        Ok(Self { file, uplinks: counted, next: Instant::ZERO, is_failing: false })
    }

    /// What is written to, by pwrite(2) only.
    #[must_use]
    pub fn descriptor(&self) -> RawFd {
        self.file.descriptor()
    }

    /// When there is something to add up.
    #[must_use]
    pub const fn next(&self) -> Instant {
        self.next
    }

    /// Tells the core which budgets are spent.
    pub fn tell(&self, now: Instant, endpoint: &mut Endpoint) {
        for one in &self.uplinks {
            endpoint.tunnel_mut(BOX_TUNNEL).set_spent(now, one.uplink, one.account.is_spent());
        }
    }

    /// Adds up what has been carried, if that is due, and tells the core and the log what follows.
    pub fn on_tick(&mut self, now: Instant, port: &DatagramPort, links: &Links, endpoint: &mut Endpoint) {
        if now < self.next {
            return;
        }
        self.next = now + INTERVAL;
        let today = today();
        for one in &mut self.uplinks {
            one.add(port, links);
            let news = one.account.news(today);
            if let Some(news) = news {
                one.log(news);
            }
            if one.is_worth_a_write(now) || news.is_some() {
                let written = one.write(now, &mut self.file);
                note_write(&mut self.is_failing, written);
            }
        }
        self.tell(now, endpoint);
    }

    /// Counts what one more uplink carries from now on. `names` are those of the others.
    ///
    /// # Errors
    /// If there is no room for it in the file, or that cannot be written.
    pub fn add(
        &mut self,
        uplink: UplinkId,
        config: &UplinkConfig,
        names: &[UplinkName],
        port: &DatagramPort,
    ) -> Result<(), String> {
        let Some(budget) = config.budget else { return Ok(()) };
        let today = today();
        let (place, record) = self.file.place(config.name, names, today).map_err(|error| error.to_string())?;
        let account = Account::open(config.name, budget, record, today);
        let added = port.carried(uplink.number());
        let mut one = Counted { uplink, account, place, added, written: None, written_at: Instant::ZERO };
        one.write(Instant::ZERO, &mut self.file).map_err(|error| format!("--usage-file cannot be written: {error}"))?;
        one.log_opening(today);
        self.uplinks.push(one);
        self.next = Instant::ZERO;
        Ok(())
    }

    /// An uplink carries no more.
    pub fn remove(&mut self, uplink: UplinkId, port: &DatagramPort, links: &Links) {
        if let Some(index) = self.uplinks.iter().position(|one| one.uplink == uplink) {
            let mut one = self.uplinks.swap_remove(index);
            one.add(port, links);
            let written = one.write(one.written_at, &mut self.file);
            note_write(&mut self.is_failing, written);
        }
    }

    /// What an uplink has carried of its budget, if it has one.
    #[must_use]
    pub fn status(&self, uplink: UplinkId) -> Option<BudgetStatus> {
        let account = &self.uplinks.iter().find(|one| one.uplink == uplink)?.account;
        Some(BudgetStatus {
            used_bytes: account.record().used,
            limit_bytes: account.budget().bytes,
            is_spent: account.is_spent(),
        })
    }

    /// Keeps what has been carried until now: nothing more will be.
    pub fn close(&mut self, port: &DatagramPort, links: &Links) {
        for one in &mut self.uplinks {
            one.add(port, links);
            if one.written != Some(one.account.record().used) {
                let written = one.write(one.written_at, &mut self.file);
                note_write(&mut self.is_failing, written);
            }
        }
    }

    /// Logs how much is used.
    pub fn log(&self) {
        self.uplinks.iter().for_each(Counted::log_used);
    }
}

impl Counted {
    fn add(&mut self, port: &DatagramPort, links: &Links) {
        let carried = port.carried(self.uplink.number());
        let (datagrams, bytes) = (carried.datagrams - self.added.datagrams, carried.bytes - self.added.bytes);
        self.added = carried;
        self.account.add(bytes + datagrams * links.header_length(self.uplink));
    }

    fn is_worth_a_write(&self, now: Instant) -> bool {
        let unwritten = self.account.record().used.abs_diff(self.written.unwrap_or(0));
        unwritten >= WRITE_WORTH && now >= self.written_at + WRITE_EVERY
    }

    /// What fails is tried again in a while.
    fn write(&mut self, now: Instant, file: &mut UsageFile) -> std::io::Result<()> {
        self.written_at = now;
        self.account.set_serial(file.next_serial(self.place));
        let record = *self.account.record();
        file.write(self.place, record)?;
        self.written = Some(record.used);
        Ok(())
    }

    fn log_opening(&self, today: Day) {
        self.log_used();
        let period = self.account.record().period;
        if self.account.is_ahead_of(today) {
            tracing::warn!(
                "uplink {}: the clock says {today}, before {}, since when its data is counted: it is counted on until the clock \
                 says {}",
                self.name(),
                period.from,
                period.until
            );
        }
        if self.account.is_spent() {
            self.log(News::Spent);
        }
    }

    fn log_used(&self) {
        let (record, Budget { bytes, .. }) = (self.account.record(), self.account.budget());
        tracing::info!(
            "uplink {}: {} of its data budget of {} are used since {}",
            record.name,
            amount(record.used),
            amount(bytes),
            record.period.from
        );
    }

    fn log(&self, news: News) {
        let (name, budget, until) =
            (self.name(), amount(self.account.budget().bytes), self.account.record().period.until);
        match news {
            News::BegunAnew => {
                tracing::info!("uplink {name}: its data budget begins anew: {budget} until {until} (UTC)")
            }
            News::NearlySpent => self.log_used(),
            News::Spent => tracing::warn!(
                "uplink {name}: its data budget of {budget} is spent: it is used only where no other can be, until {until} (UTC)"
            ),
        }
    }

    const fn name(&self) -> UplinkName {
        self.account.record().name
    }
}

fn note_write(is_failing: &mut bool, written: std::io::Result<()>) {
    let was_failing = std::mem::replace(is_failing, written.is_err());
    match written {
        Err(error) if !was_failing => tracing::warn!(
            "cannot write what uplinks have carried (--usage-file): {error}: after a restart less will be known of it"
        ),
        Ok(()) if was_failing => tracing::info!("what uplinks have carried can be written again"),
        _ => {}
    }
}

fn today() -> Day {
    Day::of_unix_time(sys::time_of_day_ms() / 1000)
}

/// Bytes as providers count them.
fn amount(bytes: u64) -> String {
    let (unit, name) = match bytes {
        1_000_000_000_000.. => (1e12, "TB"),
        1_000_000_000.. => (1e9, "GB"),
        _ => (1e6, "MB"),
    };
    format!("{:.2} {name}", bytes as f64 / unit)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_are_those_of_providers() {
        for (bytes, text) in
            [(0, "0.00 MB"), (12_345_678, "12.35 MB"), (50_000_000_000, "50.00 GB"), (1_500_000_000_000, "1.50 TB")]
        {
            assert_eq!(amount(bytes), text);
        }
    }
}
