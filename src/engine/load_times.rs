//! [`LoadTimes`]: how long it took to open a model, and what took it.

use crate::backends::LoadParts;
use std::fmt;
use std::time::Duration;

/// How long opening a model took.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LoadTimes {
    /// Opening devices with their libraries, and deciding what runs where; zero for backends that the caller made.
    pub devices: Duration,
    /// Preparing weights.
    pub weights: Duration,
    /// Bytes of those weights in the file.
    pub bytes: u64,
    /// What preparing a device's weights took; the CPU does not tell its parts.
    pub parts: Option<LoadParts>,
}

impl LoadTimes {
    /// All of it.
    pub fn total(&self) -> Duration {
        self.devices + self.weights
    }
}

/// `loaded 4.58 GB in 0.25 s (…)`.
impl fmt::Display for LoadTimes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = |time: Duration| format!("{:.2} s", time.as_secs_f64());
        write!(f, "loaded {:.2} GB in {}", self.bytes as f64 / 1e9, seconds(self.weights))?;
        if let Some(LoadParts { allocating, packing, copying }) = self.parts {
            let [allocating, packing, copying] = [allocating, packing, copying].map(seconds);
            write!(f, " (allocating {allocating}, reading and packing {packing}, waiting for copies {copying})")?;
        }
        match self.devices.as_millis() {
            0..10 => Ok(()),
            _ => write!(f, ", after {} to open devices", seconds(self.devices)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_told_where_they_are_known() {
        let seconds = Duration::from_secs_f64;
        let mut times = LoadTimes { weights: seconds(0.251), bytes: 4_581_000_000, ..LoadTimes::default() };
        assert_eq!(times.to_string(), "loaded 4.58 GB in 0.25 s");
        times.devices = seconds(0.6);
        times.parts = Some(LoadParts { allocating: seconds(0.01), packing: seconds(0.2), copying: seconds(0.04) });
        let parts = "(allocating 0.01 s, reading and packing 0.20 s, waiting for copies 0.04 s)";
        assert_eq!(times.to_string(), format!("loaded 4.58 GB in 0.25 s {parts}, after 0.60 s to open devices"));
        assert_eq!(times.total(), seconds(0.851));
    }
}
