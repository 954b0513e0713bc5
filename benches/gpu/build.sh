#!/usr/bin/env bash
# A release binary for an NVIDIA GPU, made on a machine with neither a GPU nor CUDA. Usage: build.sh --help
set -euo pipefail

usage() {
    cat <<'END'
Usage: benches/gpu/build.sh [--capability N] [--target DIR] [--check]

Builds pistar and the example llm_step with the feature `cuda` on a Linux machine that has neither
a GPU nor CUDA: NVIDIA's compiler and headers come from PyPI (105 MB), the libraries to link
against are empty stubs; the real ones are found when the binary runs.

  --capability N  the GPU's compute capability, without the point [$CUDA_COMPUTE_CAP, or 90: H100, H200]
                  (80: A100, 86: RTX 30, 89: L40S and RTX 40, 100: B200, 120: RTX 50)
  --target DIR    where everything goes, the compiler too [target/cuda of the repository, 1.5 GB]
  --check         only `cargo clippy`, with the same features

Needs a Rust toolchain, gcc and g++ (15 at most), python3 with pip, crates.io and PyPI; about ten
minutes on two cores the first time. With a CUDA toolkit installed, `cargo build --release --features
cuda` does the same: docs/gpu.md.
END
}

die() { # die PROBLEM REMEDY
    printf 'build.sh: %s; %s\n' "$1" "$2" >&2
    exit 2
}

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
capability=${CUDA_COMPUTE_CAP:-90}
target=$root/target/cuda
check=
while [ $# -gt 0 ]; do
    case $1 in
        --capability | --target)
            [ $# -ge 2 ] || die "$1 has no value" "--help shows the usage"
            if [ "$1" = --target ]; then target=$2; else capability=$2; fi
            shift 2 ;;
        --check) check=1; shift ;;
        -h | --help) usage; exit ;;
        *) die "unknown argument $1" "--help shows the usage" ;;
    esac
done
[[ $capability =~ ^[0-9]{2,3}[a-z]?$ ]] ||
    die "--capability is $capability" "give it without the point: 90 for an H100 or H200"

# What it takes.
[ "$(uname -s)" = Linux ] || die "this is $(uname -s)" "NVIDIA's wheels have a compiler for Linux only"
for tool in cargo gcc g++ python3 strip; do
    command -v "$tool" >/dev/null || die "there is no $tool" "install it and put it on PATH (on Debian: \
apt install build-essential python3-pip; cargo: https://rustup.rs)"
done
python3 -m pip --version >/dev/null 2>&1 ||
    die "python3 has no pip" "install it (on Debian: apt install python3-pip; or: python3 -m ensurepip)"
gcc=$(gcc -dumpversion | cut -d. -f1)
[ "$gcc" -le 15 ] || die "gcc is version $gcc" "nvcc 13.0 takes 15 at most: put an older gcc and g++ first on PATH"
[ -f "$root/Cargo.lock" ] || die "there is no $root/Cargo.lock" "run it in a checkout of the repository"

mkdir -p "$target"
target=$(cd "$target" && pwd)
export CARGO_TARGET_DIR=$target
cd "$root"
began=$SECONDS

# Compiler and headers. A newer nvcc emits PTX that the drivers of its own time on alone load: 13.0 is
# for drivers 580 and later.
toolkit=$target/toolkit
cuda=$toolkit/nvidia/cu13
if [ ! -f "$toolkit/complete" ]; then
    echo "NVIDIA's compiler and headers into $toolkit"
    rm -rf "$toolkit"
    python3 -m pip install --quiet --disable-pip-version-check --no-deps --target "$toolkit" \
        nvidia-cuda-nvcc==13.0.88 nvidia-nvvm==13.0.88 nvidia-cuda-crt==13.0.88 \
        nvidia-cuda-cccl==13.0.85 nvidia-cuda-runtime==13.0.96 ||
        die "pip could not install NVIDIA's wheels" "they are on https://pypi.org for x86-64 and Arm Linux; \
behind a mirror set PIP_INDEX_URL"
    # What the wheels lack: lib64 and names without a version.
    ln -s lib "$cuda/lib64"
    ln -s libcudart.so.13 "$cuda/lib/libcudart.so"
    touch "$toolkit/complete"
