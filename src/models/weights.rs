//! [`WeightMap`]: a file's tensors by name, handed to a builder with their shapes checked.

use super::ModelError;
use super::gguf::Header;
use crate::graph::{Builder, Value};
use crate::tensor::Shape;
use std::cell::RefCell;
use std::collections::BTreeSet;

/// The tensors of a file, and which of them were taken.
#[derive(Debug)]
pub struct WeightMap<'a> {
    header: &'a Header,
    taken: RefCell<BTreeSet<String>>,
}

impl<'a> WeightMap<'a> {
    /// The tensors of the file with this header.
    pub fn new(header: &'a Header) -> WeightMap<'a> {
        WeightMap { header, taken: RefCell::default() }
    }

    /// Whether the file has a tensor.
    pub fn has(&self, name: &str) -> bool {
        self.header.tensor(name).is_some()
    }

    /// The weight `name`, which must have `shape`.
    pub fn take(
        &self,
        b: &mut Builder,
        name: &str,
        shape: &[usize],
        purpose: &'static str,
    ) -> Result<Value, ModelError> {
        let expected = Shape::new(shape);
        let missing = || ModelError::MissingTensor { name: name.to_string(), expected: expected.to_string(), purpose };
        let info = self.header.tensor(name).ok_or_else(missing)?;
        let found: Vec<usize> = info.shape.iter().map(|&n| usize::try_from(n).unwrap_or(usize::MAX)).collect();
        let found_shape = if found.is_empty() { Shape::new(&[1]) } else { Shape::new(&found) };
        if found_shape != expected {
            let found = found_shape.to_string();
            return Err(ModelError::TensorShape {
                name: name.to_string(),
                found,
                expected: expected.to_string(),
                purpose,
            });
        }
        if !info.dtype.is_weight() {
            let found = info.dtype.to_string();
            return Err(ModelError::TensorType {
                name: name.to_string(),
                found,
                expected: "a floating-point or quantized type",
            });
        }
        self.taken.borrow_mut().insert(name.to_string());
        Ok(b.weight(name, info.dtype, expected))
    }

    /// The weight `name`, widened to f32: norms, biases and factors are used element by element.
    pub fn take_f32(
        &self,
        b: &mut Builder,
        name: &str,
        len: usize,
        purpose: &'static str,
    ) -> Result<Value, ModelError> {
        let weight = self.take(b, name, &[len], purpose)?;
        Ok(b.dequantize(weight))
    }

    /// Names of the tensors that nobody took.
    pub fn unused(&self) -> Vec<String> {
        let taken = self.taken.borrow();
        self.header.tensors().iter().filter(|t| !taken.contains(&t.name)).map(|t| t.name.clone()).collect()
    }
}
