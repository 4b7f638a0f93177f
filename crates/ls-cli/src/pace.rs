//! How often progress is shown: a bar some times a second, lines often at first and then rarely, so
//! that the log of a night is as readable as that of a minute.

use std::time::{Duration, Instant};

use crate::screen::Shown;

/// Between two pictures of a bar.
const BAR: Duration = Duration::from_millis(100);
/// Between two lines at first.
const LEAST: Duration = Duration::from_secs(5);
/// And at most: a line then comes whenever a tenth of the time that has passed has passed again.
const MOST: Duration = Duration::from_secs(300);
const PART: u32 = 10;

/// When the next picture or line is due.
#[derive(Debug, Clone, Copy)]
pub struct Pace {
    shown: Shown,
    began: Instant,
    last: Option<Instant>,
}

impl Pace {
    /// Of something that begins now.
    pub fn new(shown: Shown, now: Instant) -> Self {
        Self {
            shown,
            began: now,
            last: None,
        }
    }

    /// Whether one is due: then it counts as shown.
    pub fn is_due(&mut self, now: Instant) -> bool {
        let due = match self.shown {
            Shown::Nothing => false,
            Shown::Bars => self.last.is_none_or(|last| now >= last + BAR),
            Shown::Lines => now >= self.last.unwrap_or(self.began) + self.pause(),
        };
        if due {
            self.last = Some(now);
        }
        due
    }

    /// The time between the last line and the next.
    fn pause(&self) -> Duration {
        let passed = self.last.unwrap_or(self.began) - self.began;
        (passed / PART).clamp(LEAST, MOST)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines_in(seconds: u64) -> usize {
        let began = Instant::now();
        let mut pace = Pace::new(Shown::Lines, began);
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
        let mut bar = Pace::new(Shown::Bars, began);
        assert!(bar.is_due(began));
        assert!(!bar.is_due(began + BAR / 2));
        assert!(bar.is_due(began + BAR));
        let mut none = Pace::new(Shown::Nothing, began);
        assert!(!none.is_due(began + MOST));
    }
}
