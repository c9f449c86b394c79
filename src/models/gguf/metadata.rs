//! [`Metadata`]: the keys and values of a file, with getters that check types.

use std::borrow::Cow;
use std::collections::TryReserveError;

use super::error::{GgufError, MetadataError, Quoted};
use super::header::{ALIGNMENT_KEY, check_alignment};
use super::reader::{Cursor, check_name};
use super::value::{Array, Value, ValueType, owned};

/// The longest key that the format allows, in bytes.
pub(super) const MAX_KEY: usize = 65535;
/// Bytes of the smallest entry: an 8-byte length, a key of one byte, a 4-byte type, a value of one byte.
const MIN_ENTRY: u64 = 14;

/// The keys and values of a file, in file order. No key occurs twice.
///
/// The typed getters give `None` for an absent key and an error naming key and types for a value that does not fit.
/// Integer getters accept every integer type whose value fits. The `require_` forms make absence an error.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Metadata {
    entries: Vec<(String, Value)>,
    /// Positions in `entries`, sorted by key.
    by_key: Vec<u32>,
}

impl Metadata {
    /// Metadata with these entries, in this order.
    ///
    /// # Errors
    /// [`GgufError::DuplicateKey`].
    pub fn new(entries: Vec<(String, Value)>) -> Result<Metadata, GgufError> {
        match sorted_index(entries.len(), |i| entries[i].0.as_str()) {
            Ok(by_key) => Ok(Metadata { entries, by_key }),
            Err(NotUnique::Twice(first, second)) => {
                Err(GgufError::DuplicateKey { key: entries[first].0.clone(), first, second })
            }
            Err(NotUnique::NoRoom(bytes)) => Err(GgufError::OutOfMemory { what: "the index of keys".into(), bytes }),
        }
    }

    /// Reads `count` entries.
    pub(super) fn parse(cursor: &mut Cursor<'_>, count: u64) -> Result<Metadata, GgufError> {
        cursor.check_count(count, MIN_ENTRY, || "metadata entries".into())?;
        let mut entries = Vec::new();
        for index in 0..count {
            let offset = cursor.offset();
            let number = || format!("number {index}");
            let key = cursor.text().map_err(|short| short.reading(format!("metadata key number {index}")))?;
            let refuse = |problem| GgufError::Key { key: number(), offset, problem };
            let key = check_name(key, MAX_KEY).map_err(refuse)?;
            if key.is_empty() {
                return Err(refuse("is empty".into()));
            }
            let quoted = || Quoted(key).to_string();
            let value = Value::parse(cursor, &quoted)?;
            if key == ALIGNMENT_KEY {
                check_alignment(&value).map_err(|problem| GgufError::Key { key: quoted(), offset, problem })?;
            }
            grow(&mut entries).map_err(|_| GgufError::OutOfMemory { what: "metadata".into(), bytes: offset })?;
            entries.push((owned(key.as_bytes(), &quoted)?, value));
        }
        Metadata::new(entries)
    }

    /// The number of keys.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there are no keys.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// The value of a key.
    pub fn get(&self, key: &str) -> Option<&Value> {
        let found = self.by_key.binary_search_by(|&i| self.entries[i as usize].0.as_str().cmp(key)).ok()?;
        Some(&self.entries[self.by_key[found] as usize].1)
    }

