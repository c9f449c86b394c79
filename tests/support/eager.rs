//! A target that wants every fusion there is, so that passes which only some devices ask for are tested without one.

use rocmforge::graph::passes::Capabilities;
use rocmforge::tensor::DType;

/// Another target's activations, and yes to everything else.
pub struct Eager<T>(pub T);

impl<T: Capabilities> Capabilities for Eager<T> {
    fn activation_type(&self, weight: DType, k: usize, tokens: usize) -> DType {
        self.0.activation_type(weight, k, tokens)
    }

    fn norm_in_matmul(&self, _: DType, _: usize, _: usize) -> bool {
        true
    }

    /// All but weights of three types, for which no device has a kernel.
    fn rope_in_matmul(&self, weights: [DType; 3], _: [DType; 2], _: usize, _: usize) -> bool {
        weights[0] == weights[1] || weights[1] == weights[2]
    }
}
