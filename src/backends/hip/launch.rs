//! [`Launches`]: the kernels that a step runs, with their arguments; pure data, made without a device.

use super::ffi::GemmF16;
use bytemuck::NoUninit;
use smallvec::SmallVec;

/// A kernel: the stem of its file in `kernels/` and its name there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Kernel {
    pub file: &'static str,
    pub name: &'static str,
}

/// Arguments as the driver wants them: values one after the other, each at a multiple of its alignment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Args {
    bytes: SmallVec<[u8; 256]>,
    offsets: SmallVec<[u16; 16]>,
}

impl Args {
    /// Appends a value.
    pub fn push<T: NoUninit>(&mut self, value: T) {
        let start = self.bytes.len().next_multiple_of(align_of::<T>().max(8));
        self.bytes.resize(start, 0);
        self.offsets.push(start as u16);
        self.bytes.extend_from_slice(bytemuck::bytes_of(&value));
    }

    /// The values.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Where each begins.
    pub fn offsets(&self) -> &[u16] {
        &self.offsets
    }
}

/// One kernel launch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Launch {
    pub kernel: Kernel,
    /// Blocks in x, y, z.
    pub grid: [u32; 3],
    /// Threads of a block.
    pub threads: u32,
    /// Bytes of dynamic LDS.
    pub lds: u32,
    pub args: Args,
}

impl Launch {
    /// Appends an argument.
    pub fn arg<T: NoUninit>(&mut self, value: T) -> &mut Launch {
        self.args.push(value);
        self
    }

    /// Asks for dynamic LDS.
    pub fn lds(&mut self, bytes: usize) -> &mut Launch {
        self.lds = bytes as u32;
        self
    }
}

/// What a step runs, in order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Launches {
    pub list: Vec<Launch>,
    /// Products by the BLAS library, each with how many launches of `list` come before it.
    pub products: Vec<(usize, GemmF16)>,
}

impl Launches {
    /// Appends a launch without arguments; none if the grid is empty.
    pub fn add(&mut self, kernel: Kernel, grid: [usize; 3], threads: u32) -> &mut Launch {
        let grid = grid.map(|n| u32::try_from(n).unwrap_or(u32::MAX));
        self.list.push(Launch { kernel, grid, threads, lds: 0, args: Args::default() });
        let last = self.list.len() - 1;
        &mut self.list[last]
    }

    /// Appends a product by the BLAS library.
    pub fn product(&mut self, product: GemmF16) {
        self.products.push((self.list.len(), product));
    }
}
