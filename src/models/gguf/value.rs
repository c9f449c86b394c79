//! [`Value`]: a typed metadata value, and its parser.

use std::fmt;

use super::error::GgufError;
use super::reader::{Cursor, Number, reserve};

/// The types of metadata values, with their numbers in the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs)] // the names say it
#[repr(u32)]
pub enum ValueType {
    U8 = 0,
    I8 = 1,
    U16 = 2,
    I16 = 3,
    U32 = 4,
    I32 = 5,
    F32 = 6,
    Bool = 7,
    String = 8,
    Array = 9,
    U64 = 10,
    I64 = 11,
    F64 = 12,
}

impl ValueType {
    const ALL: [(ValueType, &str); 13] = [
        (ValueType::U8, "u8"),
        (ValueType::I8, "i8"),
        (ValueType::U16, "u16"),
        (ValueType::I16, "i16"),
        (ValueType::U32, "u32"),
        (ValueType::I32, "i32"),
        (ValueType::F32, "f32"),
        (ValueType::Bool, "bool"),
        (ValueType::String, "string"),
        (ValueType::Array, "array"),
        (ValueType::U64, "u64"),
        (ValueType::I64, "i64"),
        (ValueType::F64, "f64"),
    ];

    /// The type with this number in a file.
    pub fn from_id(id: u32) -> Option<ValueType> {
        ValueType::ALL.get(id as usize).map(|(value_type, _)| *value_type)
    }

    /// The number of the type in a file.
    pub fn id(self) -> u32 {
        self as u32
    }

    /// The name in messages: `u32`, `string`, ...
    pub fn name(self) -> &'static str {
        ValueType::ALL[self as usize].1
    }
}

impl fmt::Display for ValueType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// A metadata value in the type that the file gives it.
#[derive(Clone, Debug, PartialEq)]
#[allow(missing_docs)] // the names say it
pub enum Value {
    U8(u8),
    I8(i8),
    U16(u16),
    I16(i16),
    U32(u32),
    I32(i32),
    F32(f32),
    Bool(bool),
    String(String),
    Array(Array),
    U64(u64),
    I64(i64),
    F64(f64),
    /// Bytes that are no value of their type: a bool that is neither 0 nor 1, or text that is not UTF-8. llama.cpp takes
    /// them as they are; here the file opens, and asking for the value is an error.
    Malformed {
        /// The type that the file gives, of the elements if it is an array.
        kind: ValueType,
        /// How many values: `None` if it is no array.
        count: Option<u64>,
        /// What is wrong and where.
        problem: String,
    },
}

/// The elements of an array value, all of one type. Arrays of arrays do not exist, as in ggml.
#[derive(Clone, Debug, PartialEq)]
#[allow(missing_docs)] // the names say it
pub enum Array {
    U8(Vec<u8>),
    I8(Vec<i8>),
    U16(Vec<u16>),
    I16(Vec<i16>),
    U32(Vec<u32>),
    I32(Vec<i32>),
    F32(Vec<f32>),
    Bool(Vec<bool>),
    String(Vec<String>),
    U64(Vec<u64>),
    I64(Vec<i64>),
    F64(Vec<f64>),
}

/// Runs the same expression for the vector of any array.
macro_rules! with_elements {
    ($array:expr, $elements:ident => $result:expr) => {
        match $array {
            Array::U8($elements) => $result,
            Array::I8($elements) => $result,
            Array::U16($elements) => $result,
            Array::I16($elements) => $result,
            Array::U32($elements) => $result,
            Array::I32($elements) => $result,
            Array::F32($elements) => $result,
            Array::Bool($elements) => $result,
            Array::String($elements) => $result,
            Array::U64($elements) => $result,
            Array::I64($elements) => $result,
            Array::F64($elements) => $result,
        }
    };
}

impl Array {
    /// The number of elements.
    pub fn len(&self) -> usize {
        with_elements!(self, elements => elements.len())
    }

    /// Whether there are no elements.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The type of the elements.
    pub fn element_type(&self) -> ValueType {
        match self {
            Array::U8(_) => ValueType::U8,
            Array::I8(_) => ValueType::I8,
            Array::U16(_) => ValueType::U16,
            Array::I16(_) => ValueType::I16,
            Array::U32(_) => ValueType::U32,
            Array::I32(_) => ValueType::I32,
            Array::F32(_) => ValueType::F32,
            Array::Bool(_) => ValueType::Bool,
            Array::String(_) => ValueType::String,
            Array::U64(_) => ValueType::U64,
            Array::I64(_) => ValueType::I64,
            Array::F64(_) => ValueType::F64,
        }
    }
}

