//! The months that data budgets are for: from one day of the month to the same day of the next, in UTC.

use std::fmt;
use std::str::FromStr;

/// Seconds in a day of UTC, as Unix time counts them.
const DAY_SECONDS: u64 = 86_400;
/// From 0000-03-01 to 1970-01-01.
const DAYS_BEFORE_1970: i64 = 719_468;
/// Days in 400 years, after which the calendar repeats.
const ERA_DAYS: i64 = 146_097;
/// 9000-01-01: no clock is right that says more.
const DAYS_MAX: i64 = 2_567_655;

/// A day, counted from 1970-01-01.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Day(i64);

/// A day as the calendar has it (Gregorian, also before there was one).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Date {
    year: i64,
    /// 1 to 12.
    month: i64,
    /// 1 to 31.
    day: i64,
}

impl Date {
    /// The same day of the next month. Every month has it up to the 28th.
    const fn next_month(self) -> Self {
        if self.month == 12 {
            Self { year: self.year + 1, month: 1, ..self }
        } else {
            Self { month: self.month + 1, ..self }
        }
    }

    const fn previous_month(self) -> Self {
        if self.month == 1 {
            Self { year: self.year - 1, month: 12, ..self }
        } else {
            Self { month: self.month - 1, ..self }
        }
    }
}

impl Day {
    /// The day of this many seconds since 1970; 9000-01-01 at most.
    #[must_use]
    pub fn of_unix_time(seconds: u64) -> Self {
        Self(i64::try_from(seconds / DAY_SECONDS).unwrap_or(DAYS_MAX).min(DAYS_MAX))
    }

    /// Years are counted from March, so that the day that comes and goes is a year's last (Hinnant, "chrono-compatible
    /// low-level date algorithms").
    const fn of(date: Date) -> Self {
        let years = if date.month > 2 { date.year } else { date.year - 1 };
        let (era, year_of_era) = (years.div_euclid(400), years.rem_euclid(400));
        let months_since_march = (date.month + 9) % 12;
        let day_of_year = (153 * months_since_march + 2) / 5 + date.day - 1;
        let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
        Self(era * ERA_DAYS + day_of_era - DAYS_BEFORE_1970)
    }

    const fn date(self) -> Date {
        let days = self.0 + DAYS_BEFORE_1970;
        let (era, day_of_era) = (days.div_euclid(ERA_DAYS), days.rem_euclid(ERA_DAYS));
        let leap_days = day_of_era / 1_460 - day_of_era / 36_524 + day_of_era / 146_096;
        let year_of_era = (day_of_era - leap_days) / 365;
        let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        let months_since_march = (5 * day_of_year + 2) / 153;
        let month = (months_since_march + 2) % 12 + 1;
        let year = era * 400 + year_of_era + if month > 2 { 0 } else { 1 };
        Date { year, month, day: day_of_year - (153 * months_since_march + 2) / 5 + 1 }
    }
}

impl fmt::Display for Day {
    /// As in `2026-11-30`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Date { year, month, day } = self.date();
        write!(f, "{year:04}-{month:02}-{day:02}")
    }
}

impl FromStr for Day {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let mut parts = text.splitn(3, '-').map(|part| part.parse::<u16>().map(i64::from).map_err(|_| ()));
        let mut next = || parts.next().unwrap_or(Err(()));
        let day = Self::of(Date { year: next()?, month: next()?, day: next()? });
        // Of what is no date, or is spelled otherwise, another one is made.
        if day.to_string() == text { Ok(day) } else { Err(()) }
    }
}

/// A month of a budget.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Period {
    /// Its first day.
    pub from: Day,
    /// The first day of the next one.
    pub until: Day,
}

impl Period {
    /// The one that `today` is in, where they begin on this day of the month, 1 to 28.
    #[must_use]
    pub fn at(today: Day, begins_on: u8) -> Self {
        let date = today.date();
        let this_month = Date { day: begins_on.into(), ..date };
        let from = if date.day >= this_month.day { this_month } else { this_month.previous_month() };
        Self { from: Day::of(from), until: Day::of(from.next_month()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn day(text: &str) -> Day {
        text.parse().expect("a date")
    }

    #[test]
    fn days_are_those_of_the_calendar() {
        for (seconds, text) in [
            (0, "1970-01-01"),
            (86_399, "1970-01-01"),
            (86_400, "1970-01-02"),
            (951_782_400, "2000-02-29"),
            (1_582_934_400, "2020-02-29"),
            (1_583_020_800, "2020-03-01"),
            (4_107_542_400, "2100-03-01"),
            (1_796_083_199, "2026-11-30"),
            (u64::MAX, "9000-01-01"),
        ] {
            assert_eq!(Day::of_unix_time(seconds).to_string(), text);
            assert_eq!(day(text), Day::of_unix_time(seconds));
        }
        for wrong in ["", "2026-11", "2026-11-31", "2026-13-01", "2026-1-1", "2026-02-29", "+026-01-01", "2026-01-01-"]
        {
            assert!(wrong.parse::<Day>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_period_begins_on_its_day_and_ends_before_it() {
        for (today, begins_on, from, until) in [
            ("2026-11-30", 1, "2026-11-01", "2026-12-01"),
            ("2026-12-01", 1, "2026-12-01", "2027-01-01"),
            ("2026-12-14", 15, "2026-11-15", "2026-12-15"),
            ("2026-12-15", 15, "2026-12-15", "2027-01-15"),
            ("2027-01-03", 28, "2026-12-28", "2027-01-28"),
            ("2024-02-29", 28, "2024-02-28", "2024-03-28"),
            ("1970-01-01", 2, "1969-12-02", "1970-01-02"),
        ] {
            assert_eq!(Period::at(day(today), begins_on), Period { from: day(from), until: day(until) }, "{today}");
        }
    }

    proptest! {
        #[test]
        fn a_day_is_read_as_it_is_written(days in -719_000_i64..DAYS_MAX) {
            prop_assert_eq!(day(&Day(days).to_string()), Day(days));
        }

        #[test]
        fn days_follow_one_another(days in -719_000_i64..DAYS_MAX) {
            let (one, next) = (Day(days).date(), Day(days + 1).date());
            let (next_day, next_month) = (Date { day: one.day + 1, ..one }, Date { day: 1, ..one }.next_month());
            prop_assert!(next == next_day || next == next_month);
        }

        #[test]
        fn a_day_is_in_its_period_and_periods_follow_one_another(days in 0..DAYS_MAX, begins_on in 1_u8..=28) {
            let period = Period::at(Day(days), begins_on);
            prop_assert!(period.from <= Day(days) && Day(days) < period.until);
            prop_assert!((28..=31).contains(&(period.until.0 - period.from.0)));
            prop_assert_eq!(Period::at(period.until, begins_on).from, period.until);
            prop_assert_eq!(Period::at(period.from, begins_on), period);
        }

        #[test]
        fn no_text_makes_it_panic(text: String) {
            let _ = text.parse::<Day>();
        }
    }
}
