#!/usr/bin/env bash
# Builds clients/js/snapdelta.wasm: tools/build_wasm.sh. The C of zstd needs clang and llvm-ar.
#
# With rustup, its standard library for wasm32; without, Debian's compiler builds one from its sources.
set -euo pipefail
cd "$(dirname "$0")/.."
target=wasm32-unknown-unknown
export CC_wasm32_unknown_unknown="${CC_wasm32_unknown_unknown:-clang}"
export AR_wasm32_unknown_unknown="${AR_wasm32_unknown_unknown:-llvm-ar}"
build=(build --quiet --release --lib --target "$target" --features wasm)

for program in "$CC_wasm32_unknown_unknown" "$AR_wasm32_unknown_unknown"; do
  command -v "$program" >/dev/null || {
    echo "snapdelta: $program is needed for WebAssembly (Debian: apt-get install clang llvm)" >&2
    exit 1
  }
done

if command -v rustup >/dev/null && rustup --quiet target add "$target"; then
  cargo "${build[@]}"
elif [ -x /usr/bin/cargo ] && command -v wasm-ld >/dev/null; then
  RUSTC_BOOTSTRAP=1 RUSTC=/usr/bin/rustc CARGO_TARGET_WASM32_UNKNOWN_UNKNOWN_LINKER=wasm-ld \
    /usr/bin/cargo "${build[@]}" -Zbuild-std=std,panic_abort
else
  echo "snapdelta: rustup is needed for WebAssembly, or Debian's rustc-web cargo-web rust-web-src lld" >&2
  exit 1
fi
cp "${CARGO_TARGET_DIR:-target}/$target/release/snapdelta.wasm" clients/js/snapdelta.wasm
