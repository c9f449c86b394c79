//! Errors of shape inference and of references.

use crate::ops::TensorType;

/// Why an op does not accept its operands.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum InferError {
    /// Too few or too many operands.
    #[error("takes {expected}, found {found} operand{}", if *found == 1 { "" } else { "s" })]
    Arity {
        /// The operands there should be.
        expected: String,
        /// How many there are.
        found: usize,
    },
    /// An operand of the wrong type or shape.
    #[error("operand `{name}` is {found}, expected {expected}")]
    Operand {
        /// The operand's role.
        name: &'static str,
        /// Its type.
        found: String,
        /// What the op needs.
        expected: String,
    },
    /// An attribute that does not suit the operands.
    #[error("attribute `{name}`: {reason}")]
    Attribute {
        /// The attribute.
        name: &'static str,
        /// What is wrong.
        reason: String,
    },
}

impl InferError {
    /// An [`InferError::Operand`].
    pub fn operand(name: &'static str, found: &TensorType, expected: impl Into<String>) -> InferError {
        InferError::Operand { name, found: found.to_string(), expected: expected.into() }
    }

    /// An [`InferError::Attribute`].
    pub fn attribute(name: &'static str, reason: impl Into<String>) -> InferError {
        InferError::Attribute { name, reason: reason.into() }
    }
}

/// Why a reference cannot compute its result.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum ReferenceError {
    /// An operand holds a value that the op cannot take.
    #[error("{0}")]
    Value(String),
    /// An operand's element type has no f32 meaning, or sizes disagree with the inferred ones.
    #[error("operand {0} has no usable values of the expected type and size")]
    Operand(usize),
}

/// Checks the number of operands against the op's list.
pub(super) fn check_arity(names: &[&'static str], found: usize) -> Result<(), InferError> {
    let required = names.iter().filter(|n| !n.ends_with('?')).count();
    if (required..=names.len()).contains(&found) {
        return Ok(());
    }
    Err(InferError::Arity {
        expected: if names.is_empty() { "no operands".to_string() } else { format!("({})", names.join(", ")) },
        found,
    })
}
