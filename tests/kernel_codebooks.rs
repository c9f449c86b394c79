//! The codebooks of `kernels/common/codebooks.h` are those of `tensor::quant::grids`.

use rocmforge::tensor::quant::grids::{IQ1_S_GRID, IQ2_S_GRID, IQ2_XS_GRID, IQ2_XXS_GRID, IQ3_S_GRID, IQ3_XXS_GRID};

/// The numbers between the braces behind `name[`.
fn table(name: &str) -> Vec<u16> {
    let header = include_str!("../kernels/common/codebooks.h");
    let (_, rest) = header.split_once(&format!("u16 {name}[")).unwrap_or_else(|| panic!("no {name}"));
    let numbers = rest.split_once('{').unwrap().1.split_once('}').unwrap().0;
    let numbers = numbers.split(',').map(str::trim).filter(|n| !n.is_empty());
    numbers.map(|n| u16::from_str_radix(n.strip_prefix("0x").unwrap(), 16).unwrap()).collect()
}

/// Expands the header's entries, `16 / E` bits a value, by the magnitudes that `blocks_iq.h` computes, and compares.
fn compare<const E: usize, const N: usize>(name: &str, grid: &[[i32; E]; N], value: impl Fn(u16) -> i32) {
    let bits = if E == 8 { 2 } else { 3 };
    let expanded: Vec<[i32; E]> = table(name)
        .iter()
        .map(|entry| std::array::from_fn(|i| value(entry >> (bits * i) & ((1 << bits) - 1))))
        .collect();
    assert_eq!(expanded, grid, "{name}");
}

fn wide<T: Copy + Into<i32>, const E: usize, const N: usize>(grid: &[[T; E]; N]) -> [[i32; E]; N] {
    grid.map(|entry| entry.map(Into::into))
}

#[test]
fn tables_of_the_header_are_those_of_the_crate() {
    let iq2 = |level| [8, 25, 43][usize::from(level)];
    compare("IQ2_XXS_GRID", &wide(&IQ2_XXS_GRID), iq2);
    compare("IQ2_XS_GRID", &wide(&IQ2_XS_GRID), iq2);
    compare("IQ2_S_GRID", &wide(&IQ2_S_GRID), iq2);
    compare("IQ3_XXS_GRID", &wide(&IQ3_XXS_GRID), |level| [4, 12, 20, 28, 36, 44, 52, 62][usize::from(level)]);
    compare("IQ3_S_GRID", &wide(&IQ3_S_GRID), |level| 2 * i32::from(level) + 1);
    compare("IQ1_S_GRID", &wide(&IQ1_S_GRID), |level| i32::from(level) - 1);
}
