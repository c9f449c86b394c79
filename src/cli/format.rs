//! Numbers and texts as people read them.

/// Bytes with three digits and a binary unit: `1.50 GiB`.
pub fn bytes(n: u64) -> String {
    scaled(n as f64, 1024.0, &["B", "KiB", "MiB", "GiB", "TiB"])
}

/// Counts with three digits and a decimal unit: `494 M`.
pub fn count(n: u64) -> String {
    scaled(n as f64, 1000.0, &["", "K", "M", "G", "T"]).trim_end().to_string()
}

fn scaled(mut x: f64, step: f64, units: &[&str]) -> String {
    let mut unit = 0;
    while x >= step && unit + 1 < units.len() {
        x /= step;
        unit += 1;
    }
    let digits = if unit == 0 || x >= 100.0 {
        0
    } else if x >= 10.0 {
        1
    } else {
        2
    };
    format!("{x:.digits$} {}", units[unit])
}

/// At most `max` characters of a text from a file, on one line, with control characters escaped.
pub fn shown(text: &str, max: usize) -> String {
    let mut out = String::new();
    for (index, c) in text.chars().enumerate() {
        if index == max {
            out.push('…');
            break;
        }
        if c.is_control() || c == '\u{feff}' { out.extend(c.escape_default()) } else { out.push(c) }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers() {
        assert_eq!(bytes(17), "17 B");
        assert_eq!(bytes(1536), "1.50 KiB");
        assert_eq!(bytes(300 << 20), "300 MiB");
        assert_eq!(count(494_032_768), "494 M");
        assert_eq!(count(12), "12");
    }

    #[test]
    fn texts_are_short_and_harmless() {
        assert_eq!(shown("a\nb\x1b", 9), "a\\nb\\u{1b}");
        assert_eq!(shown("abcdef", 3), "abc…");
        assert_eq!(shown("ü", 1), "ü");
    }
}