fi
unset CUDA_PATH CUDA_ROOT CUDA_TOOLKIT_ROOT_DIR NVCC
export CUDA_HOME=$cuda PATH=$cuda/bin:$PATH # cudarc's build script runs plain `nvcc`
export CUDA_COMPUTE_CAP=$capability         # else the build asks nvidia-smi
CUDAFORGE_THREADS=${CUDAFORGE_THREADS:-$(nproc)}
export CUDAFORGE_THREADS

# Libraries to link against: every function that the locked cudarc declares. Should one be found at
# run time all the same, it answers 34, CUDA_ERROR_STUB_LIBRARY, as NVIDIA's own stubs do.
cudarc=$(cargo metadata --locked --format-version 1 --features cuda | python3 -c '
import json, pathlib, sys
found = [p for p in json.load(sys.stdin)["packages"] if p["name"] == "cudarc"]
print(pathlib.Path(found[0]["manifest_path"]).parent / "src" if len(found) == 1 else "")')
[ -d "$cudarc" ] || die "Cargo.lock has not exactly one cudarc" "git checkout Cargo.lock"
stubs=$cuda/lib/stubs
mkdir -p "$stubs"
stub() { # stub LIBRARY SONAME MODULE PREFIX
    grep -ohE "fn $4[A-Za-z0-9_]*" "$cudarc/$3/sys/mod.rs" | sort -u |
        awk '{ print "int " $2 "(void) { return 34; }" }' >"$stubs/$1.c"
    [ -s "$stubs/$1.c" ] || die "no function of $1 in $cudarc/$3" "this script does not fit that cudarc: correct it"
    gcc -shared -fPIC -w -Wl,-soname,"$2" -o "$stubs/lib$1.so" "$stubs/$1.c"
}
stub cuda     libcuda.so.1      driver   cu
stub cublas   libcublas.so.13   cublas   cublas
stub cublasLt libcublasLt.so.13 cublaslt cublasLt
stub curand   libcurand.so.10   curand   curand
stub nvrtc    libnvrtc.so.13    nvrtc    nvrtc

if [ "$check" ]; then
    # As the build is made, so that its kernels serve.
    exec cargo clippy --locked --release --features cuda -- -D warnings
fi
cargo build --locked --release --features cuda --bin pistar --example llm_step

# What to take to the GPU.
out=$target/gpu
mkdir -p "$out"
for binary in release/pistar release/examples/llm_step; do
    strip -o "$out/$(basename "$binary")" "$target/$binary"
done
cat >"$out/env.sh" <<'END'
# Sourced before a binary beside it is run: where the CUDA libraries are, and where compiled kernels are kept.
wheels=$(python3 -c 'import nvidia; print(list(nvidia.__path__)[0])' 2>/dev/null || true)
export LD_LIBRARY_PATH=${wheels:+$wheels/cu13/lib:}/usr/local/cuda/lib64:/usr/local/nvidia/lib64${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}
export CUDA_CACHE_PATH=${CUDA_CACHE_PATH:-$HOME/.cache/pistar-cuda} CUDA_CACHE_MAXSIZE=${CUDA_CACHE_MAXSIZE:-4294967296}
unset wheels
END

echo
echo "$((SECONDS - began)) s, for compute capability $capability (PTX; the driver compiles it at the first start):"
ls -lh "$out" | awk 'NR > 1 { print "  " $5 "\t" $9 }'
echo "in $out. On the machine with the GPU (driver 580 or later; the wheels nvidia-cublas
and nvidia-curand of CUDA 13, or its toolkit):
  . $out/env.sh
  $out/pistar doctor --device cuda"
