#!/usr/bin/env bash
# build.sh OUTDIR [MORE.hip …]: the emulator with all kernels, OUTDIR/libhiphost32.so and OUTDIR/libhiphost64.so (waves of 32 and 64 lanes).
# Compiles what changed, on all cores. $CXX is the compiler (g++ or clang++), $HIPHOST_FLAGS are more flags for it.
set -euo pipefail
out=$(mkdir -p "$1" && cd "$1" && pwd)
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
shift
cxx=${CXX:-g++}
command -v "$cxx" > /dev/null || { echo "error: the emulator needs a C++ compiler: there is no $cxx" >&2; exit 1; }

# No contraction to fused operations: the same numbers on every machine.
flags=(-std=c++20 -O2 -g1 -fPIC -DHOST_DEVICE -I"$here/.." -fvisibility=hidden -ffp-contract=off -fno-exceptions
    -Wall -Wno-unknown-pragmas -Wno-unused-function ${HIPHOST_FLAGS:-})
case "$("$cxx" --version)" in *clang*) ;; *) flags+=(-fno-gnu-unique) ;; esac
# Conversions between f16 and f32 are calls without this.
if grep -qw f16c /proc/cpuinfo 2> /dev/null && grep -qw avx2 /proc/cpuinfo; then flags+=(-mf16c -mavx2); fi

# One build in a folder at a time: tests run side by side.
if command -v flock > /dev/null; then exec 9> "$out/lock"; flock 9; fi

sources=("$here"/*.cpp "$@")
for source in "$here"/../*.hip; do [[ -f "$source" ]] && sources+=("$source"); done

# Nothing to do where no file is newer than the last build of the same files with the same flags.
stamp=$(printf '%s\n' "$cxx" "${flags[@]}" "${sources[@]}")
if [[ "$(cat "$out/stamp" 2> /dev/null)" == "$stamp" ]] \
    && [[ -z "$(find "$here/.." "${sources[@]}" -type f -newer "$out/stamp" 2> /dev/null | head -1)" ]]; then exit 0; fi
started=$(mktemp "$out/started.XXXXXX")

# Of a source: its text with all that it includes, and the flags.
known() { { "$cxx" --version; echo "$@"; "$cxx" "$@" -E -P; } | cksum | tr ' ' '-'; }

compile() {
    wave=$1 source=$2
    object="$out/$wave-$(basename "$source" | tr . -).o"
    all=("${flags[@]}" -DWAVE="$wave" -x c++ "$source")
    key=$(known "${all[@]}")
    if [[ -f "$object" && "$(cat "$object.key" 2> /dev/null)" == "$key" ]]; then return; fi
    rm -f "$object.key"
    "$cxx" "${all[@]}" -c -o "$object"
    echo "$key" > "$object.key"
}

jobs=0 failed=0
for wave in 32 64; do
    for source in "${sources[@]}"; do
        compile "$wave" "$source" &
        if (( ++jobs >= $(nproc) )); then wait -n || failed=1; (( jobs-- )) || true; fi
    done
done
while (( jobs > 0 )); do wait -n || failed=1; (( jobs-- )) || true; done
if (( failed )); then rm -f "$started"; echo "error: the emulator was not built" >&2; exit 1; fi

for wave in 32 64; do
    objects=()
    for source in "${sources[@]}"; do objects+=("$out/$wave-$(basename "$source" | tr . -).o"); done
    library="$out/libhiphost$wave.so"
    list=$(cat "${objects[@]/%/.key}"; printf '%s\n' "${objects[@]}")
    if [[ -f "$library" && "$(cat "$library.list" 2> /dev/null)" == "$list" ]]; then continue; fi
    # Not unloaded: its threads stay. A new file: programs may have the old one open.
    "$cxx" -shared -Wl,-Bsymbolic,-z,nodelete,-z,defs -o "$library.new" "${objects[@]}" -lpthread
    mv "$library.new" "$library"
    echo "$list" > "$library.list"
done

echo "$stamp" > "$out/stamp"
touch -r "$started" "$out/stamp"
rm -f "$started"
