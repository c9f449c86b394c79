//! `sub`: out = a - b, with `b` repeated along the dimensions where its size is 1.

super::elementwise::binary_op!(
    /// Difference of two f32 tensors. Each size of `b` is that of `a` or 1.
    Sub,
    "sub",
    |a, b| a - b
);
