#!/usr/bin/env bash
# Everything that only a GPU can show, in one command. Usage: first.sh --help
set -uo pipefail

usage() {
    cat <<'END'
Usage: benches/gpu/first.sh BIN_DIR OUT_DIR [--minutes N] [--device cuda:0]
                            [--only PART,..] [--skip PART,..] [--tiny]

Runs, on a machine with a GPU, what could not be seen where the binaries were built, one part after
the other, each for a limited time, so that the later parts run even if one fails or hangs:

  machine    GPU, driver, processor, Python, PyTorch
  libraries  those that the binaries need and the machine does not have
  start      every operation once (the driver compiles the kernels), and again
  doctor     pistar doctor: every operation against the CPU, ceilings, a step stage by stage
  traces     training in bf16 against f32, TF32, recomputation, the optimiser in the backward
  side-125m  a training step beside PyTorch's: 125M, SFT and DPO
  side-1b    1B
  side-7b    7B

BIN_DIR has pistar and llm_step, from benches/gpu/build.sh. OUT_DIR gets every part's log and
numbers. The table at the end says what each part came to. No setting of the card is touched.

  --minutes N   for all parts together [30]; what no longer fits is left out
  --device D    cpu tries this script out where there is no GPU [cuda:0]
  --only PARTS  these parts only
  --skip PARTS  parts to leave out
  --tiny        a tiny model in the place of the three, to try this script out

Exit status: 0 all parts ran and were good, 1 some were not, 2 it could not begin.
END
}

die() { # die PROBLEM REMEDY
    printf 'first.sh: %s; %s\n' "$1" "$2" >&2
    exit 2
}

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
minutes=30 device=cuda:0 only= skip= tiny= names=()
while [ $# -gt 0 ]; do
    case $1 in
        --minutes | --device | --only | --skip)
            [ $# -ge 2 ] || die "$1 has no value" "--help shows the usage"
            declare "${1#--}=$2"
            shift 2 ;;
        --tiny) tiny=1; shift ;;
        -h | --help) usage; exit ;;
        -*) die "unknown option $1" "--help shows the usage" ;;
        *) names+=("$1"); shift ;;
    esac
done
[ ${#names[@]} -eq 2 ] || die "${#names[@]} folders are given" "give BIN_DIR and OUT_DIR; --help shows the usage"
[[ $minutes =~ ^[0-9]+$ && $minutes -gt 0 ]] || die "--minutes is $minutes" "give a whole number, at least 1"
case $device in
    cpu) kind=cpu ;;
    cuda | cuda:0) kind=cuda ;;
    *) die "--device is $device" "give cuda:0 (the first GPU that CUDA_VISIBLE_DEVICES leaves visible) or cpu" ;;
esac
for tool in python3 timeout ldd; do
    command -v "$tool" >/dev/null || die "there is no $tool" "install it"
done
for binary in pistar llm_step; do
    [ -x "${names[0]}/$binary" ] || die "${names[0]}/$binary is not there" "build it with benches/gpu/build.sh"
done
bin=$(cd "${names[0]}" && pwd)
mkdir -p "${names[1]}" || die "${names[1]} cannot be made" "give a folder that can be written to"
out=$(cd "${names[1]}" && pwd)
[ -z "$(ls -A "$out")" ] || die "$out is not empty" "give a new folder"
cd "$root" || exit 2