    /// Keys and values in file order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&str, &Value)> + DoubleEndedIterator {
        self.entries.iter().map(|(key, value)| (key.as_str(), value))
    }

    /// A text.
    ///
    /// # Errors
    /// [`MetadataError`] if the value is not a string.
    pub fn str(&self, key: &str) -> Result<Option<&str>, MetadataError> {
        match self.get(key) {
            None => Ok(None),
            Some(Value::String(v)) => Ok(Some(v)),
            Some(other) => Err(mismatch(key, other, "string")),
        }
    }

    /// A truth value.
    ///
    /// # Errors
    /// [`MetadataError`] if the value is not a bool.
    pub fn bool(&self, key: &str) -> Result<Option<bool>, MetadataError> {
        match self.get(key) {
            None => Ok(None),
            Some(Value::Bool(v)) => Ok(Some(*v)),
            Some(other) => Err(mismatch(key, other, "bool")),
        }
    }

    /// A number, from f32 or rounded from f64.
    ///
    /// # Errors
    /// [`MetadataError`] if the value is no float, or a finite f64 beyond the range of f32.
    pub fn f32(&self, key: &str) -> Result<Option<f32>, MetadataError> {
        match self.get(key) {
            None => Ok(None),
            Some(Value::F32(v)) => Ok(Some(*v)),
            Some(Value::F64(v)) if (*v as f32).is_finite() || !v.is_finite() => Ok(Some(*v as f32)),
            Some(Value::F64(v)) => Err(MetadataError::Range { key: key.into(), value: v.to_string(), wanted: "f32" }),
            Some(other) => Err(mismatch(key, other, "f32")),
        }
    }

    /// A 32-bit unsigned number, from any integer type.
    ///
    /// # Errors
    /// [`MetadataError`] if the value is no integer or does not fit.
    pub fn u32(&self, key: &str) -> Result<Option<u32>, MetadataError> {
        self.integer(key, "u32")
    }

    /// A 32-bit signed number, from any integer type.
    ///
    /// # Errors
    /// As [`Metadata::u32`].
    pub fn i32(&self, key: &str) -> Result<Option<i32>, MetadataError> {
        self.integer(key, "i32")
    }

    /// A 64-bit unsigned number, from any integer type.
    ///
    /// # Errors
    /// As [`Metadata::u32`].
    pub fn u64(&self, key: &str) -> Result<Option<u64>, MetadataError> {
        self.integer(key, "u64")
    }

    /// A size, from any integer type.
    ///
    /// # Errors
    /// As [`Metadata::u32`].
    pub fn usize(&self, key: &str) -> Result<Option<usize>, MetadataError> {
        self.integer(key, "usize")
    }

    fn integer<T: TryFrom<i128>>(&self, key: &str, wanted: &'static str) -> Result<Option<T>, MetadataError> {
        let Some(value) = self.get(key) else { return Ok(None) };
        let number = value.as_integer().ok_or_else(|| mismatch(key, value, wanted))?;
        let fits = T::try_from(number);
        fits.map(Some).map_err(|_| MetadataError::Range { key: key.into(), value: number.to_string(), wanted })
    }

    /// A list of texts.
    ///
    /// # Errors
    /// [`MetadataError`] if the value is no array of strings.
    pub fn strings(&self, key: &str) -> Result<Option<&[String]>, MetadataError> {
        match self.get(key) {
            None => Ok(None),
            Some(Value::Array(Array::String(v))) => Ok(Some(v)),
            Some(other) => Err(mismatch(key, other, "array of string")),
        }
    }

    /// A list of floats.
    ///
    /// # Errors
    /// [`MetadataError`] if the value is no array of f32.
    pub fn f32s(&self, key: &str) -> Result<Option<&[f32]>, MetadataError> {
        match self.get(key) {
            None => Ok(None),
            Some(Value::Array(Array::F32(v))) => Ok(Some(v)),
            Some(other) => Err(mismatch(key, other, "array of f32")),
        }
    }

    /// A list of truth values.
    ///
    /// # Errors
    /// [`MetadataError`] if the value is no array of bools.
    pub fn bools(&self, key: &str) -> Result<Option<&[bool]>, MetadataError> {
        match self.get(key) {
            None => Ok(None),
            Some(Value::Array(Array::Bool(v))) => Ok(Some(v)),
            Some(other) => Err(mismatch(key, other, "array of bool")),
        }
    }

    /// A list of 32-bit signed numbers, borrowed if the file has that type, converted from any other integer type.
    ///
    /// # Errors
    /// [`MetadataError`] if the value is no array of integers, or one of them does not fit.
    pub fn i32s(&self, key: &str) -> Result<Option<Cow<'_, [i32]>>, MetadataError> {
        match self.get(key) {
            Some(Value::Array(Array::I32(v))) => Ok(Some(Cow::Borrowed(v))),
            other => self.integers(key, other, "i32", "array of i32").map(|list| list.map(Cow::Owned)),
        }
    }

    /// A list of 32-bit unsigned numbers, borrowed if the file has that type, converted from any other integer type.
    ///
    /// # Errors
    /// As [`Metadata::i32s`].
    pub fn u32s(&self, key: &str) -> Result<Option<Cow<'_, [u32]>>, MetadataError> {
        match self.get(key) {
            Some(Value::Array(Array::U32(v))) => Ok(Some(Cow::Borrowed(v))),
            other => self.integers(key, other, "u32", "array of u32").map(|list| list.map(Cow::Owned)),
        }
    }

    fn integers<T: TryFrom<i128>>(
        &self,
        key: &str,
        value: Option<&Value>,
        element: &'static str,
        wanted: &'static str,
    ) -> Result<Option<Vec<T>>, MetadataError> {
        fn all<T: TryFrom<i128>>(
            numbers: impl Iterator<Item = i128>,
            key: &str,
            wanted: &'static str,
        ) -> Result<Option<Vec<T>>, MetadataError> {
            let convert = |(index, number)| {
                T::try_from(number).map_err(|_| {
                    let value = format!("an array whose element {index} is {number}");
                    MetadataError::Range { key: key.into(), value, wanted }
                })
            };
            numbers.enumerate().map(convert).collect::<Result<Vec<T>, _>>().map(Some)
        }
        match value {
            None => Ok(None),
            Some(Value::Array(Array::U8(v))) => all(v.iter().map(|&n| n.into()), key, element),
            Some(Value::Array(Array::I8(v))) => all(v.iter().map(|&n| n.into()), key, element),
            Some(Value::Array(Array::U16(v))) => all(v.iter().map(|&n| n.into()), key, element),
            Some(Value::Array(Array::I16(v))) => all(v.iter().map(|&n| n.into()), key, element),
            Some(Value::Array(Array::U32(v))) => all(v.iter().map(|&n| n.into()), key, element),
            Some(Value::Array(Array::I32(v))) => all(v.iter().map(|&n| n.into()), key, element),
            Some(Value::Array(Array::U64(v))) => all(v.iter().map(|&n| n.into()), key, element),
            Some(Value::Array(Array::I64(v))) => all(v.iter().map(|&n| n.into()), key, element),
            Some(other) => Err(mismatch(key, other, wanted)),
        }
    }
}

