#!/usr/bin/env bash
# Builds the crate for AArch64 on an x86-64 Debian (or a system with its apt and dpkg) and runs the tests of the CPU kernels on
# emulated processors, one with and one without the dot product instructions.
#
#     tools/test_aarch64.sh            what .ci/run calls; some minutes
#     tools/test_aarch64.sh ARGUMENT…  `cargo ARGUMENT…` for AArch64 instead, with the same tools:
#                                      tools/test_aarch64.sh test --no-default-features --lib simd::matmul
#
# Nothing is installed: packages of the Debian suite below are unpacked under target/aarch64 (700 MB), as rustup's toolchain has no
# standard library for AArch64 and other suites have an older compiler. These are, for x86-64: rustc, its libraries, LLVM's linker
# and clang (criterion has a C file); for AArch64: the standard library, libc6, libc6-dev, linux-libc-dev, libgcc-s1; and qemu-user
# where the machine has no qemu-aarch64. The machine's cargo and registry are used, and its C compiler links build scripts. To have
# newer packages, remove the folder.
#
# Status 77: the tools cannot be had here, with a note that says why; nothing was tested.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

SUITE=forky
TRIPLE=aarch64-unknown-linux-gnu
# A Cortex-A72 has no dot product instructions, a Neoverse N1 has.
PLAIN=cortex-a72
DOTPROD=neoverse-n1

home=$(mkdir -p "${CARGO_TARGET_DIR:-target}/aarch64" && cd "${CARGO_TARGET_DIR:-target}/aarch64" && pwd)
root=$home/root
keyring=/usr/share/keyrings/debian-archive-keyring.gpg

skip() {
    echo "note: the kernels are not tested for AArch64: $*" >&2
    exit 77
}

# A package manager of its own, which knows the suite for both architectures and has nothing installed.
configure_apt() {
    mkdir -p "$home"/apt/{lists,archives}/partial
    : > "$home/apt/status"
    local mirror
    mirror=$(apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' 2> /dev/null | grep -m 1 '/debian/*$' || true)
    [[ -n $mirror ]] || skip "apt knows no source of Debian's packages"
    echo "deb [signed-by=$keyring] $mirror $SUITE main" > "$home/apt/sources.list"
    cat > "$home/apt/apt.conf" << END
Dir::State "$home/apt";
Dir::State::status "$home/apt/status";
Dir::Cache "$home/apt";
Dir::Etc::sourcelist "$home/apt/sources.list";
Dir::Etc::sourceparts "/dev/null";
Dir::Etc::preferencesparts "/dev/null";
APT::Architecture "amd64";
APT::Architectures { "amd64"; "arm64"; };
APT::Install-Recommends "false";
APT::Sandbox::User "root";
Acquire::Languages "none";
Acquire::Retries "2";
END
    export APT_CONFIG=$home/apt/apt.conf
}

fetch_packages() {
    apt-get update
    # The compiler is a library of the standard library's package; what it depends on comes along.
    apt-get install --yes --download-only libstd-rust-dev
    cd "$home/apt/archives"
    local llvm
    llvm=$(echo libllvm*_amd64.deb)
    llvm=${llvm#libllvm} llvm=${llvm%%_*}
    # shellcheck disable=SC2046
    apt-get download rustc "lld-$llvm" "clang-$llvm" "libclang-cpp$llvm" "libclang-common-$llvm-dev" linux-libc-dev \
        {libstd-rust-dev,libc6,libc6-dev,libgcc-s1}:arm64 $(find_qemu > /dev/null || echo qemu-user)
}

find_qemu() {
    command -v qemu-aarch64-static || command -v qemu-aarch64 || { [[ -x $root/usr/bin/qemu-aarch64 ]] && echo "$root/usr/bin/qemu-aarch64"; }
}

# Programs of another C library than the machine's are started by their own loader.
write_tools() {
    local start="exec \"$root/usr/lib/x86_64-linux-gnu/ld-linux-x86-64.so.2\" --library-path \"$root/usr/lib/x86_64-linux-gnu\""
    local lib=$root/usr/lib/aarch64-linux-gnu
    mkdir -p "$home/bin"
    cat > "$home/bin/rustc" << END
#!/bin/sh
$start "$root/usr/bin/rustc" --sysroot "$root/usr" "\$@"
END
    # What a C compiler would add to rustc's arguments for the linker.
    cat > "$home/bin/link" << END
#!/bin/sh
$start "$(echo "$root"/usr/lib/llvm-*/bin/lld)" "\$@" --sysroot="$root" -dynamic-linker /lib/ld-linux-aarch64.so.1 \\
    -L "$lib" "$lib/Scrt1.o" "$lib/crti.o" "$lib/crtn.o"
END
    cat > "$home/bin/cc" << END
#!/bin/sh
$start "$(echo "$root"/usr/lib/llvm-*/bin/clang)" --target=aarch64-linux-gnu --sysroot="$root" \\
    -resource-dir "$(echo "$root"/usr/lib/llvm-*/lib/clang/*)" "\$@"
END
    chmod +x "$home"/bin/{rustc,link,cc}
    ln -sfn usr/lib "$root/lib"
    ln -sfn libgcc_s.so.1 "$lib/libgcc_s.so"
}

if [[ $(uname -m) != x86_64 ]]; then skip "this is no x86-64 (on AArch64 \`cargo test\` tests them)"; fi
if [[ ! -e $home/complete ]]; then
    for tool in apt-get apt-cache dpkg; do command -v $tool > /dev/null || skip "there is no $tool"; done
    [[ -e $keyring ]] || skip "there is no $keyring to check Debian's packages with"
    rm -rf "$home/apt" "$root"
    configure_apt
    if ! (fetch_packages) > "$home/apt.log" 2>&1; then
        tail -n 5 "$home/apt.log" >&2
        skip "Debian's packages cannot be had ($home/apt.log)"
    fi
    for package in "$home"/apt/archives/*.deb; do dpkg -x "$package" "$root"; done
    rm -rf "$home/apt"
    write_tools
    touch "$home/complete"
fi
qemu=$(find_qemu) || skip "there is no qemu-aarch64"

unset RUSTC_WRAPPER RUSTFLAGS CARGO_ENCODED_RUSTFLAGS
export RUSTC=$home/bin/rustc CARGO_TARGET_DIR=$home/build CARGO_PROFILE_DEV_DEBUG=0
export CARGO_BUILD_TARGET=$TRIPLE
prefix=CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU
export ${prefix}_LINKER="$home/bin/link" ${prefix}_RUSTFLAGS="-C linker-flavor=ld.lld"
export CC_aarch64_unknown_linux_gnu=$home/bin/cc AR_aarch64_unknown_linux_gnu=ar
runner() { echo "$qemu -cpu $1 -L $root"; }
export ${prefix}_RUNNER="$(runner $DOTPROD)"
export ROCMFORGE_CONFORMANCE="${ROCMFORGE_CONFORMANCE:-$PWD/../shared/conformance}"

if [[ $# -gt 0 ]]; then
    exec cargo "$@"
fi

# Dependencies take most of the time, and are not what is tested.
options=(--locked --no-default-features --features cli,bundled-model --config 'profile.dev.package."*".opt-level=1')
cargo test "${options[@]}" --lib -- backends::cpu
# The same tests on a processor without dot products, where there is one level less.
export ${prefix}_RUNNER="$(runner $PLAIN)"
cargo test "${options[@]}" --lib -- simd::isa simd::lanes simd::matmul
