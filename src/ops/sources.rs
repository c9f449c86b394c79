//! Values from outside the graph: inputs, weights, states, constants.

use super::attrs::attributes;
use crate::ops::{AttrError, AttrReader, Attrs, BoundType, InferError, OpDef, ReferenceError, TensorType, Types};
use crate::tensor::{DType, HostTensor, Shape};
use smallvec::smallvec;

macro_rules! source {
    ($(#[$doc:meta])* $name:ident, $text:literal) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq)]
        pub struct $name {
            /// Type of the value.
            pub ty: TensorType,
        }

        impl $name {
            pub(crate) fn write_attrs(&self) -> Attrs {
                Attrs::new() // a text states the type after the colon
            }

            pub(crate) fn read_attrs(_: &mut AttrReader) -> Result<$name, AttrError> {
                Err(AttrError::Missing("type"))
            }
        }

        impl OpDef for $name {
            const NAME: &'static str = $text;
            const OPERANDS: &'static [&'static str] = &[];

            fn infer(&self, _: &[&TensorType]) -> Result<Types, InferError> {
                Ok(smallvec![self.ty.clone()])
            }

            fn reference(&self, _: &[&HostTensor], _: &[BoundType]) -> Result<Vec<HostTensor>, ReferenceError> {
                Err(ReferenceError::Value(concat!("an ", $text, " has the value that the run binds to it").to_string()))
            }

            fn flops(&self, _: &[&TensorType], _: &Types, _: &crate::tensor::Bounds) -> u64 {
                0
            }
        }
    };
}

source!(
    /// A value that each run binds, by the node's label.
    Input,
    "input"
);
source!(
    /// A tensor of the model, by the node's label.
    Weight,
    "weight"
);
source!(
    /// A tensor that outlives a run, by the node's label. A symbolic `S` in its shape is the capacity of the cache.
    State,
    "state"
);

attributes! {
    /// A tensor of `shape` filled with `value`.
    pub struct Constant {
        /// The value of every element.
        pub value: f32,
        /// The shape.
        pub shape: Shape,
    }
}

impl OpDef for Constant {
    const NAME: &'static str = "constant";
    const OPERANDS: &'static [&'static str] = &[];

    fn infer(&self, _: &[&TensorType]) -> Result<Types, InferError> {
        Ok(smallvec![TensorType::new(DType::F32, self.shape.clone())])
    }

    fn reference(&self, _: &[&HostTensor], outs: &[BoundType]) -> Result<Vec<HostTensor>, ReferenceError> {
        let n = outs[0].ne.iter().product();
        super::elementwise::result(outs[0], vec![self.value; n])
    }

    fn flops(&self, _: &[&TensorType], _: &Types, _: &crate::tensor::Bounds) -> u64 {
        0
    }
}