macro_rules! require {
    ($($require:ident = $getter:ident -> $t:ty, $wanted:literal;)*) => {
        impl Metadata { $(
            #[doc = concat!("[`Metadata::", stringify!($getter), "`] of a key that must be there.")]
            ///
            /// # Errors
            /// [`MetadataError`], also if the key is missing.
            pub fn $require(&self, key: &str) -> Result<$t, MetadataError> {
                self.$getter(key)?.ok_or_else(|| MetadataError::Missing { key: key.into(), wanted: $wanted })
            }
        )* }
    };
}

require! {
    require_str = str -> &str, "string";
    require_bool = bool -> bool, "bool";
    require_f32 = f32 -> f32, "f32";
    require_u32 = u32 -> u32, "u32";
    require_i32 = i32 -> i32, "i32";
    require_u64 = u64 -> u64, "u64";
    require_usize = usize -> usize, "usize";
    require_strings = strings -> &[String], "array of string";
    require_f32s = f32s -> &[f32], "array of f32";
    require_bools = bools -> &[bool], "array of bool";
    require_i32s = i32s -> Cow<'_, [i32]>, "array of i32";
    require_u32s = u32s -> Cow<'_, [u32]>, "array of u32";
}

fn mismatch(key: &str, found: &Value, wanted: &'static str) -> MetadataError {
    let key = key.to_owned();
    match found {
        Value::Malformed { kind, count, problem } => {
            let kind = if count.is_some() { ValueType::Array } else { *kind };
            MetadataError::Malformed { key, kind, problem: problem.clone() }
        }
        _ => MetadataError::Type { key, found: found.type_name(), wanted },
    }
}

/// Room for one more entry, growing as `push` does, or an error instead of an abort.
pub(super) fn grow<T>(entries: &mut Vec<T>) -> Result<(), TryReserveError> {
    entries.try_reserve(1)
}

/// Why there is no [`sorted_index`].
pub(super) enum NotUnique {
    /// Two positions with the same name, in order.
    Twice(usize, usize),
    /// Memory of this size is not to be had, or more names than `u32` counts.
    NoRoom(u64),
}

/// The positions of `count` names, sorted by name.
pub(super) fn sorted_index<'a>(count: usize, name: impl Fn(usize) -> &'a str) -> Result<Vec<u32>, NotUnique> {
    let no_room = || NotUnique::NoRoom(count as u64 * 4);
    let end = u32::try_from(count).map_err(|_| no_room())?;
    let mut index = Vec::new();
    index.try_reserve_exact(count).map_err(|_| no_room())?;
    index.extend(0..end);
    index.sort_unstable_by(|&a, &b| name(a as usize).cmp(name(b as usize)).then(a.cmp(&b)));
    match index.windows(2).find(|pair| name(pair[0] as usize) == name(pair[1] as usize)) {
        Some(pair) => Err(NotUnique::Twice(pair[0] as usize, pair[1] as usize)),
        None => Ok(index),
    }
}
