#!/usr/bin/env bash
# Builds the fuzz target into FOLDER: `build.sh FOLDER [fuzz|cover]`, with Clang ($CC).
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
source=$here/../../../lxcompress/engine/source
out=${1:?the folder to build in} kind=${2:-fuzz}
cc=${CC:-clang-19}
mkdir -p "$out"
# A session larger than this is refused here, so that the time goes to many small ones.
flags=(-std=gnu11 -g -O1 -fno-omit-frame-pointer -ffp-contract=fast -fno-math-errno -pthread -DLX_MOST_MEMORY=16777216ull
       -I"$source")
case $kind in
  fuzz) flags+=(-fsanitize=fuzzer,address,undefined,local-bounds -fno-sanitize-recover=all) ;;
  cover) flags+=(-DLX_REPLAY -fprofile-instr-generate -fcoverage-mapping) ;;
esac
"$cc" "${flags[@]}" -DLX_SET=base -c "$source/kernels.c" -o "$out/$kind-base.o" &
has=()
if [[ $("$cc" -dumpmachine) == x86_64* ]]; then
  has=(-DLX_HAS_avx2 -DLX_HAS_avx512)
  "$cc" "${flags[@]}" -DLX_SET=avx2 -mavx2 -mfma -c "$source/kernels.c" -o "$out/$kind-avx2.o" &
  "$cc" "${flags[@]}" -DLX_SET=avx512 -mavx512f -mavx512bw -mavx512vl -mavx512dq -mavx512vnni -mfma -c "$source/kernels.c" \
    -o "$out/$kind-avx512.o" &
fi
wait
rest=()
for file in "$source"/*.c; do
  case $file in */kernels.c | */run.c) ;; *) rest+=("$file") ;; esac # fuzz.c includes run.c
done
"$cc" "${flags[@]}" "${has[@]}" "$here/fuzz.c" "${rest[@]}" "$out/$kind"-*.o -lm -o "$out/$kind"
