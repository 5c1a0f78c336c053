//! CPU time: of a tunnel's processes, and of the whole machine.

use super::peers::Running;

/// The unit of /proc/stat, which proc(5) calls USER_HZ: 100 wherever braid runs.
const TICKS_PER_SECOND: f64 = 100.0;

/// A look at the clocks.
#[derive(Clone, Copy, Debug)]
pub struct Reading {
    tunnel: Option<f64>,
    machine: f64,
}

/// What has passed since then.
#[derive(Clone, Copy, Debug)]
pub struct Used {
    /// Core-seconds of the tunnel's processes, if it has some.
    pub tunnel: Option<f64>,
    /// Core-seconds of the machine.
    pub machine: f64,
}

impl Reading {
    /// Looks now.
    ///
    /// # Errors
    /// If the kernel does not tell.
    pub fn take(running: &Running) -> Result<Self, String> {
        Ok(Self { tunnel: running.cpu_seconds(), ..Self::of_machine()? })
    }

    /// Looks now, while there is no tunnel.
    ///
    /// # Errors
    /// If the kernel does not tell.
    pub fn of_machine() -> Result<Self, String> {
        let text = std::fs::read_to_string("/proc/stat").map_err(|error| format!("/proc/stat: {error}"))?;
        let machine = busy_seconds(&text).ok_or("/proc/stat makes no sense")?;
        Ok(Self { tunnel: None, machine })
    }

    /// What has passed from then to a later look.
    #[must_use]
    pub fn until(&self, later: &Self) -> Used {
        let tunnel = self.tunnel.zip(later.tunnel).map(|(before, after)| after - before);
        Used { tunnel, machine: later.machine - self.machine }
    }
}

/// The first line of /proc/stat without what is idle, waits for disks or was stolen by the host: user, nice, system, irq
/// and softirq.
fn busy_seconds(text: &str) -> Option<f64> {
    let words: Option<Vec<f64>> =
        text.lines().next()?.strip_prefix("cpu ")?.split_whitespace().map(|word| word.parse().ok()).collect();
    let words = words?;
    let busy: Option<f64> = [0, 1, 2, 5, 6].iter().map(|index| words.get(*index)).sum();
    Some(busy? / TICKS_PER_SECOND)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn idle_waiting_and_stolen_time_is_not_busy() {
        assert_eq!(busy_seconds("cpu  100 20 300 9999 888 40 5 777 0 0\ncpu0 1 1 1 1 1 1 1 1 0 0\n"), Some(4.65));
        assert_eq!(busy_seconds("cpu0 1 2 3"), None);
        assert_eq!(busy_seconds(""), None);
    }
}