all='machine libraries start doctor traces side-tiny side-125m side-1b side-7b'
for name in ${only//,/ } ${skip//,/ }; do
    [[ " $all " == *" $name "* ]] || die "there is no part $name" "the parts are $all"
done

# Where the CUDA libraries may be: Python's wheels, in both layouts; a toolkit; the driver's own.
wheels=$(python3 -c 'import nvidia; print(list(nvidia.__path__)[0])' 2>/dev/null)
libraries=
for folder in ${wheels:+"$wheels"/cu13/lib "$wheels"/*/lib} /usr/local/cuda/lib64 /usr/local/nvidia/lib64 \
    /usr/lib/wsl/lib; do
    [ -d "$folder" ] && libraries=${libraries:+$libraries:}$folder
done
libraries=$libraries${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}
# For our binaries alone: PyTorch finds its own.
mkdir "$out/bin" || exit 2
for binary in pistar llm_step; do
    printf '#!/bin/sh\nLD_LIBRARY_PATH=%q exec %q "$@"\n' "$libraries" "$bin/$binary" >"$out/bin/$binary"
    chmod +x "$out/bin/$binary"
done
pistar=$out/bin/pistar
# Where compiled kernels are kept, between the parts and no longer.
export CUDA_CACHE_PATH=$out/cuda-cache CUDA_CACHE_MAXSIZE=4294967296 TORCHINDUCTOR_CACHE_DIR=$out/inductor
export PYTHONUNBUFFERED=1

end=$((SECONDS + 60 * minutes))
summary=() bad=

part() { # part NAME LIMIT FUNCTION ARGUMENTS..: runs it for at most LIMIT seconds, and notes what it came to
    local name=$1 limit=$2 began=$SECONDS left=$((end - SECONDS - 10)) code=0
    shift 2
    if [[ ,$skip, == *,$name,* || ( $only && ,$only, != *,$name,* ) ]]; then
        summary+=("$(printf '%-10s %8s %6s' "$name" 'left out' -)")
        return
    fi
    if [ $left -lt 15 ]; then
        summary+=("$(printf '%-10s %8s %6s' "$name" 'no time' -)")
        bad=1
        return
    fi
    [ "$limit" -le $left ] || limit=$left
    export limit
    printf '\n=== %s (at most %s s)\n' "$name" "$limit"
    # `timeout` puts the part into a process group of its own, and ends all of it.
    timeout --kill-after=10 "$limit" bash -c 'set -o pipefail; "$@"' part "$@" 2>&1 | tee "$out/$name.log"
    code=${PIPESTATUS[0]}
    [ "$code" -eq 0 ] || bad=1
    summary+=("$(printf '%-10s %8s %6s' "$name" "$(meaning "$code")" "$((SECONDS - began))")")
}

meaning() {
    case $1 in 0) echo good ;; 124 | 137) echo 'too late' ;; *) echo "status $1" ;; esac
}

machine() {
    date -u
    uname -srm
    grep -m1 'model name' /proc/cpuinfo
    nproc
    free -g 2>/dev/null | head -2
    df -h . | tail -1
    python3 --version
    python3 -c 'import torch; print("PyTorch", torch.__version__, "CUDA", torch.version.cuda, "GPU", torch.cuda.is_available())'
    if [ "$kind" = cuda ]; then nvidia-smi; else echo "no GPU is looked at"; fi
}

libraries() {
    local missing=0
    echo "LD_LIBRARY_PATH=$libraries"
    for binary in pistar llm_step; do
        LD_LIBRARY_PATH=$libraries ldd "$bin/$binary" | grep -E 'cuda|cublas|curand|nvrtc|not found'
        if LD_LIBRARY_PATH=$libraries ldd "$bin/$binary" | grep -q 'not found'; then missing=1; fi
    done
    return $missing
}

start() {
    for which in first second; do
        local began=$EPOCHREALTIME
        "$pistar" doctor --device "$device" --quick --dtype bf16 --only machine,operations >"$out/start-$which.log" 2>&1 ||
            { tail -n 40 "$out/start-$which.log"; return 1; }
        tail -n 1 "$out/start-$which.log"
        python3 -c "print(f'$which start: {$EPOCHREALTIME - $began:.1f} s')"
    done
}

doctor() {
    local code=0
    "$pistar" doctor --device "$device" ${tiny:+--quick} --json >"$out/doctor.json" || code=$?
    python3 benches/gpu/rows.py "$out/doctor.json" || code=1
    return $code
}

traces() {
    python3 benches/gpu/trace.py "$pistar" "$out/traces" --device "$device" ${tiny:+--steps 5}
}

side() { # side MODEL
    local name=$1
    python3 benches/peers/run_gpu.py --models "$name" --device "$device" --pistar "$out/bin/llm_step" \
        --minutes "$(python3 -c "print(($limit - 10) / 60)")" --json "$out/side-$name.json" --log "$out/side-$name.runs.log" \
        ${tiny:+--compile off --threads 1}
}

export -f machine libraries start doctor traces side
export bin out device kind tiny libraries pistar

parts=(machine:60 libraries:30 start:120 doctor:180 traces:240)
if [ "$tiny" ]; then
    parts+=(side-tiny:300)
else
    parts+=(side-125m:280 side-1b:400 side-7b:600)
fi
for each in "${parts[@]}"; do
    name=${each%:*}
    case $name in
        side-*) part "$name" "${each#*:}" side "${name#side-}" ;;
        *) part "$name" "${each#*:}" "$name" ;;
    esac
done

# Compiled kernels are of no further use.
rm -rf "$out/cuda-cache" "$out/inductor" "$out/bin"
{
    printf '\n%-10s %8s %6s\n' part came-to s
    printf '%s\n' "${summary[@]}"
    echo "in $out"
} | tee "$out/summary.txt"
[ -z "$bad" ]
