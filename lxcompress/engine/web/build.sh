#!/bin/sh
# Builds the engine for browsers and Node: sh build.sh [engine.wasm]
# It needs Clang 15 or newer, its wasm-ld and a C library for WebAssembly: on Debian 12
#   apt install clang-19 lld-19 wasi-libc libclang-rt-19-dev-wasm32
# and CC names the compiler. One thread, one instruction set (SIMD of 128 bits), no files: a model is bytes.
set -eu
source="$(dirname "$0")/../source"
out="${1:-engine.wasm}"

exports=_initialize,aligned_alloc,malloc,free
exports=$exports,lx_open_bytes,lx_verify,lx_close,lx_count_inputs,lx_get_input,lx_count_scores
exports=$exports,lx_session_open,lx_run,lx_see,lx_session_close

# An overflow of the stack, which lies first, traps. No text of the engine's has a number with a point.
${CC:-clang} --target=wasm32-wasi -mexec-model=reactor -O3 -msimd128 -std=gnu11 -ffp-contract=fast -fno-math-errno \
  -Wall -Wextra -DLX_NO_SYSTEM -DLX_SET=base "$source"/*.c -lc-printscan-no-floating-point \
  "-Wl,--export=$(echo $exports | sed 's/,/,--export=/g'),--stack-first,-z,stack-size=262144,--strip-all" -o "$out"
