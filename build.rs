//! Compiles the device kernels, `kernels/*.hip`, for all targets that the installed compilers know, and embeds them (see
//! `kernels/README.md`). Without a device compiler the crate is built without device kernels.

#[cfg(feature = "hip")]
#[path = "build/kernels.rs"]
mod kernels;

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    #[cfg(feature = "hip")]
    kernels::build();
}
