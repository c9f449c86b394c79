//! Raw tables: names and signatures as in the headers of HIP, rocBLAS, CUDA and cuBLAS, filled at run time.
//!
//! Nothing here checks anything. A table is made whole or not at all, so a call never finds a function missing.

pub(super) mod blas;
pub(super) mod cuda;
pub(super) mod hip;

/// What the functions answer; 0 is success on every platform.
pub(super) type Status = i32;

/// Makes a struct of function pointers of the functions of one header, and the function that fills it.
///
/// `resolve` gets each name and returns the function's address.
macro_rules! table {
    ($(#[$doc:meta])* $table:ident { $($(#[$fdoc:meta])* fn $name:ident($($arg:ident: $ty:ty),* $(,)?) $(-> $out:ty)?;)* }) => {
        $(#[$doc])*
        #[allow(non_snake_case)]
        #[derive(Clone, Copy)]
        pub(in crate::backends::hip::ffi) struct $table {
            $($(#[$fdoc])* pub $name: unsafe extern "C" fn($($arg: $ty),*) $(-> $out)?,)*
        }

        impl $table {
            /// Fills the table.
            ///
            /// # Safety
            /// `resolve` answers with the address of the function of that name and of the signature that stands here, in a library that
            /// is never unloaded.
            pub(in crate::backends::hip::ffi) unsafe fn fill<E>(
                mut resolve: impl FnMut(&'static str) -> Result<*mut std::ffi::c_void, E>,
            ) -> Result<$table, E> {
                Ok($table {
                    $(
                        // SAFETY: by this function's contract the address is that of a function of this signature.
                        $name: unsafe {
                            std::mem::transmute::<*mut std::ffi::c_void, unsafe extern "C" fn($($arg: $ty),*) $(-> $out)?>(
                                resolve(stringify!($name))?,
                            )
                        },
                    )*
                })
            }
        }
    };
}
pub(super) use table;
