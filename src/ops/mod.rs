//! The closed list of ops. One file an op: formula, typed attributes, shape inference, scalar reference, test cases.
//!
//! [`Op`] is made by the one list at the end of this file; `docs/add-an-op.md` follows an op through every file.

mod attrs;
mod case;
mod elementwise;
mod error;
mod full_attention;
mod sources;
mod types;

mod add;
mod add_rms_norm_mul;
mod attention;
mod concat;
mod cont;
mod custom;
mod dequantize;
mod div;
mod get_rows;
mod glu;
mod glu_qmatmul;
mod kv_append;
mod kv_mask;
mod layer_norm;
mod matmul;
mod mul;
mod permute;
mod qmatmul;
mod qmatmul_group;
mod quantize;
mod reshape;
mod rms_norm;
mod rms_norm_mul;
mod rope;
mod rope_kv_append;
mod scale;
mod slice;
mod soft_max;
mod sub;
mod unary;

pub use add::Add;
pub use add_rms_norm_mul::AddRmsNormMul;
pub use attention::Attention;
pub use attrs::{AttrError, AttrField, AttrReader, AttrValue, Attrs};
pub use case::{Case, Fill, Operand};
pub use concat::Concat;
pub use cont::Cont;
pub use custom::{CustomOp, CustomOps};
pub use dequantize::Dequantize;
pub use div::Div;
pub use error::{InferError, ReferenceError};
pub use full_attention::FullAttention;
pub use get_rows::GetRows;
pub use glu::Glu;
pub use glu_qmatmul::GluQMatmul;
pub use kv_append::KvAppend;
pub use kv_mask::KvMask;
pub use layer_norm::LayerNorm;
pub use matmul::Matmul;
pub use mul::Mul;
pub use permute::Permute;
pub use qmatmul::QMatmul;
pub use qmatmul_group::QMatmulGroup;
pub use quantize::Quantize;
pub use reshape::Reshape;
pub use rms_norm::RmsNorm;
pub use rms_norm_mul::RmsNormMul;
pub use rope::{Rope, RopeMode, rope_angles};
pub use rope_kv_append::RopeKvAppend;
pub use scale::Scale;
pub use slice::Slice;
pub use soft_max::SoftMax;
pub use sources::{Constant, Input, State, Weight};
pub use sub::Sub;
pub use types::{TensorType, Types};
pub use unary::{Activation, Unary};

use crate::tensor::{Bounds, HostTensor};
use std::sync::Arc;

/// What every op file provides.
pub trait OpDef: Clone + PartialEq + std::fmt::Debug + Sized {
    /// The op's name in dumps and texts.
    const NAME: &'static str;
    /// Names of the operands; a name that ends in `?` may be left out (only at the end).
    const OPERANDS: &'static [&'static str];

    /// Whether this many operands are right; [`OpDef::infer`] is only called with as many.
    fn check_arity(&self, found: usize) -> Result<(), InferError> {
        error::check_arity(Self::OPERANDS, found)
    }

    /// The result types for these operand types.
    fn infer(&self, operands: &[&TensorType]) -> Result<Types, InferError>;

    /// The result values, computed in the plainest way. `outs` are the result types with their sizes bound.
    fn reference(&self, operands: &[&HostTensor], outs: &[BoundType]) -> Result<Vec<HostTensor>, ReferenceError>;

    /// Floating-point operations for these operands.
    fn flops(&self, _operands: &[&TensorType], outs: &Types, bounds: &Bounds) -> u64 {
        outs.iter().map(|t| t.shape.elements(bounds).unwrap_or(0) as u64).sum()
    }

    /// Operands whose memory the first result may take over, if nobody needs them afterwards.
    fn in_place(&self) -> &'static [usize] {
        &[]
    }

    /// Inputs that every backend is tested with.
    fn cases() -> Vec<Case> {
        Vec::new()
    }
}

/// A tensor type whose sizes are bound.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BoundType {
    /// The element type.
    pub dtype: crate::tensor::DType,
    /// The four sizes.
    pub ne: [usize; 4],
}

