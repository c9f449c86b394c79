//! Shapes with symbolic dimensions.
//!
//! A shape has up to four dimensions in ggml's order: `ne[0]` is the length of a row and varies fastest. A dimension is a
//! number or one of the symbols of [`Sym`], whose value is known only when a step runs; [`Bounds`] gives each symbol a value
//! (an upper bound while planning, the actual value while running).

use smallvec::SmallVec;
use std::fmt;

/// A size that is bound when a step runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Sym {
    /// Tokens in this step.
    T,
    /// Filled length of the KV cache, the tokens of this step included.
    S,
    /// Rows of the output: tokens whose logits are wanted.
    R,
}

impl Sym {
    /// All symbols.
    pub const ALL: [Sym; 3] = [Sym::T, Sym::S, Sym::R];
}

impl fmt::Display for Sym {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Sym::T => "T",
            Sym::S => "S",
            Sym::R => "R",
        })
    }
}

/// A dimension: a number or a symbol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Dim {
    /// Known when the graph is built.
    Fixed(usize),
    /// Known when a step runs.
    Sym(Sym),
}

impl Dim {
    /// The dimension of one element.
    pub const ONE: Dim = Dim::Fixed(1);

    /// Its value under `bounds`.
    pub fn eval(self, bounds: &Bounds) -> usize {
        match self {
            Dim::Fixed(n) => n,
            Dim::Sym(s) => bounds.get(s),
        }
    }

    /// Its value if it is a number.
    pub fn fixed(self) -> Option<usize> {
        match self {
            Dim::Fixed(n) => Some(n),
            Dim::Sym(_) => None,
        }
    }
}

impl From<usize> for Dim {
    fn from(n: usize) -> Dim {
        Dim::Fixed(n)
    }
}

impl From<Sym> for Dim {
    fn from(s: Sym) -> Dim {
        Dim::Sym(s)
    }
}

impl fmt::Display for Dim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Dim::Fixed(n) => write!(f, "{n}"),
            Dim::Sym(s) => write!(f, "{s}"),
        }
    }
}

/// A value for each symbol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Bounds {
    /// Tokens.
    pub t: usize,
    /// KV length.
    pub s: usize,
    /// Output rows.
    pub r: usize,
}

impl Bounds {
    /// The value of `sym`.
    pub fn get(&self, sym: Sym) -> usize {
        match sym {
            Sym::T => self.t,
            Sym::S => self.s,
            Sym::R => self.r,
        }
    }
}

impl fmt::Display for Bounds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "T <= {}, S <= {}, R <= {}", self.t, self.s, self.r)
    }
}

/// Up to four dimensions, `ne[0]` first; trailing ones are not stored.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Default)]
pub struct Shape(SmallVec<[Dim; 4]>);

impl Shape {
    /// The most dimensions a shape has.
    pub const MAX_DIMS: usize = 4;

    /// A shape of these dimensions; ones at the end are dropped, but one dimension stays.
    ///
    /// # Panics
    /// With more than [`Shape::MAX_DIMS`] dimensions after that.
    pub fn new<D: Into<Dim> + Copy>(dims: &[D]) -> Shape {
        let mut dims: SmallVec<[Dim; 4]> = dims.iter().map(|&d| d.into()).collect();
        while dims.len() > 1 && dims.last() == Some(&Dim::ONE) {
            dims.pop();
        }
        assert!(dims.len() <= Shape::MAX_DIMS, "a shape has at most four dimensions");
        Shape(dims)
    }

    /// Dimension `i`; one beyond the stored dimensions.
    pub fn dim(&self, i: usize) -> Dim {
        self.0.get(i).copied().unwrap_or(Dim::ONE)
    }

    /// All four dimensions.
    pub fn dims4(&self) -> [Dim; 4] {
        [self.dim(0), self.dim(1), self.dim(2), self.dim(3)]
    }

    /// The stored dimensions.
    pub fn dims(&self) -> &[Dim] {
        &self.0
    }

    /// Number of stored dimensions.
    pub fn rank(&self) -> usize {
        self.0.len()
    }

    /// The length of a row.
    pub fn row(&self) -> Dim {
        self.dim(0)
    }

    /// The shape with dimension `i` replaced.
    pub fn with_dim(&self, i: usize, dim: impl Into<Dim>) -> Shape {
        let mut dims = self.dims4();
        dims[i] = dim.into();
        Shape::new(&dims)
    }

    /// All four sizes under `bounds`.
    pub fn eval(&self, bounds: &Bounds) -> [usize; 4] {
        self.dims4().map(|d| d.eval(bounds))
    }

    /// Number of elements under `bounds`; `None` on overflow.
    pub fn elements(&self, bounds: &Bounds) -> Option<usize> {
        self.eval(bounds).iter().try_fold(1usize, |n, &d| n.checked_mul(d))
    }

    /// Number of elements if no dimension is symbolic and the product does not overflow.
    pub fn fixed_elements(&self) -> Option<usize> {
        self.0.iter().try_fold(1usize, |n, d| n.checked_mul(d.fixed()?))
    }

    /// The product of the numbers and the number of times that each symbol occurs.
    pub fn monomial(&self) -> Option<(usize, [u8; 3])> {
        let mut n = 1usize;
        let mut powers = [0u8; 3];
        for d in &self.0 {
            match *d {
                Dim::Fixed(k) => n = n.checked_mul(k)?,
                Dim::Sym(s) => powers[s as usize] += 1,
            }
        }
        Some((n, powers))
    }
}

impl fmt::Display for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[")?;
        for (i, d) in self.0.iter().enumerate() {
            if i > 0 {
                f.write_str(", ")?;
            }
            write!(f, "{d}")?;
        }
        f.write_str("]")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn trailing_ones_do_not_distinguish_shapes() {
        assert_eq!(Shape::new(&[4, 1, 1]), Shape::new(&[4]));
        assert_eq!(Shape::new(&[1]).rank(), 1);
        assert_eq!(Shape::new(&[Dim::Fixed(4), Sym::T.into()]).to_string(), "[4, T]");
    }

    #[test]
    fn elements_are_checked() {
        let b = Bounds { t: 3, s: 5, r: 1 };
        assert_eq!(Shape::new(&[Dim::Fixed(4), Sym::T.into(), Sym::S.into()]).elements(&b), Some(60));
        assert_eq!(Shape::new(&[usize::MAX, 2]).elements(&b), None);
    }
}