impl Value {
    /// The type in the file; [`ValueType::Array`] for arrays of any element.
    pub fn value_type(&self) -> ValueType {
        match self {
            Value::U8(_) => ValueType::U8,
            Value::I8(_) => ValueType::I8,
            Value::U16(_) => ValueType::U16,
            Value::I16(_) => ValueType::I16,
            Value::U32(_) => ValueType::U32,
            Value::I32(_) => ValueType::I32,
            Value::F32(_) => ValueType::F32,
            Value::Bool(_) => ValueType::Bool,
            Value::String(_) => ValueType::String,
            Value::Array(_) | Value::Malformed { count: Some(_), .. } => ValueType::Array,
            Value::U64(_) => ValueType::U64,
            Value::I64(_) => ValueType::I64,
            Value::F64(_) => ValueType::F64,
            Value::Malformed { kind, count: None, .. } => *kind,
        }
    }

    /// The type as a text: `u32`, `array of string`.
    pub fn type_name(&self) -> String {
        match self {
            Value::Array(array) => format!("array of {}", array.element_type()),
            Value::Malformed { kind, count: Some(_), .. } => format!("array of {kind}"),
            _ => self.value_type().to_string(),
        }
    }

    /// The number, if it is any integer type.
    pub fn as_integer(&self) -> Option<i128> {
        match *self {
            Value::U8(v) => Some(v.into()),
            Value::I8(v) => Some(v.into()),
            Value::U16(v) => Some(v.into()),
            Value::I16(v) => Some(v.into()),
            Value::U32(v) => Some(v.into()),
            Value::I32(v) => Some(v.into()),
            Value::U64(v) => Some(v.into()),
            Value::I64(v) => Some(v.into()),
            _ => None,
        }
    }

    /// Reads a value's type and the value. `what` names the key in errors.
    pub(super) fn parse(cursor: &mut Cursor<'_>, what: &impl Fn() -> String) -> Result<Value, GgufError> {
        let offset = cursor.offset();
        let id = cursor.number().map_err(|short| short.reading(format!("the type of the value of {}", what())))?;
        let part = || format!("the value of {}", what());
        macro_rules! number {
            ($variant:ident) => {
                Value::$variant(cursor.number().map_err(|short| short.reading(part()))?)
            };
        }
        Ok(match value_type(id, offset, what)? {
            ValueType::U8 => number!(U8),
            ValueType::I8 => number!(I8),
            ValueType::U16 => number!(U16),
            ValueType::I16 => number!(I16),
            ValueType::U32 => number!(U32),
            ValueType::I32 => number!(I32),
            ValueType::F32 => number!(F32),
            ValueType::U64 => number!(U64),
            ValueType::I64 => number!(I64),
            ValueType::F64 => number!(F64),
            ValueType::Bool => parse_bool(cursor, &part)?,
            ValueType::String => parse_string(cursor, &part)?,
            ValueType::Array => parse_array(cursor, what)?,
        })
    }

    /// Appends the type and the value. The error says why a file cannot hold it.
    pub(super) fn put(&self, out: &mut Vec<u8>) -> Result<(), String> {
        self.value_type().id().put(out);
        match self {
            Value::U8(v) => v.put(out),
            Value::I8(v) => v.put(out),
            Value::U16(v) => v.put(out),
            Value::I16(v) => v.put(out),
            Value::U32(v) => v.put(out),
            Value::I32(v) => v.put(out),
            Value::F32(v) => v.put(out),
            Value::U64(v) => v.put(out),
            Value::I64(v) => v.put(out),
            Value::F64(v) => v.put(out),
            Value::Bool(v) => u8::from(*v).put(out),
            Value::String(v) => put_text(v.as_bytes(), out),
            Value::Array(v) => put_array(v, out),
            Value::Malformed { problem, .. } => return Err(format!("the value was read as malformed: {problem}")),
        }
        Ok(())
    }
}

fn value_type(id: u32, offset: u64, what: &impl Fn() -> String) -> Result<ValueType, GgufError> {
    ValueType::from_id(id).ok_or_else(|| GgufError::Key {
        key: what(),
        offset,
        problem: format!("{id} is not the number of a value type (0 to 12 are)"),
    })
}

