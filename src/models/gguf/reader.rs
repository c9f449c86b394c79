//! [`Cursor`]: reads little-endian values from a slice, never past its end.

use super::error::{GgufError, Quoted};

/// A position in the bytes of a file.
pub(super) struct Cursor<'a> {
    bytes: &'a [u8],
    at: usize,
}

/// A read that the file is too short for. [`Short::reading`] says what was read, which makes it an error.
#[derive(Debug)]
pub(super) struct Short {
    offset: u64,
    need: u64,
    left: u64,
}

impl Short {
    pub(super) fn reading(self, what: impl Into<String>) -> GgufError {
        let Short { offset, need, left } = self;
        GgufError::Truncated { what: what.into(), offset, need, left }
    }
}

impl<'a> Cursor<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Cursor<'a> {
        Cursor { bytes, at: 0 }
    }

    /// Bytes read so far, which is the offset in the file.
    pub(super) fn offset(&self) -> u64 {
        self.at as u64
    }

    /// Bytes not read yet.
    pub(super) fn left(&self) -> u64 {
        (self.bytes.len() - self.at) as u64
    }

    /// A second cursor at the same place, for looking ahead.
    pub(super) fn fork(&self) -> Cursor<'a> {
        Cursor { bytes: self.bytes, at: self.at }
    }

    /// The next `need` bytes.
    pub(super) fn take(&mut self, need: u64) -> Result<&'a [u8], Short> {
        let short = Short { offset: self.offset(), need, left: self.left() };
        let Ok(length) = usize::try_from(need) else { return Err(short) };
        let Some(taken) = self.bytes[self.at..].get(..length) else { return Err(short) };
        self.at += length;
        Ok(taken)
    }

    /// The next number.
    pub(super) fn number<T: Number>(&mut self) -> Result<T, Short> {
        self.take(T::BYTES as u64).map(T::from_le)
    }

    /// A length and that many bytes, as GGUF stores every text.
    pub(super) fn text(&mut self) -> Result<&'a [u8], Short> {
        let length = self.number::<u64>()?;
        self.take(length)
    }

    /// `count` numbers. Memory is reserved only after the bytes are known to be there.
    pub(super) fn numbers<T: Number>(&mut self, count: u64, what: impl Fn() -> String) -> Result<Vec<T>, GgufError> {
        let bytes = count.checked_mul(T::BYTES as u64).ok_or_else(|| {
            let (offset, left) = (self.offset(), self.left());
            GgufError::Count { what: what(), count, offset, most: left / T::BYTES as u64, left }
        })?;
        let taken = self.take(bytes).map_err(|short| short.reading(what()))?;
        let mut numbers = Vec::new();
        reserve(&mut numbers, taken.len() / T::BYTES, &what)?;
        numbers.extend(taken.chunks_exact(T::BYTES).map(T::from_le));
        Ok(numbers)
    }

    /// Refuses a count of entries, each at least `entry` bytes long, that the rest of the file cannot hold.
    pub(super) fn check_count(&self, count: u64, entry: u64, what: impl Fn() -> String) -> Result<(), GgufError> {
        let left = self.left();
        let most = left / entry;
        if count <= most {
            return Ok(());
        }
        Err(GgufError::Count { what: what(), count, offset: self.offset(), most, left })
    }
}

/// Room for `more` entries, or an error instead of an abort.
pub(super) fn reserve<T>(vec: &mut Vec<T>, more: usize, what: &impl Fn() -> String) -> Result<(), GgufError> {
    vec.try_reserve_exact(more).map_err(|_| GgufError::OutOfMemory {
        what: what(),
        bytes: (more as u64).saturating_mul(size_of::<T>() as u64),
    })
}

/// Checks the name of a key or tensor: UTF-8 without NUL, at most `most` bytes.
pub(super) fn check_name(name: &[u8], most: usize) -> Result<&str, String> {
    if name.len() > most {
        return Err(format!("is {} bytes long, {most} are allowed", name.len()));
    }
    let Ok(text) = str::from_utf8(name) else {
        return Err(format!("{} is not UTF-8", Quoted(&String::from_utf8_lossy(name))));
    };
    if text.contains('\0') {
        return Err(format!("{} contains a NUL byte", Quoted(text)));
    }
    Ok(text)
}

/// A number as GGUF stores it.
pub(super) trait Number: Copy {
    /// Bytes in the file.
    const BYTES: usize;
    /// From exactly [`Number::BYTES`] bytes.
    fn from_le(bytes: &[u8]) -> Self;
    /// Appends the number.
    fn put(self, out: &mut Vec<u8>);
}

macro_rules! numbers {
    ($($t:ty),*) => { $(
        impl Number for $t {
            const BYTES: usize = size_of::<$t>();
            fn from_le(bytes: &[u8]) -> $t {
                <$t>::from_le_bytes(bytes.try_into().expect("callers pass exactly BYTES bytes"))
            }
            fn put(self, out: &mut Vec<u8>) {
                out.extend_from_slice(&self.to_le_bytes());
            }
        }
    )* };
}

numbers!(u8, i8, u16, i16, u32, i32, u64, i64, f32, f64);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_stop_at_the_end() {
        let mut cursor = Cursor::new(&[1, 0, 0, 0, 9]);
        assert_eq!(cursor.number::<u32>().unwrap(), 1);
        assert!(cursor.number::<u16>().is_err());
        assert_eq!(cursor.offset(), 4, "a refused read does not advance");
        assert!(cursor.take(u64::MAX).is_err());
        assert_eq!(cursor.number::<u8>().unwrap(), 9);
        assert_eq!(cursor.left(), 0);
        assert_eq!(cursor.take(0).unwrap(), b"");
    }

    #[test]
    fn counts_are_bounded_by_the_bytes_left() {
        let cursor = Cursor::new(&[0; 24]);
        assert!(cursor.check_count(3, 8, || "x".into()).is_ok());
        assert!(cursor.check_count(4, 8, || "x".into()).is_err());
        assert!(cursor.check_count(u64::MAX, 8, || "x".into()).is_err());
        assert!(cursor.fork().numbers::<u64>(u64::MAX, || "x".into()).is_err());
        assert!(cursor.fork().numbers::<u64>(1 << 61, || "x".into()).is_err());
        assert_eq!(cursor.fork().numbers::<u64>(3, || "x".into()).unwrap(), [0, 0, 0]);
    }

    #[test]
    fn names_are_checked() {
        assert_eq!(check_name(b"blk.0", 63), Ok("blk.0"));
        assert!(check_name(b"12345", 4).unwrap_err().contains("5 bytes"));
        assert!(check_name(b"\xff\xfe", 63).unwrap_err().contains("UTF-8"));
        assert!(check_name(b"a\0b", 63).unwrap_err().contains("NUL"));
    }
}
