//! [`CustomOp`]: a user's op, so that a custom architecture never needs a fork of the crate.

use crate::ops::{BoundType, InferError, ReferenceError, TensorType, Types};
use crate::tensor::{Bounds, HostTensor};
use std::collections::BTreeMap;
use std::fmt::Debug;
use std::sync::Arc;

/// An op that the crate does not have.
///
/// Every backend can run it through [`reference`](CustomOp::reference); on the CPU backend that is how it runs.
pub trait CustomOp: Debug + Send + Sync {
    /// The name in dumps and texts; must not be the name of a built-in op.
    fn name(&self) -> &str;

    /// The result types for these operand types.
    fn infer(&self, operands: &[&TensorType]) -> Result<Types, InferError>;

    /// The result values; `outs` are the inferred types with their sizes bound.
    fn reference(&self, operands: &[&HostTensor], outs: &[BoundType]) -> Result<Vec<HostTensor>, ReferenceError>;

    /// Floating-point operations, for cost figures.
    fn flops(&self, _operands: &[&TensorType], _bounds: &Bounds) -> u64 {
        0
    }
}

/// The user's ops that a text may name.
#[derive(Clone, Debug, Default)]
pub struct CustomOps {
    ops: BTreeMap<String, Arc<dyn CustomOp>>,
}

impl CustomOps {
    /// Adds an op; one of the same name is replaced.
    pub fn insert(&mut self, op: Arc<dyn CustomOp>) {
        self.ops.insert(op.name().to_string(), op);
    }

    /// The op of this name.
    pub fn get(&self, name: &str) -> Option<&Arc<dyn CustomOp>> {
        self.ops.get(name)
    }
}
