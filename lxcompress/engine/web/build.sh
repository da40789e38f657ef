#!/bin/sh
# Builds the engine for browsers and Node: sh build.sh [FILE]
# The name of the file says which build it is:
#   engine.wasm          SIMD of 128 bits, in every browser since 2023
#   engine-pairs.wasm    relaxed SIMD, for x86-64
#   engine-dot.wasm      relaxed SIMD, for processors with dot products (64-bit ARM; x86-64 with AVX-VNNI)
#   engine-threads.wasm, engine-pairs-threads.wasm, engine-dot-threads.wasm: the same with threads
# It needs Clang 15 or newer (18 for relaxed SIMD), its wasm-ld and a C library for WebAssembly: on Debian 12
#   apt install clang-19 lld-19 wasi-libc libclang-rt-19-dev-wasm32
# and CC names the compiler. No build opens files: a model is bytes.
set -eu
source="$(dirname "$0")/../source"
out="${1:-engine.wasm}"

exports=_initialize,aligned_alloc,malloc,free
exports=$exports,lx_open_bytes,lx_verify,lx_close,lx_count_inputs,lx_get_input,lx_count_scores
exports=$exports,lx_session_open,lx_run,lx_see,lx_session_close

name="$(basename "$out" .wasm)"
set=base flags= link=
case "$name" in *-pairs*) set=pairs flags=-mrelaxed-simd ;; esac
case "$name" in *-dot*) set=dot flags="-mrelaxed-simd -DLX_WHOLE_DOT" ;; esac
# The C library was compiled without atomics: only the first thread calls it.
case "$name" in
  *-threads)
    flags="$flags -matomics -mbulk-memory"
    exports=$exports,lx_help,lx_count_idle,__stack_pointer
    link=,--no-check-features,--shared-memory,--import-memory,--export-memory,--initial-memory=1048576,--max-memory=4294967296
    ;;
esac

# dispatch.c looks for the set of kernels that is called base. The stack lies first in memory, so that an overflow of it traps. The engine
# prints no number with a decimal point, so the smaller printf is enough.
# shellcheck disable=SC2086
${CC:-clang} --target=wasm32-wasi -mexec-model=reactor -O3 -msimd128 $flags -std=gnu11 -ffp-contract=fast -fno-math-errno \
  -Wall -Wextra -DLX_NO_SYSTEM -DLX_SET=$set -Dlx_kernels_base=lx_kernels_$set "$source"/*.c -lc-printscan-no-floating-point \
  "-Wl,--export=$(echo $exports | sed 's/,/,--export=/g'),--stack-first,-z,stack-size=262144,--strip-all$link" -o "$out"