macro_rules! ops {
    ($( $(#[$doc:meta])* $variant:ident, )*) => {
        /// A node's operation with its attributes.
        #[derive(Clone, Debug)]
        pub enum Op {
            $( $(#[$doc])* $variant($variant), )*
            /// A user's op.
            Custom(Arc<dyn CustomOp>),
        }

        impl Op {
            /// Names of all built-in ops.
            pub const NAMES: &'static [&'static str] = &[$( $variant::NAME, )*];

            /// The op's name.
            pub fn name(&self) -> &str {
                match self {
                    $( Op::$variant(_) => $variant::NAME, )*
                    Op::Custom(op) => op.name(),
                }
            }

            /// Names of the operands; a trailing `?` marks an optional one. Empty for a user's op, which checks by itself.
            pub fn operand_names(&self) -> &'static [&'static str] {
                match self {
                    $( Op::$variant(_) => $variant::OPERANDS, )*
                    Op::Custom(_) => &[],
                }
            }

            /// The attributes as they are printed.
            pub fn attrs(&self) -> Attrs {
                match self {
                    $( Op::$variant(op) => op.write_attrs(), )*
                    Op::Custom(_) => Attrs::new(),
                }
            }

            /// A built-in op from its name and attributes; `None` for an unknown name.
            pub fn from_attrs(name: &str, reader: &mut AttrReader) -> Option<Result<Op, AttrError>> {
                match name {
                    $( $variant::NAME => Some($variant::read_attrs(reader).map(Op::$variant)), )*
                    _ => None,
                }
            }

            /// The result types for these operand types.
            pub fn infer(&self, operands: &[&TensorType]) -> Result<Types, InferError> {
                match self {
                    $( Op::$variant(op) => {
                        op.check_arity(operands.len())?;
                        op.infer(operands)
                    } )*
                    Op::Custom(op) => op.infer(operands),
                }
            }

            /// The result values by the op's scalar reference.
            pub fn reference(&self, operands: &[&HostTensor], outs: &[BoundType]) -> Result<Vec<HostTensor>, ReferenceError> {
                match self {
                    $( Op::$variant(op) => op.reference(operands, outs), )*
                    Op::Custom(op) => op.reference(operands, outs),
                }
            }

            /// Floating-point operations.
            pub fn flops(&self, operands: &[&TensorType], outs: &Types, bounds: &Bounds) -> u64 {
                match self {
                    $( Op::$variant(op) => op.flops(operands, outs, bounds), )*
                    Op::Custom(op) => op.flops(operands, bounds),
                }
            }

            /// Operands whose memory the first result may take over.
            pub fn in_place(&self) -> &'static [usize] {
                match self {
                    $( Op::$variant(op) => op.in_place(), )*
                    Op::Custom(_) => &[],
                }
            }

            /// The test cases of all built-in ops.
            pub fn all_cases() -> Vec<Case> {
                let mut all = Vec::new();
                $( all.extend($variant::cases()); )*
                all
            }
        }

        $( impl From<$variant> for Op { fn from(op: $variant) -> Op { Op::$variant(op) } } )*

        impl PartialEq for Op {
            fn eq(&self, other: &Op) -> bool {
                match (self, other) {
                    $( (Op::$variant(a), Op::$variant(b)) => a == b, )*
                    (Op::Custom(a), Op::Custom(b)) => Arc::ptr_eq(a, b),
                    _ => false,
                }
            }
        }
    };
}

ops! {
    /// A value that each run binds.
    Input,
    /// A tensor of the model file.
    Weight,
    /// A tensor that outlives a run: a KV cache.
    State,
    /// A tensor filled with one value.
    Constant,
    /// Rows of a table by index.
    GetRows,
    /// A weight as f32.
    Dequantize,
    /// Activations as int8 blocks.
    Quantize,
    /// Matrix product in ggml's convention.
    Matmul,
    /// Matrix product that reads a weight in its stored type (dequantize + matmul, bias, residual).
    QMatmul,
    /// Several qmatmuls of one input.
    QMatmulGroup,
    /// Gate and up projections with their gated activation.
    GluQMatmul,
    /// Sum.
    Add,
    /// Difference.
    Sub,
    /// Product.
    Mul,
    /// Quotient.
    Div,
    /// Product with a number.
    Scale,
    /// An activation function.
    Unary,
    /// Gated activation.
    Glu,
    /// Root-mean-square normalisation.
    RmsNorm,
    /// rms_norm + mul.
    RmsNormMul,
    /// add + rms_norm + mul.
    AddRmsNormMul,
    /// Normalisation to mean 0 and variance 1.
    LayerNorm,
    /// Rotary position embedding.
    Rope,
    /// Appends rows to a KV cache.
    KvAppend,
    /// RoPE of Q and K, and K and V appended to their caches.
    RopeKvAppend,
    /// Hides the cache positions that a token must not see.
    KvMask,
    /// Softmax over rows.
    SoftMax,
    /// Softmax(scale · QKᵀ) V over a KV cache.
    Attention,
    /// Softmax(scale · QKᵀ) V over all positions.
    FullAttention,
    /// Another shape for the same elements.
    Reshape,
    /// Another order of the dimensions.
    Permute,
    /// A range of one dimension.
    Slice,
    /// A contiguous copy.
    Cont,
    /// Two tensors one after the other.
    Concat,
}

impl Op {
    /// Whether the op only renames memory: the planner makes its result an alias.
    pub fn is_view(&self) -> bool {
        matches!(self, Op::Reshape(_) | Op::Permute(_) | Op::Slice(_))
    }

    /// Whether the op is a value from outside: input, weight, state or constant.
    pub fn is_source(&self) -> bool {
        matches!(self, Op::Input(_) | Op::Weight(_) | Op::State(_) | Op::Constant(_))
    }

    /// Whether operand `slot` is a weight that a matmul kernel reads in its own packing.
    pub fn is_matmul_weight(&self, slot: usize) -> bool {
        match self {
            Op::QMatmul(_) => slot == 0,
            Op::QMatmulGroup(op) => (1..=op.weights).contains(&slot),
            Op::GluQMatmul(_) => slot == 1 || slot == 2,
            _ => false,
        }
    }

    /// The name of operand `slot`; `None` where operands have none.
    pub fn operand_name(&self, slot: usize) -> Option<String> {
        match self {
            Op::QMatmulGroup(op) if slot > op.weights => Some(format!("bias{}", slot - 1 - op.weights)),
            Op::QMatmulGroup(_) if slot > 0 => Some(format!("w{}", slot - 1)),
            _ => self.operand_names().get(slot).map(|name| name.trim_end_matches('?').to_string()),
        }
    }

    /// The state operand that result `out` is, for ops that append to caches in place.
    pub fn state_operand(&self, out: usize) -> Option<usize> {
        match (self, out) {
            (Op::KvAppend(_), 0) => Some(0),
            (Op::RopeKvAppend(_), 1) => Some(3),
            (Op::RopeKvAppend(_), 2) => Some(4),
            _ => None,
        }
    }

    /// Whether the op appends to a state: it is needed by the next run even if no output needs it.
    pub fn appends(&self) -> bool {
        (0..3).any(|out| self.state_operand(out).is_some())
    }
}
