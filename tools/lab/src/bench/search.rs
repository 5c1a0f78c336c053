//! The highest rate that something stands: pure arithmetic.

/// How a rate is searched for, in Mbit/s.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// The first rate to try.
    pub first: f64,
    /// The search ends when it is known to so many Mbit/s.
    pub step: f64,
    /// Or to this share of itself, if that is more.
    pub share: f64,
    /// Higher rates are not tried.
    pub last: f64,
}

/// What came of an attempt.
pub enum Verdict<T> {
    /// The rate was stood, with this result.
    Passed(T),
    /// It was not.
    Failed {
        /// Whether by so little that it may be the machine's fault, and a second attempt is worth it.
        is_close: bool,
    },
}

/// The result of `attempt` at about the highest rate that it passes, twice; `None` if it passes none. The rate is doubled
/// until it fails, and then what is between is halved.
///
/// # Errors
/// Those of `attempt`.
pub fn highest<T>(
    plan: &Plan,
    mut attempt: impl FnMut(f64) -> Result<Verdict<T>, String>,
) -> Result<Option<T>, String> {
    let (mut low, mut high) = bracket(plan, &mut attempt)?;
    while high - low > plan.gap(low) {
        let middle = f64::midpoint(low, high);
        *(if pass(middle, &mut attempt)?.is_some() { &mut low } else { &mut high }) = middle;
    }
    let mut has_passed = true;
    while low > 0.0 {
        has_passed = has_passed || pass(low, &mut attempt)?.is_some();
        if has_passed && let Some(result) = pass(low, &mut attempt)? {
            return Ok(Some(result));
        }
        (low, has_passed) = ((low - plan.gap(low)).max(0.0), false);
    }
    Ok(None)
}

impl Plan {
    /// How exactly a rate near `rate` is to be known.
    fn gap(&self, rate: f64) -> f64 {
        self.step.max(rate * self.share)
    }
}

/// A rate that passes, or none at all, and one that does not; the same twice if the last passes.
fn bracket<T>(plan: &Plan, attempt: &mut impl FnMut(f64) -> Result<Verdict<T>, String>) -> Result<(f64, f64), String> {
    let (mut low, mut high) = (0.0, plan.first);
    while pass(high, attempt)?.is_some() {
        if high >= plan.last {
            return Ok((high, high));
        }
        (low, high) = (high, (high * 2.0).min(plan.last));
    }
    Ok((low, high))
}

fn pass<T>(rate: f64, attempt: &mut impl FnMut(f64) -> Result<Verdict<T>, String>) -> Result<Option<T>, String> {
    match attempt(rate)? {
        Verdict::Passed(result) => Ok(Some(result)),
        Verdict::Failed { is_close: false } => Ok(None),
        Verdict::Failed { is_close: true } => match attempt(rate)? {
            Verdict::Passed(result) => Ok(Some(result)),
            Verdict::Failed { .. } => Ok(None),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLAN: Plan = Plan { first: 100.0, step: 25.0, share: 0.025, last: 100_000.0 };

    /// What is found of something that stands up to `limit`, and in how many attempts.
    fn search(limit: f64) -> (Option<f64>, usize) {
        let mut attempts = 0;
        let found = highest(&PLAN, |rate| {
            attempts += 1;
            Ok(if rate <= limit { Verdict::Passed(rate) } else { Verdict::Failed { is_close: false } })
        });
        (found.expect("no attempt fails for other reasons"), attempts)
    }

    #[test]
    fn a_limit_is_found_to_a_step_or_a_share() {
        for limit in [30.0, 99.0, 100.0, 640.0, 777.0, 2_600.0, 9_999.0, 48_000.0] {
            let (found, attempts) = search(limit);
            let found = found.expect("there is such a rate");
            let gap = PLAN.gap(found);
            assert!(found <= limit && limit - found <= gap, "{found} for {limit}");
            assert!(attempts <= 20, "{attempts} for {limit}");
        }
    }

    #[test]
    fn nothing_is_found_of_what_stands_nothing() {
        assert_eq!(search(0.0).0, None);
    }

    #[test]
    fn a_search_ends_even_if_everything_passes() {
        assert_eq!(search(f64::INFINITY).0, Some(PLAN.last));
    }

    #[test]
    fn a_close_failure_is_tried_again() {
        // Every other attempt fails by a little, as on a machine that does something else now and then.
        let mut attempts = 0;
        let found = highest(&PLAN, |rate| {
            attempts += 1;
            let stands = rate <= 500.0;
            Ok(if stands && attempts % 2 == 0 { Verdict::Passed(rate) } else { Verdict::Failed { is_close: stands } })
        });
        assert!(
            found.as_ref().is_ok_and(|found| found.is_some_and(|rate| (475.0..=500.0).contains(&rate))),
            "{found:?}"
        );
    }

    #[test]
    fn a_rate_that_does_not_pass_twice_gives_way_to_a_lower_one() {
        let mut attempts = std::collections::HashMap::new();
        let found = highest(&PLAN, |rate| {
            let times = attempts.entry(rate as u64).or_insert(0);
            *times += 1;
            let by_luck = rate <= 600.0 && *times == 1;
            Ok(if rate <= 400.0 || by_luck { Verdict::Passed(rate) } else { Verdict::Failed { is_close: false } })
        });
        assert!(
            found.as_ref().is_ok_and(|found| found.is_some_and(|rate| (375.0..=400.0).contains(&rate))),
            "{found:?}"
        );
    }
}
