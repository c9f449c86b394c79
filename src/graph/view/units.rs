//! Numbers as people read them.

/// Bytes with three digits and a binary unit: `1.50 KiB`.
pub fn bytes(n: u64) -> String {
    scaled(n as f64, 1024.0, &["B", "KiB", "MiB", "GiB", "TiB", "PiB"])
}

/// A count with three digits and a decimal unit: `494 M`.
pub fn count(n: u64) -> String {
    scaled(n as f64, 1000.0, &["", "K", "M", "G", "T", "P"]).trim_end().to_string()
}

/// A time with three digits: `12.5 µs`, `1.25 ms`.
pub fn seconds(x: f64) -> String {
    let (x, unit) = match x {
        x if x < 1e-3 => (x * 1e6, "µs"),
        x if x < 1.0 => (x * 1e3, "ms"),
        x => (x, "s"),
    };
    let digits = if x >= 99.95 {
        0
    } else if x >= 9.995 {
        1
    } else {
        2
    };
    format!("{x:.digits$} {unit}")
}

fn scaled(mut x: f64, step: f64, units: &[&str]) -> String {
    let mut unit = 0;
    while x >= step && unit + 1 < units.len() {
        x /= step;
        unit += 1;
    }
    let digits = match x {
        _ if unit == 0 => 0,
        x if x >= 99.95 => 0,
        x if x >= 9.995 => 1,
        _ => 2,
    };
    format!("{x:.digits$} {}", units[unit])
}

/// `n thing` or `n things`.
pub fn plural(n: usize, thing: &str) -> String {
    if n == 1 { format!("1 {thing}") } else { format!("{n} {thing}s") }
}

/// Layer numbers with their runs joined: `0, 2–5`.
pub fn ranges(numbers: impl IntoIterator<Item = usize>) -> String {
    let mut runs: Vec<(usize, usize)> = Vec::new();
    for n in numbers {
        match runs.last_mut() {
            Some(run) if run.1 + 1 == n => run.1 = n,
            _ => runs.push((n, n)),
        }
    }
    let text = |&(a, b): &(usize, usize)| if a == b { a.to_string() } else { format!("{a}–{b}") };
    runs.iter().map(text).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_three_digits() {
        assert_eq!(bytes(17), "17 B");
        assert_eq!(bytes(1536), "1.50 KiB");
        assert_eq!(bytes(300 << 20), "300 MiB");
        assert_eq!(count(494_032_768), "494 M");
        assert_eq!(count(12), "12");
        assert_eq!(count(99_960), "100 K");
        assert_eq!([0.0, 12.34e-6, 0.00125, 2.5].map(seconds), ["0.00 µs", "12.3 µs", "1.25 ms", "2.50 s"]);
    }

    #[test]
    fn runs_are_joined() {
        assert_eq!(ranges([0, 2, 3, 4, 7]), "0, 2–4, 7");
        assert_eq!(ranges([]), "");
    }
}