fn parse_bool(cursor: &mut Cursor<'_>, part: &impl Fn() -> String) -> Result<Value, GgufError> {
    let offset = cursor.offset();
    Ok(match cursor.number::<u8>().map_err(|short| short.reading(part()))? {
        0 => Value::Bool(false),
        1 => Value::Bool(true),
        byte => Value::Malformed {
            kind: ValueType::Bool,
            count: None,
            problem: format!("the byte {byte} at byte {offset} is neither 0 nor 1"),
        },
    })
}

fn parse_string(cursor: &mut Cursor<'_>, part: &impl Fn() -> String) -> Result<Value, GgufError> {
    let offset = cursor.offset();
    let bytes = cursor.text().map_err(|short| short.reading(part()))?;
    if str::from_utf8(bytes).is_err() {
        let problem = format!("the text at byte {offset} is not UTF-8");
        return Ok(Value::Malformed { kind: ValueType::String, count: None, problem });
    }
    Ok(Value::String(owned(bytes, part)?))
}

fn parse_array(cursor: &mut Cursor<'_>, what: &impl Fn() -> String) -> Result<Value, GgufError> {
    let offset = cursor.offset();
    let id = cursor.number().map_err(|short| short.reading(format!("the element type of {}", what())))?;
    let count = cursor.number().map_err(|short| short.reading(format!("the length of {}", what())))?;
    let part = || format!("the array of {}", what());
    Ok(Value::Array(match value_type(id, offset, what)? {
        ValueType::U8 => Array::U8(cursor.numbers(count, part)?),
        ValueType::I8 => Array::I8(cursor.numbers(count, part)?),
        ValueType::U16 => Array::U16(cursor.numbers(count, part)?),
        ValueType::I16 => Array::I16(cursor.numbers(count, part)?),
        ValueType::U32 => Array::U32(cursor.numbers(count, part)?),
        ValueType::I32 => Array::I32(cursor.numbers(count, part)?),
        ValueType::F32 => Array::F32(cursor.numbers(count, part)?),
        ValueType::U64 => Array::U64(cursor.numbers(count, part)?),
        ValueType::I64 => Array::I64(cursor.numbers(count, part)?),
        ValueType::F64 => Array::F64(cursor.numbers(count, part)?),
        ValueType::Bool => return parse_bools(cursor, count, &part),
        ValueType::String => return parse_strings(cursor, count, &part),
        ValueType::Array => {
            return Err(GgufError::Key { key: what(), offset, problem: "arrays of arrays are not supported".into() });
        }
    }))
}

fn parse_bools(cursor: &mut Cursor<'_>, count: u64, part: &impl Fn() -> String) -> Result<Value, GgufError> {
    let offset = cursor.offset();
    let bytes = cursor.take(count).map_err(|short| short.reading(part()))?;
    if let Some(index) = bytes.iter().position(|&byte| byte > 1) {
        let problem =
            format!("element {index}, the byte {} at byte {}, is neither 0 nor 1", bytes[index], offset + index as u64);
        return Ok(Value::Malformed { kind: ValueType::Bool, count: Some(count), problem });
    }
    let mut bools = Vec::new();
    reserve(&mut bools, bytes.len(), part)?;
    bools.extend(bytes.iter().map(|&byte| byte == 1));
    Ok(Value::Array(Array::Bool(bools)))
}

fn parse_strings(cursor: &mut Cursor<'_>, count: u64, part: &impl Fn() -> String) -> Result<Value, GgufError> {
    cursor.check_count(count, 8, part)?;
    // A first walk over the lengths: nothing is reserved for a count whose texts are not all there.
    let mut scout = cursor.fork();
    for index in 0..count {
        let offset = scout.offset();
        let bytes = scout.text().map_err(|short| short.reading(format!("element {index} of {}", part())))?;
        if str::from_utf8(bytes).is_err() {
            for rest in index + 1..count {
                scout.text().map_err(|short| short.reading(format!("element {rest} of {}", part())))?;
            }
            *cursor = scout;
            let problem = format!("element {index}, the text at byte {offset}, is not UTF-8");
            return Ok(Value::Malformed { kind: ValueType::String, count: Some(count), problem });
        }
    }
    let mut strings = Vec::new();
    let length = usize::try_from(count).expect("that many texts of at least 8 bytes were walked over in memory");
    reserve(&mut strings, length, part)?;
    for _ in 0..length {
        let bytes = cursor.text().map_err(|short| short.reading(part()))?;
        strings.push(owned(bytes, part)?);
    }
    Ok(Value::Array(Array::String(strings)))
}

