//! One uplink's budget, and how much of it is used.

use super::period::{Day, Period};
use super::record::Record;
use crate::config::Budget;
use crate::proto::uplink::UplinkName;

/// So much of a budget, in percent, is worth telling.
const NEARLY_SPENT_PERCENT: u64 = 80;

/// Something that has happened to a budget.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum News {
    /// A new period has begun.
    BegunAnew,
    /// It is nearly spent.
    NearlySpent,
    /// It is spent.
    Spent,
}

/// A budget and its use.
#[derive(Clone, Copy, Debug)]
pub struct Account {
    budget: Budget,
    record: Record,
    /// What [`Self::news`] last told of.
    told: Option<News>,
}

impl Account {
    /// The account that goes on from `record`, or begins `today` at zero. What it says already is no news.
    #[must_use]
    pub fn open(name: UplinkName, budget: Budget, record: Option<Record>, today: Day) -> Self {
        let period = Period::at(today, budget.day);
        let mut account =
            Self { budget, record: record.unwrap_or(Record { name, used: 0, period, serial: 0 }), told: None };
        account.pass(today);
        account.told = account.standing();
        account
    }

    /// The budget.
    #[must_use]
    pub const fn budget(&self) -> Budget {
        self.budget
    }

    /// What is to be kept of it.
    #[must_use]
    pub const fn record(&self) -> &Record {
        &self.record
    }

    /// Whether all of it is used.
    #[must_use]
    pub const fn is_spent(&self) -> bool {
        self.record.used >= self.budget.bytes
    }

    /// Whether the clock says a day before the period that is counted, and so must be wrong, or has been.
    #[must_use]
    pub fn is_ahead_of(&self, today: Day) -> bool {
        today < self.record.period.from
    }

    /// So many bytes more are used.
    pub const fn add(&mut self, bytes: u64) {
        self.record.used = self.record.used.saturating_add(bytes);
    }

    /// What is to be kept of it has this serial number from now on.
    pub const fn set_serial(&mut self, serial: u32) {
        self.record.serial = serial;
    }

    /// It is `today`. What has happened since this was last asked, if anything.
    pub fn news(&mut self, today: Day) -> Option<News> {
        if self.pass(today) {
            self.told = self.standing();
            return Some(News::BegunAnew);
        }
        let standing = self.standing();
        let is_new = standing != self.told;
        self.told = standing;
        standing.filter(|_| is_new)
    }

    fn standing(&self) -> Option<News> {
        let nearly = u128::from(self.budget.bytes) * u128::from(NEARLY_SPENT_PERCENT) / 100;
        match u128::from(self.record.used) {
            _ if self.is_spent() => Some(News::Spent),
            used if used >= nearly => Some(News::NearlySpent),
            _ => None,
        }
    }

    /// Begins anew if the period is over. A clock that has gone back changes nothing: what is used stays used.
    fn pass(&mut self, today: Day) -> bool {
        if self.is_ahead_of(today) {
            return false;
        }
        let current = Period::at(today, self.budget.day);
        let period = &mut self.record.period;
        if today < period.until {
            // Budgets may have begun on another day of the month when this was written.
            period.until = period.until.min(current.until);
            return false;
        }
        (*period, self.record.used) = (current, 0);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn day(text: &str) -> Day {
        text.parse().expect("a date")
    }

    fn account(bytes: u64, begins_on: u8, today: &str) -> Account {
        let name = UplinkName::new("lte-a").expect("lawful");
        Account::open(name, Budget { bytes, day: begins_on }, None, day(today))
    }

    /// The same after a restart, with other terms.
    fn again(account: &Account, bytes: u64, begins_on: u8, today: &str) -> Account {
        let record = *account.record();
        Account::open(record.name, Budget { bytes, day: begins_on }, Some(record), day(today))
    }

    #[test]
    fn what_happens_is_told_once() {
        let mut account = account(1_000, 1, "2026-11-30");
        let today = day("2026-11-30");
        let mut told = vec![];
        for _ in 0..12 {
            account.add(100);
            told.extend(account.news(today).map(|news| (account.record().used, news)));
        }
        assert_eq!(told, [(800, News::NearlySpent), (1_000, News::Spent)]);
        assert_eq!(account.news(day("2026-12-01")), Some(News::BegunAnew));
        assert_eq!((account.record().used, account.is_spent()), (0, false));
        assert_eq!(account.news(day("2026-12-01")), None);
        account.add(5_000);
        assert_eq!(account.news(day("2026-12-31")), Some(News::Spent), "all at once");
    }

    #[test]
    fn a_restart_changes_nothing_and_is_no_news() {
        let mut before = account(1_000, 1, "2026-11-30");
        before.add(1_200);
        let mut after = again(&before, 1_000, 1, "2026-11-30");
        assert_eq!((after.record().used, after.is_spent(), after.news(day("2026-11-30"))), (1_200, true, None));
        assert!(!again(&before, 2_000, 1, "2026-11-30").is_spent(), "there is more now");
        assert_eq!(again(&before, 1_000, 1, "2027-02-01").record().used, 0, "it was off meanwhile");
    }

    #[test]
    fn a_clock_that_has_gone_back_begins_nothing_anew() {
        let mut before = account(1_000, 1, "2026-11-30");
        before.add(1_200);
        let mut after = again(&before, 1_000, 1, "1970-01-01");
        assert!(after.is_ahead_of(day("1970-01-01")) && after.is_spent());
        assert_eq!(after.record().period, before.record().period);
        assert_eq!(after.news(day("2026-11-30")), None, "it was set");
        assert_eq!(after.news(day("2026-12-01")), Some(News::BegunAnew));
    }

    #[test]
    fn another_day_of_the_month_makes_a_period_shorter_and_never_counts_less() {
        let mut before = account(1_000, 1, "2026-11-30");
        before.add(1_200);
        let later = again(&before, 1_000, 15, "2026-11-30");
        assert_eq!((later.record().used, later.record().period.until), (1_200, day("2026-12-01")));
        let mut sooner = again(&before, 1_000, 15, "2026-11-03");
        assert_eq!((sooner.record().used, sooner.record().period.until), (1_200, day("2026-11-15")));
        assert_eq!(sooner.news(day("2026-11-15")), Some(News::BegunAnew));
        assert_eq!(sooner.record().period.until, day("2026-12-15"));
    }

    proptest! {
        #[test]
        fn bytes_are_forgotten_only_when_a_period_is_over(
            steps in proptest::collection::vec((0..1_u64 << 40, 0..1_u64 << 33), 1..40),
            begins_on in 1_u8..=28,
        ) {
            let name = UplinkName::new("a").expect("lawful");
            let mut account = Account::open(name, Budget { bytes: 1 << 40, day: begins_on }, None, Day::of_unix_time(0));
            for (bytes, seconds) in steps {
                let (today, before) = (Day::of_unix_time(seconds), *account.record());
                let began_anew = account.news(today) == Some(News::BegunAnew);
                prop_assert_eq!(began_anew, today >= before.period.until);
                prop_assert_eq!(account.record().used, if began_anew { 0 } else { before.used });
                account.add(bytes);
            }
        }
    }
}
