//! Nothing is compiled yet: there are no device kernels in `kernels/`.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
}