/// A copy of a text of the file that was found to be UTF-8, without spare capacity.
pub(super) fn owned(text: &[u8], part: &impl Fn() -> String) -> Result<String, GgufError> {
    let mut copy = Vec::new();
    reserve(&mut copy, text.len(), part)?;
    copy.extend_from_slice(text);
    // The copy is checked again: nobody can change it, while a mapped file can be changed under the first check.
    String::from_utf8(copy).map_err(|_| GgufError::Changed { what: part() })
}

pub(super) fn put_text(text: &[u8], out: &mut Vec<u8>) {
    (text.len() as u64).put(out);
    out.extend_from_slice(text);
}

fn put_array(array: &Array, out: &mut Vec<u8>) {
    array.element_type().id().put(out);
    (array.len() as u64).put(out);
    macro_rules! numbers {
        ($($variant:ident),*) => {
            match array {
                $( Array::$variant(elements) => elements.iter().for_each(|v| v.put(out)), )*
                Array::Bool(elements) => out.extend(elements.iter().map(|&v| u8::from(v))),
                Array::String(elements) => elements.iter().for_each(|v| put_text(v.as_bytes(), out)),
            }
        };
    }
    numbers!(U8, I8, U16, I16, U32, I32, F32, U64, I64, F64);
}

/// The value as a person reads it: text in quotes, the first elements of an array and its length, long text cut.
impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Value::U8(v) => v.fmt(f),
            Value::I8(v) => v.fmt(f),
            Value::U16(v) => v.fmt(f),
            Value::I16(v) => v.fmt(f),
            Value::U32(v) => v.fmt(f),
            Value::I32(v) => v.fmt(f),
            Value::F32(v) => v.fmt(f),
            Value::Bool(v) => v.fmt(f),
            Value::String(v) => write_text(v, f),
            Value::Array(v) => v.fmt(f),
            Value::U64(v) => v.fmt(f),
            Value::I64(v) => v.fmt(f),
            Value::F64(v) => v.fmt(f),
            Value::Malformed { problem, .. } => write!(f, "malformed: {problem}"),
        }
    }
}

/// As [`Value`]'s: `[1, 2, 3, …] (32000)`.
impl fmt::Display for Array {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const SHOWN: usize = 6;
        f.write_str("[")?;
        match self {
            Array::String(elements) => write_list(elements.iter().take(SHOWN), f, |v, f| write_text(v, f))?,
            other => with_elements!(other, elements => {
                write_list(elements.iter().take(SHOWN), f, |v, f| write!(f, "{v}"))?;
            }),
        }
        if self.len() > SHOWN { write!(f, ", …] ({})", self.len()) } else { f.write_str("]") }
    }
}

fn write_list<T>(
    elements: impl Iterator<Item = T>,
    f: &mut fmt::Formatter<'_>,
    mut write: impl FnMut(T, &mut fmt::Formatter<'_>) -> fmt::Result,
) -> fmt::Result {
    for (index, element) in elements.enumerate() {
        if index > 0 {
            f.write_str(", ")?;
        }
        write(element, f)?;
    }
    Ok(())
}

fn write_text(text: &str, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    const SHOWN: usize = 60;
    match text.char_indices().nth(SHOWN) {
        Some((cut, _)) => write!(f, "{:?}… ({} bytes)", &text[..cut], text.len()),
        None => write!(f, "{text:?}"),
    }
}

macro_rules! from {
    ($($t:ty => $variant:ident),*) => { $(
        impl From<$t> for Value {
            fn from(v: $t) -> Value {
                Value::$variant(v)
            }
        }
        impl From<Vec<$t>> for Value {
            fn from(v: Vec<$t>) -> Value {
                Value::Array(Array::$variant(v))
            }
        }
    )* };
}

from!(u8 => U8, i8 => I8, u16 => U16, i16 => I16, u32 => U32, i32 => I32, f32 => F32, bool => Bool, String => String,
      u64 => U64, i64 => I64, f64 => F64);

impl From<&str> for Value {
    fn from(v: &str) -> Value {
        Value::String(v.to_owned())
    }
}
