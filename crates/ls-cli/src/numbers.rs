//! Numbers as one reads them.

pub use ls_report::bytes;

/// `1,234,567`.
pub fn grouped(n: usize) -> String {
    let digits = n.to_string();
    let places = digits.char_indices();
    let parts = places.map(|(at, digit)| match digits.len() - at {
        left if at > 0 && left.is_multiple_of(3) => format!(",{digit}"),
        _ => digit.to_string(),
    });
    parts.collect()
}

/// `1:02:03` or `2:03`, as wide however it goes on: of what is under way, and of what took minutes.
pub fn clock(seconds: f64) -> String {
    let seconds = seconds.round() as u64;
    let (hours, minutes, seconds) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    if hours > 0 {
        format!("{hours}:{minutes:02}:{seconds:02}")
    } else {
        format!("{minutes}:{seconds:02}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thousands_are_parted() {
        for (n, shown) in [
            (0, "0"),
            (999, "999"),
            (1000, "1,000"),
            (12_345_678, "12,345,678"),
        ] {
            assert_eq!(grouped(n), shown);
        }
    }
}
