//! How often progress is shown: a bar some times a second, lines often at first and then rarely, so
//! that the log of a night is as readable as that of a minute. What counts is the time that the
//! program has worked: what is short and comes again and again, as evaluations do, is silent later.

use std::time::{Duration, Instant};

use crate::screen::Shown;

/// Between two pictures of a bar.
const BAR: Duration = Duration::from_millis(100);
/// Between two lines at first.
const LEAST: Duration = Duration::from_secs(5);
/// And at most: a line comes whenever something has gone on for another tenth of the time that the
/// program had worked at its last line, or when it began.
const MOST: Duration = Duration::from_secs(300);
const PART: u32 = 10;

/// When the next picture or line is due.
#[derive(Debug, Clone, Copy)]
pub struct Pace {
    shown: Shown,
    /// When the program began.
    began: Instant,
    /// The last line, or when this began.
    since: Instant,
    /// Whether something was shown.
    begun: bool,
}

impl Pace {
    /// Of something that begins now in a program that `began` then.
    pub fn new(shown: Shown, began: Instant, now: Instant) -> Self {
        Self {
            shown,
            began,
            since: now,
            begun: false,
        }
    }

    /// The next is due at once, of a bar.
    pub fn is_outdated(&mut self) {
        self.begun = false;
    }

    /// Whether one is due: then it counts as shown.
    pub fn is_due(&mut self, now: Instant) -> bool {
        let due = match self.shown {
            Shown::Nothing => false,
            Shown::Bars => !self.begun || now >= self.since + BAR,
            Shown::Lines => now >= self.since + self.pause(),
        };
        if due {
            (self.since, self.begun) = (now, true);
        }
        due
    }

    /// The time between the last line and the next.
    fn pause(&self) -> Duration {
        (self.since.saturating_duration_since(self.began) / PART).clamp(LEAST, MOST)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines_in(seconds: u64) -> usize {
        let began = Instant::now();
        let mut pace = Pace::new(Shown::Lines, began, began);
        let at = |second| began + Duration::from_secs(second);
        (0..=seconds)
            .filter(|second| pace.is_due(at(*second)))
            .count()
    }

    #[test]
    fn lines_come_often_at_first_and_rarely_later() {
        assert_eq!(lines_in(4), 0);
        assert_eq!(lines_in(5), 1);
        assert_eq!(lines_in(50), 10);
        // Eight hours.
        let night = lines_in(8 * 3600);
        assert!((100..200).contains(&night), "{night}");
        // At the end one in five minutes.
        assert_eq!(lines_in(9 * 3600) - night, 12);
    }

    #[test]
    fn a_bar_is_drawn_at_once_and_nothing_never() {
        let began = Instant::now();
        let mut bar = Pace::new(Shown::Bars, began, began);
        assert!(bar.is_due(began));
        assert!(!bar.is_due(began + BAR / 2));
        assert!(bar.is_due(began + BAR));
        let mut none = Pace::new(Shown::Nothing, began, began);
        assert!(!none.is_due(began + MOST));
    }

    #[test]
    fn evaluations_of_a_night_do_not_flood_its_log() {
        let began = Instant::now();
        let at = |second: u64| began + Duration::from_secs(second);
        let lines = |every: usize, long: u64| -> usize {
            let starts = (0..8 * 3600).step_by(every);
            let of_one = |start: u64| {
                let mut pace = Pace::new(Shown::Lines, began, at(start));
                (start..=start + long)
                    .filter(|second| pace.is_due(at(*second)))
                    .count()
            };
            starts.map(of_one).sum()
        };
        // Twenty seconds a minute: none has a line behind the first minutes.
        assert!((1..20).contains(&lines(60, 20)), "{}", lines(60, 20));
        // Half an hour each: as rarely as a training.
        assert!(
            (50..110).contains(&lines(3600, 1800)),
            "{}",
            lines(3600, 1800)
        );
    }
}
