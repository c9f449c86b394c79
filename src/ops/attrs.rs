//! Typed attributes of ops and their textual form `{eps=1e-6, mode=neox}`.

use crate::tensor::{DType, Dim, Shape, Sym};
use std::fmt;

/// An attribute's value as it stands in a graph's text.
#[derive(Clone, Debug, PartialEq)]
pub enum AttrValue {
    /// A whole number.
    Int(i64),
    /// A number with a fraction or exponent; printed so that it reads back to the same bits.
    Float(f32),
    /// A word: a flag, a mode, a type, a symbol.
    Word(String),
    /// A bracketed list.
    List(Vec<AttrValue>),
}

impl fmt::Display for AttrValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            AttrValue::Int(n) => write!(f, "{n}"),
            AttrValue::Float(x) => write!(f, "{x:?}"),
            AttrValue::Word(w) => f.write_str(w),
            AttrValue::List(items) => {
                f.write_str("[")?;
                for (i, item) in items.iter().enumerate() {
                    if i > 0 {
                        f.write_str(", ")?;
                    }
                    write!(f, "{item}")?;
                }
                f.write_str("]")
            }
        }
    }
}

/// Attributes in the order in which they are printed.
pub type Attrs = Vec<(&'static str, AttrValue)>;

/// Why attributes from a text do not make an op.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum AttrError {
    /// A needed attribute is not there.
    #[error("attribute `{0}` is missing")]
    Missing(&'static str),
    /// An attribute has a value of the wrong kind.
    #[error("attribute `{name}` is `{found}`, expected {expected}")]
    Invalid {
        /// The attribute.
        name: &'static str,
        /// Its value in the text.
        found: String,
        /// What it should be.
        expected: &'static str,
    },
    /// An attribute that the op does not have.
    #[error("unknown attribute `{name}`; this op has {known}")]
    Unknown {
        /// The attribute.
        name: String,
        /// The attributes there are.
        known: String,
    },
}

/// Attributes read from a text, taken one by one.
#[derive(Debug, Default)]
pub struct AttrReader {
    items: Vec<(String, AttrValue)>,
    known: Vec<&'static str>,
}

impl AttrReader {
    /// A reader over name–value pairs.
    pub fn new(items: Vec<(String, AttrValue)>) -> AttrReader {
        AttrReader { items, known: Vec::new() }
    }

    /// Takes attribute `name`; `default` stands in when it is absent.
    pub fn take<F: AttrField>(&mut self, name: &'static str, default: Option<F>) -> Result<F, AttrError> {
        self.known.push(name);
        match self.items.iter().position(|(n, _)| n == name) {
            None => default.ok_or(AttrError::Missing(name)),
            Some(i) => {
                let (_, value) = self.items.remove(i);
                F::from_attr(&value).ok_or_else(|| AttrError::Invalid {
                    name,
                    found: value.to_string(),
                    expected: F::EXPECTED,
                })
            }
        }
    }

    /// An error if an attribute was not taken.
    pub fn finish(self) -> Result<(), AttrError> {
        match self.items.into_iter().next() {
            None => Ok(()),
            Some((name, _)) => Err(AttrError::Unknown {
                name,
                known: if self.known.is_empty() { "none".to_string() } else { self.known.join(", ") },
            }),
        }
    }
}

/// A type that can be an attribute.
pub trait AttrField: Sized {
    /// What a text must hold, for messages.
    const EXPECTED: &'static str;
    /// The value as text.
    fn to_attr(&self) -> AttrValue;
    /// The value from text.
    fn from_attr(value: &AttrValue) -> Option<Self>;
}

impl AttrField for f32 {
    const EXPECTED: &'static str = "a number";
    fn to_attr(&self) -> AttrValue {
        AttrValue::Float(*self)
    }
    fn from_attr(value: &AttrValue) -> Option<f32> {
        match value {
            AttrValue::Float(x) => Some(*x),
            AttrValue::Int(n) => Some(*n as f32),
            AttrValue::Word(w) => match w.as_str() {
                "inf" => Some(f32::INFINITY),
                "NaN" => Some(f32::NAN),
                _ => None,
            },
            AttrValue::List(_) => None,
        }
    }
}

impl AttrField for usize {
    const EXPECTED: &'static str = "a whole number";
    fn to_attr(&self) -> AttrValue {
        AttrValue::Int(*self as i64)
    }
    fn from_attr(value: &AttrValue) -> Option<usize> {
        match value {
            AttrValue::Int(n) => usize::try_from(*n).ok(),
            _ => None,
        }
    }
}

impl AttrField for bool {
    const EXPECTED: &'static str = "true or false";
    fn to_attr(&self) -> AttrValue {
        AttrValue::Word(self.to_string())
    }
    fn from_attr(value: &AttrValue) -> Option<bool> {
        match value {
            AttrValue::Word(w) => w.parse().ok(),
            _ => None,
        }
    }
}

impl AttrField for DType {
    const EXPECTED: &'static str = "an element type such as f32 or q4_0";
    fn to_attr(&self) -> AttrValue {
        AttrValue::Word(self.name().to_string())
    }
    fn from_attr(value: &AttrValue) -> Option<DType> {
        match value {
            AttrValue::Word(w) => DType::from_name(w),
            _ => None,
        }
    }
}

impl AttrField for Dim {
    const EXPECTED: &'static str = "a size: a whole number, T, S or R";
    fn to_attr(&self) -> AttrValue {
        match self {
            Dim::Fixed(n) => n.to_attr(),
            Dim::Sym(s) => AttrValue::Word(s.to_string()),
        }
    }
    fn from_attr(value: &AttrValue) -> Option<Dim> {
        match value {
            AttrValue::Int(_) => usize::from_attr(value).map(Dim::Fixed),
            AttrValue::Word(w) => Sym::ALL.into_iter().find(|s| s.to_string() == *w).map(Dim::Sym),
            _ => None,
        }
    }
}

impl AttrField for Shape {
    const EXPECTED: &'static str = "a list of one to four sizes";
    fn to_attr(&self) -> AttrValue {
        AttrValue::List(self.dims().iter().map(AttrField::to_attr).collect())
    }
    fn from_attr(value: &AttrValue) -> Option<Shape> {
        match value {
            AttrValue::List(items) if (1..=Shape::MAX_DIMS).contains(&items.len()) => {
                let dims: Option<Vec<Dim>> = items.iter().map(Dim::from_attr).collect();
                Some(Shape::new(&dims?))
            }
            _ => None,
        }
    }
}

impl AttrField for [usize; 4] {
    const EXPECTED: &'static str = "a list of four whole numbers";
    fn to_attr(&self) -> AttrValue {
        AttrValue::List(self.iter().map(AttrField::to_attr).collect())
    }
    fn from_attr(value: &AttrValue) -> Option<[usize; 4]> {
        match value {
            AttrValue::List(items) => {
                let items: Option<Vec<usize>> = items.iter().map(usize::from_attr).collect();
                items?.try_into().ok()
            }
            _ => None,
        }
    }
}

/// The word `none`, or the field.
impl<F: AttrField> AttrField for Option<F> {
    const EXPECTED: &'static str = F::EXPECTED;
    fn to_attr(&self) -> AttrValue {
        self.as_ref().map_or_else(|| AttrValue::Word("none".to_string()), F::to_attr)
    }
    fn from_attr(value: &AttrValue) -> Option<Option<F>> {
        match value {
            AttrValue::Word(w) if w == "none" => Some(None),
            _ => F::from_attr(value).map(Some),
        }
    }
}

/// Declares an enum whose variants are words in a graph's text.
macro_rules! word_enum {
    ($(#[$doc:meta])* pub enum $name:ident { $( $(#[$vdoc:meta])* $variant:ident = $word:literal, )* } expected $expected:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum $name { $( $(#[$vdoc])* $variant, )* }

        impl $name {
            /// Every variant.
            pub const ALL: &'static [$name] = &[$( $name::$variant, )*];
            /// The word that stands for it in a graph's text.
            pub const fn word(self) -> &'static str { match self { $( $name::$variant => $word, )* } }
        }

        impl $crate::ops::AttrField for $name {
            const EXPECTED: &'static str = $expected;
            fn to_attr(&self) -> $crate::ops::AttrValue { $crate::ops::AttrValue::Word(self.word().to_string()) }
            fn from_attr(value: &$crate::ops::AttrValue) -> Option<$name> {
                match value {
                    $crate::ops::AttrValue::Word(w) => $name::ALL.iter().copied().find(|v| v.word() == w),
                    _ => None,
                }
            }
        }
    };
}
pub(crate) use word_enum;

/// Declares an op's attribute struct with its textual form. A field may have a default, which is then not printed.
macro_rules! attributes {
    ($(#[$doc:meta])* pub struct $name:ident { $( $(#[$fdoc:meta])* pub $field:ident : $ty:ty $(= $default:expr)?, )* }) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq)]
        pub struct $name { $( $(#[$fdoc])* pub $field: $ty, )* }

        impl $name {
            pub(crate) fn write_attrs(&self) -> $crate::ops::Attrs {
                #[allow(unused_mut)]
                let mut attrs = $crate::ops::Attrs::new();
                $(
                    let default: Option<$ty> = None$(.or(Some($default)))?;
                    if default.as_ref() != Some(&self.$field) {
                        attrs.push((stringify!($field), $crate::ops::AttrField::to_attr(&self.$field)));
                    }
                )*
                attrs
            }

            #[allow(unused_variables)]
            pub(crate) fn read_attrs(reader: &mut $crate::ops::AttrReader) -> Result<$name, $crate::ops::AttrError> {
                Ok($name { $( $field: reader.take(stringify!($field), None$(.or(Some($default)))?)?, )* })
            }
        }
    };
}
pub(crate) use attributes;
