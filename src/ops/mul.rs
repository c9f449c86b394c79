//! `mul`: out = a * b, with `b` repeated along the dimensions where its size is 1.

super::elementwise::binary_op!(
    /// Product of two f32 tensors. Each size of `b` is that of `a` or 1.
    Mul,
    "mul",
    |a, b| a * b
);
